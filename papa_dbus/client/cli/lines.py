"""Processes' output as lines, and how a line is written in each format. No I/O."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import click

from papa_dbus.client.aio import Dropped, Event, Exited, Record
from papa_dbus.client.cli.printing import clean, colours, signal_name
from papa_dbus.client.lines import LineAssembler, Piece

_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")


class Line(NamedTuple):
    """A line without its end; ``timestamp`` is its beginning's. ``whole``: its end has come."""

    process: str
    stream: str
    timestamp: int
    data: bytes
    whole: bool = True


Item = Line | Exited | Dropped


class Joiner:
    """Makes lines of records. What has no end yet is kept until that comes, or the process has ended."""

    def __init__(self) -> None:
        self._assemblers: dict[str, LineAssembler] = {}

    def add(self, event: Event) -> Iterator[Item]:
        """The lines that an event completes, and the event itself where it is no record."""
        if isinstance(event, Record):
            assembler = self._assemblers.setdefault(event.process, LineAssembler())
            for piece in assembler.take(event.stream, event.timestamp, event.data):
                yield from _lines(event.process, piece)
        else:
            yield from self.rest(event.process)
            yield event

    def rest(self, process: str | None = None) -> Iterator[Line]:
        """What has no end and will get none: of one process, or of all."""
        for name in [name for name in self._assemblers if process in (None, name)]:
            for piece in self._assemblers.pop(name).rest():
                yield from _lines(name, piece)


def _lines(process: str, piece: Piece) -> Iterator[Line]:
    *lines, rest = piece.data.split(b"\n")
    for data in lines:
        yield Line(process, piece.stream, int(piece.timestamp), data)
    if rest:
        yield Line(process, piece.stream, int(piece.timestamp), rest, whole=False)


Formatter = Callable[[Item], bytes]


class Short:
    """``short-precise``: time, name and line, for people; [err] and [papa] say that it is not the process's stdout."""

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}
        self._coloured = colours()

    def __call__(self, item: Item) -> bytes:
        """One line of text."""
        name, timestamp = clean(item.process), getattr(item, "timestamp", None)
        when = moment(timestamp) if timestamp is not None else " " * len(moment(0))
        text, mark = (
            (clean(item.data.removesuffix(b"\r")), item.stream) if isinstance(item, Line) else (note(item), "papa")
        )
        head = name if mark == "out" else f"{name}[{mark}]"
        if self._coloured:
            colour = self._colours.setdefault(item.process, _COLOURS[len(self._colours) % len(_COLOURS)])
            head = click.style(head, fg=colour, bold=True)
            text = {"err": click.style(text, fg="red"), "papa": click.style(text, dim=True)}.get(mark, text)
        return f"{when} {head}: {text}\n".encode()


def moment(timestamp: int) -> str:
    """µs of CLOCK_REALTIME as journalctl's short-precise has them."""
    seconds, rest = divmod(timestamp, 1_000_000)
    return f"{time.strftime('%b %d %H:%M:%S', time.localtime(seconds))}.{rest:06}"


def note(item: Exited | Dropped) -> str:
    """What happened, in words."""
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
        data = item.data if self._raw else clean(item.data.removesuffix(b"\r")).encode()
        whole = item.whole or not self._raw
        self._begun = None if whole else source
        return before + data + (b"\n" if whole else b"")


def as_json(item: Item | Record) -> bytes:
    """``json``: an object on a line. Text that is no UTF-8 is an array of bytes, as journalctl has it."""
    fields: dict[str, Any] = {"process": item.process}
    if isinstance(item, Dropped):
        fields |= {"dropped_bytes": item.bytes, "first_seq": item.first_seq, "last_seq": item.last_seq}
    elif isinstance(item, Exited):
        fields |= {"timestamp": item.timestamp, "seq": item.seq, "exit_code": item.exit_code}
    else:
        fields |= {"timestamp": item.timestamp, "stream": item.stream, "message": _text(item.data)}
    if isinstance(item, Record):
        fields["seq"] = item.seq
    return json.dumps(fields).encode() + b"\n"


def _text(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def formatted(items: Iterable[Item], formatter: Formatter) -> bytes:
    """All of them, one after the other."""
    return b"".join(map(formatter, items))
