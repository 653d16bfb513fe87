"""Processes' output as lines, and how a line is written in each format. No I/O."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import click

from papa_dbus.client.aio import Dropped, Event, Exited, Record
from papa_dbus.client.cli.printing import clean, colours, on_terminal, signal_name
from papa_dbus.client.line_assembler import LineAssembler, Piece

_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")


class Line(NamedTuple):
    """A line without its end, or a part of one; ``timestamp`` is the line's beginning's, ``latest`` its last byte's.

    ``whole``: the line's end has come. ``continued``: its beginning came before. ``partial``: more of it may come.
    """

    process: str
    stream: str
    timestamp: int
    data: bytes
    whole: bool = True
    continued: bool = False
    partial: bool = False
    latest: int = 0


Item = Line | Exited | Dropped


class Joiner:
    """Makes lines of records. What has no end yet is kept until that comes, it is asked for, or the process has ended.

    A line of more than `lines.MAX_KEPT` bytes comes in parts.
    """

    def __init__(self) -> None:
        self._assemblers: dict[str, LineAssembler] = {}
        self._latest: dict[tuple[str, str], int] = {}

    def add(self, event: Event) -> Iterable[Item]:
        """Return the lines that an event completes, and the event itself if it is not a record."""
        if not isinstance(event, Record):
            rest = self.rest(event.process)
            for stream in ("out", "err"):
                self._latest.pop((event.process, stream), None)
            return [*rest, event]
        self._latest[event.process, event.stream] = event.timestamp
        assembler = self._assemblers.setdefault(event.process, LineAssembler())
        return self._lines(event.process, assembler.take(event.stream, event.timestamp, event.data))

    def add_all(self, events: Iterable[Event]) -> list[Item]:
        """Add one event after the other."""
        return [item for event in events for item in self.add(event)]

    @property
    def due(self) -> float | None:
        """Return when `begun` will have something to give, by time.monotonic(); None: no line waits for its end."""
        return min((due for each in self._assemblers.values() if (due := each.due()) is not None), default=None)

    def begun(self, now: float = float("inf")) -> list[Line]:
        """Return what has come of lines without an end, if they have waited for it long enough."""
        return [line for name, each in self._assemblers.items() for line in self._lines(name, each.pass_on(now))]

    def rest(self, process: str | None = None, *, final: bool = True) -> list[Line]:
        """Return what has no end: of one process, or of all. ``final``: it will not get one."""
        names = [name for name in self._assemblers if process in (None, name)]
        lines = [line for name in names for line in self._lines(name, self._assemblers.pop(name).rest())]
        return [line._replace(partial=not final) for line in lines]

    def _lines(self, process: str, pieces: Iterable[Piece]) -> list[Line]:
        found = []
        for piece in pieces:
            latest = self._latest[process, piece.stream]
            *lines, rest = piece.data.split(b"\n")
            begun = Line(process, piece.stream, int(piece.timestamp), rest, whole=False, partial=True, latest=latest)
            each = [begun._replace(data=data, whole=True, partial=False) for data in lines] + [begun] * bool(rest)
            each[0] = each[0]._replace(continued=piece.continued)
            found += each
        return found


Formatter = Callable[[Item], bytes]


class Short:
    """``short-precise``: time, name and line, for people.

    [err] and [papa] say that it is not the process's stdout; [partial] that the line has no end yet, and [continued]
    that its beginning, and its time, came before. On a terminal a line grows, if nothing comes between.
    """

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}
        self._coloured = colours()
        self._grows = on_terminal()
        self._open: tuple[str, str] | None = None  # the line at whose end the cursor is

    def __call__(self, item: Item) -> bytes:
        """One line of text, or a part of one."""
        opened, self._open = self._open, None
        source = (item.process, item.stream) if isinstance(item, Line) else None
        if isinstance(item, Line) and item.continued and opened == source:
            text = self._text(item)
        else:
            text = "\n" * (opened is not None) + self._head(item) + self._text(item)
        if self._grows and isinstance(item, Line) and item.partial:
            self._open = source
            return text.encode()
        return f"{text}\n".encode()

    def _head(self, item: Item) -> str:
        name, timestamp = clean(item.process), getattr(item, "timestamp", None)
        marks = ["papa"]
        if isinstance(item, Line):
            partial = item.partial and not self._grows
            marks = ["err"] * (item.stream == "err") + ["continued"] * item.continued + ["partial"] * partial
        stamp = None if "continued" in marks else timestamp
        when = " " * len(moment(0)) if stamp is None else moment(stamp)
        head = f"{name}[{','.join(marks)}]" if marks else name
        if self._coloured:
            colour = self._colours.setdefault(item.process, _COLOURS[len(self._colours) % len(_COLOURS)])
            head = click.style(head, fg=colour, bold=True)
        return f"{when} {head}: "

    def _text(self, item: Item) -> str:
        if not isinstance(item, Line):
            return click.style(note(item), dim=True) if self._coloured else note(item)
        text = clean(item.data.removesuffix(b"\r") if item.whole else item.data)
        return click.style(text, fg="red") if self._coloured and item.stream == "err" else text


def moment(timestamp: int) -> str:
    """µs of CLOCK_REALTIME as journalctl's short-precise has them."""
    seconds, rest = divmod(timestamp, 1_000_000)
    return f"{time.strftime('%b %d %H:%M:%S', time.localtime(seconds))}.{rest:06}"


def note(item: Exited | Dropped) -> str:
    """Return what happened, in words."""
    if isinstance(item, Dropped):
        return f"{item.bytes} bytes were dropped here: the buffer was full before they were read"
    if item.exit_code is None:
        return "ended, and nobody could see its exit code"
    if item.exit_code < 0:
        return f"ended by signal {signal_name(-item.exit_code)}"
    return f"ended with exit status {item.exit_code}"


class Cat:
    """``cat``: what was written and nothing else; raw, or made harmless for a terminal."""

    def __init__(self, say: Callable[[str], None], *, raw: bool) -> None:
        self._say = say
        self._raw = raw
        self._begun: tuple[str, str] | None = None  # whose line has been written without an end

    def __call__(self, item: Item) -> bytes:
        """The line; one that has no end keeps having none, unless somebody else's line comes after it."""
        if not isinstance(item, Line):
            if isinstance(item, Dropped):
                self._say(f"{item.process}: {note(item)}")
            return b""
        source = (item.process, item.stream)
        before = b"\n" if self._begun not in (None, source) else b""
        data = item.data if self._raw else clean(item.data.removesuffix(b"\r") if item.whole else item.data).encode()
        whole = item.whole or not (self._raw or item.partial)
        self._begun = None if whole else source
        return before + data + (b"\n" if whole else b"")


def as_json(item: Item | Record, *, continued: bool = False, partial: bool = False) -> bytes:
    """``json``: an object on a line. Text that is not UTF-8 is an array of bytes, as journalctl has it."""
    fields: dict[str, Any] = {"process": item.process}
    if isinstance(item, Dropped):
        fields |= {"dropped_bytes": item.bytes, "first_seq": item.first_seq, "last_seq": item.last_seq}
    elif isinstance(item, Exited):
        fields |= {"timestamp": item.timestamp, "seq": item.seq, "exit_code": item.exit_code}
    else:
        fields |= {"timestamp": item.timestamp, "stream": item.stream, "message": _text(item.data)}
    if isinstance(item, Record):
        fields["seq"] = item.seq
    if isinstance(item, Line):
        continued, partial = item.continued, item.partial
    fields |= {"continued": True} if continued else {}
    fields |= {"partial": True} if partial else {}
    return json.dumps(fields).encode() + b"\n"


def _text(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def formatted(items: Iterable[Item], formatter: Formatter) -> bytes:
    """All of them, one after the other."""
    return b"".join(map(formatter, items))
