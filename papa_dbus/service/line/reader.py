"""The line protocol's input without I/O: bytes in, lines out, whatever the pieces in which they come.

Owns what a line is: LF or CR LF ends it, from telnet CR NUL as well (RFC 1123, 3.3.1), telnet's own bytes (IAC, RFC
854) are taken out, it has a bound, and what belongs to another protocol is recognised before anything of it is taken
for a command. Knows no command, no socket. A CR alone belongs to the line, as does CR NUL of a client that has said
nothing in telnet's own bytes: Papa's client sends both so if they are in a value, and what follows must never become a
command. Ctrl-D, where a line would begin, is "quit", as in a shell.

Rules it keeps
  - A line without its end is never a line: what a connection leaves unfinished is not run.
  - A line that is too long is discarded up to its end, reported once, and the next one is as good as any.
  - An HTTP request never passes, neither first nor later: a browser sends the request line and its headers before
    anything that a web page may choose freely. Nor does TLS, whose session tickets a web page may choose.
  - Memory is bounded by the line's bound and by what ``receive`` is given before ``next_event`` has used it up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Self

#: Bytes of a line: all that execve(2) takes with an 8 MiB stack (limits.MAX_COMMAND_BYTES), and room for the options.
MAX_LINE: Final = 2 * 1024 * 1024 + 64 * 1024

_IAC, _DONT, _DO, _WONT, _WILL, _SB = 255, 254, 253, 252, 251, 250
_AYT, _IP, _BRK, _SE = 246, 244, 243, 240
_TIMING_MARK = 6  # RFC 860
_NUL, _EOT, _LF, _CR = 0x00, 0x04, 0x0A, 0x0D
_STOP = re.compile(rb"[\n\xff\0]")

# A target is a path, an URL, an authority or '*'; of these only a path could be meant for the name of an item.
_TARGET = rb"\s+(?:/|\*|[^\s:]+:)\S*"
# The methods that are no commands of ours (GET is one), whatever follows: HTTP/0.9 ended its line here. Browsers write
# them so; "delete *" is what a person has mistyped.
_METHOD = re.compile(rb"\s*(?:HEAD|POST|PUT|DELETE|OPTIONS|CONNECT|TRACE|PATCH|PRI)" + _TARGET)
# Any method, since a page whose name was bound to 127.0.0.1 (DNS rebinding) may invent one, such as SET.
_REQUEST = re.compile(rb"\s*[^\s:]+" + _TARGET + rb"\s+HTTP/\d|\s*GET\s+\S+\s+HTTP/\d", re.IGNORECASE)
# Of these a request has at least Host, which browsers send first. Any other word with a colon is a person's.
_HEADER = re.compile(
    rb"(?:Host|Connection|User-Agent|Accept|Accept-[A-Z]+|Content-[A-Z-]+|Origin|Referer|Cookie|Sec-[A-Z-]+|Upgrade"
    rb"|Upgrade-[A-Z-]+|Cache-Control|Pragma|Authorization|Transfer-Encoding|TE|Access-Control-[A-Z-]+):",
    re.IGNORECASE,
)
# What a first byte may be, if a person or a client of Papa's sends it: a printable character, be it of several bytes,
# the white space, ESC, since a person may press an arrow, and what erases. TLS begins with 0x16, SSL 2 with 0x80, STUN
# with 0x00, SOCKS 5 with 0x05. SOCKS 4 begins with Ctrl-D, which ends the session as well.
_FIRST_BYTES: Final = frozenset(b"\b\t\f\r\n\x1b") | frozenset(range(0x20, 0x80)) | frozenset(range(0xC2, 0xF5))
_HEAD_BYTES = 8192  # of a line that is too long, enough to tell whether it is HTTP


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line, without its end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line was longer than ``MAX_LINE`` and is gone."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The person at telnet pressed Ctrl-C or sent a break; what was typed before it in that line is gone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What telnet itself must be answered."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """Another protocol is spoken: nothing that follows is read."""

    protocol: str


Input = Line | TooLong | Interrupt | Foreign  # what the client says
Event = Input | Answer


class _State(Enum):
    TEXT = auto()
    COMMAND = auto()  # after IAC
    OPTION = auto()  # after IAC and a verb
    SUBNEGOTIATION = auto()  # after IAC SB
    SUBNEGOTIATION_COMMAND = auto()  # after an IAC in there


class LineReader:
    """Give it bytes with ``receive``, and take events until there is none."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._input = bytearray()
        self._at = 0
        self._line = bytearray()
        self._overlong = False
        self._after_cr = False  # the last byte of the line, be it too long, is a CR
        self._is_telnet = False  # it has said something as telnet does; only then CR NUL is a line's end
        self._fresh = True  # nothing was read yet
        self._closed = False
        self._state = _State.TEXT
        self._verb = 0
        self._interrupted = False

    def state(self) -> dict[str, str | int]:
        """Return all that it has read and not given out, and in the midst of what, for resume()."""
        return {
            "input": self._input[self._at :].decode("latin-1"),
            "line": self._line.decode("latin-1"),
            "overlong": self._overlong,
            "after_cr": self._after_cr,
            "is_telnet": self._is_telnet,
            "fresh": self._fresh,
            "telnet": self._state.name,
            "verb": self._verb,
            "interrupted": self._interrupted,
        }

    @classmethod
    def resume(cls, state: Mapping[str, Any]) -> Self:
        """Go on where another reader was."""
        reader = cls()
        reader._input += state["input"].encode("latin-1")
        reader._line += state["line"].encode("latin-1")
        reader._overlong = bool(state["overlong"])
        reader._is_telnet = bool(state.get("is_telnet"))
        reader._after_cr = bool(state.get("after_cr"))  # a papad of before 0.16 does not say
        reader._fresh = bool(state["fresh"])
        reader._state = _State[state["telnet"]]
        reader._verb = int(state["verb"])
        reader._interrupted = bool(state["interrupted"])
        return reader

    @property
    def waiting(self) -> int:
        """Return how many bytes were received and not used up."""
        return len(self._input) - self._at

    @property
    def buffered(self) -> int:
        """Return how many bytes are in memory: those, and the line that has no end yet."""
        return len(self._input) + len(self._line)

    @property
    def in_line(self) -> bool:
        """Return whether a line has begun and has no end yet."""
        return bool(self._line) or self._overlong

    def receive(self, data: bytes) -> None:
        """Take what came. After Foreign it is thrown away."""
        if self._closed:
            return
        del self._input[: self._at]
        self._at = 0
        self._input += data

    def close(self) -> None:
        """Throw away what is there and what comes."""
        self._closed = True
        self._interrupted = False
        self._input.clear()
        self._line.clear()
        self._at = 0

    def next_event(self) -> Event | None:
        """Return the next event, or None until more is received."""
        while self._at < len(self._input):
            event = self._text() if self._state is _State.TEXT else self._telnet()
            if isinstance(event, Foreign):
                self.close()
            if event is not None:
                return event
        return self._interrupt()

    def _interrupt(self) -> Interrupt | None:
        """Tell an interrupt only when what telnet asks along with it has been answered.

        After Ctrl-C telnet shows nothing until its timing mark comes back: not the prompt either.
        """
        interrupted, self._interrupted = self._interrupted, False
        return Interrupt() if interrupted else None

    def _text(self) -> Event | None:
        """Read up to the next LF, NUL or IAC."""
        if self._input[self._at] != _IAC and (interrupt := self._interrupt()) is not None:
            return interrupt
        if self._input[self._at] == _EOT and not self.in_line:
            self._at += 1
            self._fresh = False
            return Line(b"quit")
        stop = _STOP.search(self._input, self._at)
        end = stop.start() if stop else len(self._input)
        start, self._at = self._at, end + 1 if stop else end
        if end > start and (foreign := self._extend(self._input[start:end])) is not None:
            return foreign
        if stop is None:
            return None
        if self._input[end] == _LF or (self._input[end] == _NUL and self._after_cr and self._is_telnet):
            return self._end_line()
        if self._input[end] == _NUL:
            return self._extend(b"\0")
        self._state = _State.COMMAND
        return None

    def _extend(self, piece: bytes | bytearray) -> Event | None:
        if self._fresh:
            self._fresh = False
            if piece[0] not in _FIRST_BYTES:
                return Foreign("TLS" if piece[0] == 0x16 else "a binary protocol")
        self._after_cr = piece[-1] == _CR
        if self._overlong:
            return None
        self._line += piece
        if len(self._line) <= self._max_line + 1:  # a CR may be the first half of the line's end
            return None
        self._overlong = True
        return self._clear()

    def _end_line(self) -> Event:
        self._fresh = False
        overlong, self._overlong = self._overlong, False
        self._after_cr = False
        if overlong:
            return TooLong()
        line = bytes(self._line[:-1] if self._line.endswith(b"\r") else self._line)
        foreign = self._clear()
        if foreign is None and len(line) > self._max_line:
            return TooLong()
        return foreign or Line(line)

    def _clear(self) -> Foreign | None:
        """Empty the line; tell whether it was one of HTTP."""
        head = bytes(self._line[: min(_HEAD_BYTES, self._max_line + 2)])  # the same, whatever the pieces
        self._line.clear()
        if _METHOD.match(head) or _REQUEST.match(head) or _HEADER.match(head):
            return Foreign("HTTP")
        return None

    def _telnet(self) -> Event | None:
        """Read one byte of what telnet says for itself."""
        byte = self._input[self._at]
        if self._state is _State.COMMAND and byte == _IAC and (interrupt := self._interrupt()) is not None:
            return interrupt  # what follows is text
        self._at += 1
        match self._state:
            case _State.COMMAND:
                return self._command(byte)
            case _State.OPTION:
                self._state = _State.TEXT
                return self._option(byte)
            case _State.SUBNEGOTIATION:
                self._skip_subnegotiation(byte)
            case _:
                self._state = _State.TEXT if byte == _SE else _State.SUBNEGOTIATION
        return None

    def _command(self, byte: int) -> Event | None:
        self._state = _State.TEXT
        if byte == _IAC:  # twice, it is the byte itself
            return self._extend(b"\xff")
        self._is_telnet = True
        if byte in (_WILL, _WONT, _DO, _DONT):
            self._state, self._verb = _State.OPTION, byte
        elif byte == _SB:
            self._state = _State.SUBNEGOTIATION
        elif byte in (_BRK, _IP):
            self._overlong = self._after_cr = False
            before, self._interrupted = self._interrupt(), True
            return self._clear() or before
        elif byte == _AYT:
            return Answer(b"\n[papad is here]\n")
        return None

    def _option(self, option: int) -> Event | None:
        """Refuse whatever is asked for, but for a timing mark: until it comes, telnet shows nothing after Ctrl-C."""
        if self._verb == _DO:
            return Answer(bytes((_IAC, _WILL if option == _TIMING_MARK else _WONT, option)))
        if self._verb == _WILL:
            return Answer(bytes((_IAC, _DONT, option)))
        return None

    def _skip_subnegotiation(self, byte: int) -> None:
        if byte == _IAC:
            self._state = _State.SUBNEGOTIATION_COMMAND
            return
        next_iac = self._input.find(b"\xff", self._at)
        self._at = len(self._input) if next_iac < 0 else next_iac
