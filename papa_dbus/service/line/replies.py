"""The line protocol's replies: what the kernel gives, to bytes that Papa 1.0.6's client and a person can read.

Owns the reply's format and its escapes, so that nothing that the kernel holds can be taken for the end of a reply or
for another line. No I/O.
"""

import re
import time
from collections.abc import Iterable, Sequence
from typing import Final

from papa_dbus.names import UNKNOWN_EXIT
from papa_dbus.schema import pairs
from papa_dbus.service.items.results import ProcessInfo, SocketInfo
from papa_dbus.service.output.events import Dropped, Event, Exited, Output
from papa_dbus.service.output.watches import End

PROMPT: Final = b"> "
WELCOME: Final = b'Papa is home. Type "help" for commands.\n> '
BATCH_END: Final = b"] "

_MAX_ERROR = 2000
_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}

#: An entry of a dictionary, as the domain names it.
_ENTRY = re.compile(r"\boption '(env|rlimit)s? ([^']*)'")


def _escape(char: str) -> str:
    if char in _NAMED_ESCAPES:
        return _NAMED_ESCAPES[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8 (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


# Control characters of both sets, the two other ends of a line that Unicode knows, and what is not UTF-8.
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000)}
# For str.translate(), which a megabyte of them takes a tenth of what re.sub() takes.
_UNSAFE: Final = {code: _escape(chr(code)) for code in _CONTROLS}
_UNSAFE_BUT_TAB: Final = {code: text for code, text in _UNSAFE.items() if code != ord("\t")}
_UNSAFE_IN_WORD: Final = _UNSAFE | {ord(char): _escape(char) for char in " =\\"}


def word(text: str) -> str:
    r"""Return one word of a listing: the client splits those at spaces and, if there is a '=', takes it for a key.

    Escaped as in C, with two digits after \x and four after \u.
    """
    if text == '""':  # which stands for no text at all
        return r"\x22" + '"'
    return text.translate(_UNSAFE_IN_WORD) or '""'


def one_line(text: str) -> str:
    """Return text that stays in its line and sends a terminal nothing but text."""
    return text.translate(_UNSAFE)


def value(text: str) -> str:
    """Return a value as the client gets it: as it was set, but for what could end a line or steer a terminal."""
    return text if text.isprintable() else text.translate(_UNSAFE_BUT_TAB)  # the usual one costs a tenth


def reply(text: str = "") -> bytes:
    """Return a whole reply and the prompt."""
    return text.encode() + b"\n> "


def error(text: str) -> bytes:
    """Return an error and the prompt; always one line."""
    typed = _ENTRY.sub(r"option '\1.\2'", text[:_MAX_ERROR])
    return reply(f"Error: {one_line(typed)}")


def foreign(protocol: str) -> bytes:
    """Return the last line for a client that speaks another protocol."""
    return error(f"this is Papa's line protocol and not {protocol}; nothing of it was run")


def socket_line(info: SocketInfo) -> str:
    """Return a socket as the client parses it: what applies, in Papa's order."""
    return _line(info.name, pairs(info).items())


def process_line(info: ProcessInfo) -> str:
    """Return a process as the client parses it; ``args`` comes last and takes the rest of the line."""
    of_papa: list[tuple[str, object]] = [
        ("pid", info.pid),
        ("running", info.running),
        ("started", seconds(info.started)),
        ("uid", info.uid if info.as_user else None),
        ("gid", info.gid if info.as_group or info.as_user else None),
        ("exit_code", info.exit_code),
        ("dropped", info.dropped or None),
    ]
    return f"{_line(info.name, (*of_papa, *pairs(info).items()))} args={' '.join(word(arg) for arg in info.args)}"


def _line(name: str, of: Iterable[tuple[str, object]]) -> str:
    return " ".join([_name(name), *(f"{key}={word(str(what))}" for key, what in of if what is not None)])


def _name(name: str) -> str:
    """Return a name at the beginning of a line, where '> ' would look like the end of the reply."""
    return "\\x3e" if name == ">" else name


def some_lines(lines: Sequence[str]) -> bytes:
    """Return some lines of the reply to a list command."""
    return "".join(f"{line}\n" for line in lines).encode()


def value_line(name: str, text: str) -> str:
    """Return a value as the client parses it."""
    return f"{_name(name)} {value(text)}"


def seconds(microseconds: int) -> str:
    """Return a timestamp in seconds, exactly."""
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06d}"


def watch_end(end: End) -> bytes:
    """Return the reply that ends a watch which has ended by itself."""
    return reply(f"Nothing left to watch{'' if end == 'finished' else f': {end}'}")


def watching(count: int, first: Sequence[Event]) -> bytes:
    """Return the line that begins a watch. What was lost before is told here, where Papa's client reads over it.

    A loss during the watch is told in its midst, by ``batch``; told there, an old one would be mistaken for output.
    """
    lost = [f"{event.bytes} bytes of {event.process} were lost" for event in first if isinstance(event, Dropped)]
    return f"Watching {count}{''.join(f'; {text}' for text in lost)}\n".encode()


def without_losses(events: Sequence[Event]) -> list[Event]:
    """Return what is left to be told of a watch's first batch."""
    return [event for event in events if not isinstance(event, Dropped)]


def batch(events: Sequence[Event]) -> bytes:
    """Return what a watch sends before it waits for an acknowledgement."""
    parts: list[bytes] = []
    for place, event in enumerate(events):
        match event:
            case Output():
                for record in event.records:
                    _record(parts, record.stream, event.process, record.timestamp, record.data)
            case Dropped():
                # The client knows out, err and closed, and nothing else: the loss is told where errors are read.
                text = f"papa: {event.bytes} bytes of output lost\n"
                _record(parts, "err", event.process, _time_of_next(events[place:], event.process), text.encode())
            case Exited():
                code = event.exit_code if event.known else UNKNOWN_EXIT
                parts.append(f"closed:{event.process}:{seconds(event.timestamp)}:{code}\n".encode())
    parts.append(BATCH_END)
    return b"".join(parts)


def _record(parts: list[bytes], stream: str, name: str, timestamp: int, data: bytes) -> None:
    parts += (f"{stream}:{name}:{seconds(timestamp)}:{len(data)}\n".encode(), data, b"\n")


def _time_of_next(events: Sequence[Event], process: str) -> int:
    """Return when what follows a gap was read, so that times stay in order; now, if nothing follows yet."""
    for event in events:
        if event.process == process and isinstance(event, Output):
            return event.records[0].timestamp
        if event.process == process and isinstance(event, Exited):
            return event.timestamp
    return time.time_ns() // 1000
