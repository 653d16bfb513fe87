"""All that papactl prints: tables, JSON and messages. On a terminal for people, in a pipe for programs.

Nothing that comes from a process, a value or a name can do anything to a terminal.
"""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

#: What a terminal acts upon or is confused by: C0 but the tab, DEL, C1, lone surrogates, line ends, and what turns
#: the direction of writing (Unicode's Bidi_Control).
_UNSAFE = re.compile(
    "[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
#: Columns of the terminal for one of a table's, but the last.
_WIDEST = 40
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def clean(text: str | bytes) -> str:
    """Return text that can do nothing to a terminal; what could is written as Python writes it."""
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def size(count: float) -> str:
    """Return a number of bytes for people."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 100 else f"{count:.1f} {_UNITS[unit]}"


def moment(timestamp: int) -> str:
    """µs of CLOCK_REALTIME as a date and time of day, here."""
    return time.strftime("%a %Y-%m-%d %H:%M:%S", time.localtime(timestamp // 1_000_000))


def moment_in_a_word(timestamp: int) -> str:
    """The same without a space, for a column in a pipe, as `journalctl -o short-iso` has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(timestamp // 1_000_000))


def duration(seconds: float) -> str:
    """Return how long, in its two largest units."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, length)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def signal_name(number: int) -> str:
    """Return a signal's name, KILL for 9."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def console(file: TextIO | None = None) -> Console:
    """Return a terminal; NO_COLOR is honoured there."""
    return Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=False)


def on_terminal() -> bool:
    """Return whether somebody looks at stdout."""
    return sys.stdout.isatty()


def colours() -> bool:
    """Return whether stdout is a terminal that is to be coloured (no-color.org)."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(message: str) -> None:
    """Print one sentence on stderr."""
    sys.stdout.flush()
    sys.stderr.write(f"papactl: {clean(message)}\n")


def line(text: str = "", style: str = "") -> None:
    """Print one line on stdout."""
    if on_terminal():
        console().print(Text(clean(text), style=style), soft_wrap=True)
    else:
        print(clean(text))


def as_json(value: Any) -> None:
    """Print a value as JSON, for people with line breaks."""
    terminal = on_terminal()
    print(json.dumps(value, indent=2 if terminal else None, ensure_ascii=terminal))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: what of an item stands there, for programs and (``shown``) for people."""

    title: str
    of: Callable[[Any], object]
    shown: Callable[[Any], str] | None = None
    style: Callable[[Any], str] = lambda item: ""
    right: bool = False

    def plain(self, item: Any) -> str:
        """Return the cell for a program: never empty."""
        value = self.of(item)
        return "-" if value is None or value == "" else clean(str(value))

    def rich(self, item: Any) -> Text:
        """Return the cell for a person."""
        text = self.plain(item) if self.shown is None else clean(self.shown(item))
        return Text(text, style=self.style(item), no_wrap=True, overflow="ellipsis")


def table(columns: Sequence[Column], items: Iterable[Any], *, legend: bool = True) -> None:
    """Print a table. On a terminal it has the terminal's width; elsewhere each cell is whole, and the last one may have
    spaces.
    """
    if on_terminal():
        console().print(rich_table(columns, items, legend=legend))
        return
    rows = [[column.plain(item) for column in columns] for item in items]
    if legend:
        rows.insert(0, [column.title for column in columns])
    widths = [max((cell_len(row[n]) for row in rows), default=0) for n in range(len(columns) - 1)]
    for row in rows:
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row[:-1], widths, strict=True)]
        print("  ".join([*padded, row[-1]]))


def rich_table(columns: Sequence[Column], items: Iterable[Any], *, legend: bool = True) -> Table:
    """Return a table for a terminal."""
    result = Table(box=None, show_header=legend, header_style=Style(bold=True), pad_edge=False, padding=(0, 2, 0, 0))
    rows = [[column.rich(item) for column in columns] for item in items]
    for number, column in enumerate(columns):
        # The last column gets what the others leave: to rich, it is the one that could be wrapped.
        last = column is columns[-1]
        width = max([cell_len(column.title), *(row[number].cell_len for row in rows)])
        result.add_column(
            column.title, no_wrap=not last, overflow="ellipsis", justify="right" if column.right else "left",
            width=None if last else min(width, _WIDEST),
        )  # fmt: skip
    for row in rows:
        result.add_row(*row)
    return result


def facts(pairs: Iterable[tuple[str, object]], style: Callable[[str], str] = lambda key: "") -> None:
    """Print keys and values, a pair on a line."""
    pairs = [(key, value) for key, value in pairs if value is not None]
    width = max((len(key) for key, _ in pairs), default=0)
    for key, value in pairs:
        line(f"{key:>{width}}: {value}" if on_terminal() else f"{key}: {value}", style(key))
