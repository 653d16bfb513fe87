"""The drop-in's way over the line protocol, for where no message bus has a papad: TCP 20202, or a Unix socket.

A connection for the commands and one for each watch. Blocking, as Papa 1.0.6's client is.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from papa_dbus.client.compat.line_connection import MOST, Connection, Where, end_of_line, readable
from papa_dbus.client.records import Event, Exited, Record
from papa_dbus.errors import AccessDenied, NoReply, NotFound, PapaError, Unreachable
from papa_dbus.forms import NUMBER
from papa_dbus.names import UNKNOWN_EXIT
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_KEYS, SOCKET_OPTIONS

_OPTIONS = SOCKET_OPTIONS | PROCESS_OPTIONS  # what both have, both write alike
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|([nrt\\]))")
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_END = b"Nothing left to watch"  # and why, if that is not that all has been read
_CLOSING = 30.0  # seconds for papad to confirm that a watch has ended


class LineBackend:
    """A papad behind its line protocol: ``where`` is a port or a path.

    ``timeout`` bounds each command, ``patience`` connecting, in seconds.
    """

    def __init__(self, where: Where, timeout: float, patience: float) -> None:
        self._where = where
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: Connection | None = Connection.open(where, timeout, patience)

    def fileno(self) -> int:
        """The connection's descriptor. Raises Unreachable where it broke."""
        if self._connection is None:
            raise Unreachable("the connection to papad broke; the next command makes it again")
        return self._connection.socket.fileno()

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> Connection:
        return Connection.open(self._where, self._timeout, self._timeout)

    def _do(self, *words: str) -> str:
        with self._lock:
            if self._connection is None or not self._connection.idle:
                self._drop()
                self._connection = self._open()
            try:
                with self._connection.telling():
                    return self._connection.command(words)
            except BaseException as error:
                if not isinstance(error, PapaError) or isinstance(error, NoReply):
                    self._drop()  # the rest of the answer would be taken for the next one's
                raise

    def make_socket(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return _pairs(self._do("m", "s", _word(name), *_options(options)), _SOCKET_NUMBERS)[1]

    def list_sockets(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        return dict(_pairs(line, _SOCKET_NUMBERS) for line in self._list("s", patterns))

    def open_socket(self, name: str) -> socket.socket:
        raise PapaError(f"socket '{name}' cannot be handed over by the line protocol: use a message bus")

    def remove_sockets(self, patterns: Sequence[str]) -> None:
        self._do("r", "s", *map(_word, patterns))

    def set_value(self, name: str, value: str) -> None:
        self._do("set", _word(name), _word(value))

    def get_value(self, name: str) -> str | None:
        return self._do("get", _word(name)) or None

    def list_values(self, patterns: Sequence[str]) -> dict[str, str]:
        pairs = (line.partition(" ") for line in self._list("v", patterns))
        return {_name(name): value for name, _, value in pairs}

    def remove_values(self, patterns: Sequence[str]) -> None:
        self._do("r", "v", *map(_word, patterns))

    def make_process(self, name: str, command: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
        words = [_word(name), *_options(options), "quote=json", json.dumps(list(command))]
        return _pairs(self._do("m", "p", *words), _PROCESS_NUMBERS)[1]

    def list_processes(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        return dict(_pairs(line, _PROCESS_NUMBERS) for line in self._list("p", patterns))

    def remove_processes(self, patterns: Sequence[str]) -> None:
        self._do("r", "p", *map(_word, patterns))

    def pid(self) -> int | None:
        return None  # systemd may have listened for papad: whose the other end was at first says nothing

    def exit_if_idle(self) -> bool:
        return self._do("exit-if-idle").startswith("Exiting")

    def watch(self, patterns: Sequence[str]) -> "LineWatch":
        return LineWatch(self._open, patterns)

    def _list(self, kind: str, patterns: Sequence[str]) -> list[str]:
        answer = self._do("l", kind, *map(_word, patterns))
        return answer.split("\n") if answer else []


class LineWatch:
    """A consuming watch on a connection of its own. Its descriptor is readable when there is something to read."""

    exact = False

    def __init__(self, connect: Callable[[], Connection], patterns: Sequence[str]) -> None:
        self._connect = connect
        self._patterns = patterns
        self._begin()

    def resume(self) -> None:
        """Open it again after take() has raised an error; all that was not acknowledged comes again."""
        self._connection.close()
        self._begin()

    def _begin(self) -> None:
        self._coming: list[Event] = []  # of the piece that is being read
        self._unacknowledged = False
        self._in_hand = 0
        self._connection = connection = self._connect()
        try:
            with connection.telling():
                connection.write(["w", "p", *map(_word, self._patterns)])
                connection.line()  # "Watching 1"
        except BaseException:
            connection.close()
            raise
        connection.socket.settimeout(None)  # output comes when it comes

    def fileno(self) -> int:
        """A descriptor that is readable while read() would not wait."""
        return self._connection.socket.fileno()

    @property
    def ready(self) -> bool:
        """Whether read() would not wait."""
        return self.fileno() < 0 or readable(self.fileno())

    def read(self) -> list[Event]:
        """Wait for what comes next; empty at the end. What was read before is acknowledged."""
        self.acknowledge()
        return self.take()

    def take(self) -> list[Event]:
        """The same; all that was taken before is acknowledged with it, since the protocol wants it so."""
        self.acknowledge()
        with self._connection.telling():
            while (event := self._event()) is not None:
                self._coming.append(event)
        events, self._coming = self._coming, []
        self._in_hand = len(events)
        return events

    def done(self, count: int) -> None:
        """The first so many of what was taken have been dealt with; it is said once all have."""
        self._in_hand -= count
        if not self._in_hand:
            self.acknowledge()

    def leave(self) -> None:
        """End the watch; what was taken and not done with is there for the next one, too."""
        self._connection.socket.close()

    def _event(self) -> Event | None:
        head, _, data = self._connection.until(_end_of_event).partition(b"\n")
        if head == b"] ":
            self._unacknowledged = True
            return None
        if head.startswith(b"Error: "):
            raise PapaError(head[7:].decode(errors="replace"))  # papad is stopping
        if head.startswith(_END):
            _raise_end(head[len(_END) :].decode(errors="replace").strip(": "))
            return None
        kind, name, seconds, number = head.decode(errors="replace").split(":")
        if kind == "closed":
            code = int(number)
            return Exited(name, 0, _microseconds(seconds), None if code == UNKNOWN_EXIT else code)
        if kind not in ("out", "err"):
            raise ValueError(f"{head[:60]!r}")
        return Record(name, 0, _microseconds(seconds), kind, data[:-1])

    def acknowledge(self) -> None:
        """What was read has been dealt with."""
        if self._unacknowledged:
            self._unacknowledged = False
            with self._connection.telling():
                self._connection.write([])

    def close(self) -> None:
        """Acknowledge what was read, and end the watch; what was not read is there for the next one."""
        connection = self._connection
        if connection.socket.fileno() < 0:
            return
        try:
            if self._unacknowledged:
                connection.socket.settimeout(_CLOSING)
                with connection.telling():
                    connection.write(["q"])
                    connection.answer()
        finally:
            connection.close()


_SOCKET_NUMBERS = {name: int for name, key in SOCKET_KEYS.items() if key.form is NUMBER}
_PROCESS_NUMBERS: dict[str, Callable[[str], Any]] = {
    "pid": int,
    "started": float,
    "running": lambda text: text == "True",
}


def _raise_end(reason: str) -> None:
    """Raise what the end of a watch is to its reader, as the bus's does."""
    match reason:
        case "" | "finished":
            return
        case "removed":
            raise NotFound("a process was removed while it was watched")
        case "revoked":
            raise AccessDenied(
                "the watch has ended: this client may hear no more of it; an administrator must admit it again"
            )
    raise NoReply(f"the watch has ended: {reason}")


def _end_of_event(data: bytearray) -> int:
    """Where the next event is complete: its line, and the bytes of output that the line tells of."""
    if data.startswith(b"] "):
        return 2
    end = end_of_line(data)
    if end > 0 and data.startswith((b"out:", b"err:")):
        size = int(data[:end].rpartition(b":")[2])
        if not 0 <= size <= MOST:
            raise ValueError(f"a piece of {size} bytes")
        end += size + 1
    return end if end <= len(data) else -1


def _microseconds(seconds: str) -> int:
    whole, _, rest = seconds.partition(".")
    return int(whole) * 1_000_000 + int(rest.ljust(6, "0")[:6] or 0)


def _word(text: str) -> str:
    """A word as the protocol has it. Raises PapaError for what a line cannot hold."""
    if "\n" in text or "\r" in text:
        raise PapaError(
            f"{text[:60]!r} has a line's end in it, which the line protocol cannot carry: use a message bus"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PapaError(f"{text[:60]!r} is no text that can be sent") from None
    return text.replace(" ", "\\ ")


def _options(options: Mapping[str, Any]) -> list[str]:
    """Options as Papa 1.0.6 writes them. One that is not known papad refuses by its name."""
    words = []
    for name, value in options.items():
        option = _OPTIONS.get(name)
        write = option.form.write if option is not None else str
        if isinstance(value, Mapping):
            words += [_pair(f"{name.removesuffix('s')}.{key}", write(of)) for key, of in value.items()]
        else:
            words.append(_pair(name, write(value)))
    return words


def _pair(name: str, text: str) -> str:
    if text.endswith("\\"):  # it would join this word and the next
        text = f'"{text}"'
    return f"{name}={_word(text)}"


def _pairs(line: str, types: Mapping[str, Callable[[str], Any]]) -> tuple[str, dict[str, Any]]:
    """An item's name and its pairs; ``args`` comes last and takes the rest of the line."""
    name, _, rest = line.partition(" ")
    rest, _, arguments = rest.partition(" args=")
    words = [word.partition("=") for word in rest.split(" ")]
    try:
        pairs = {key: types.get(key, _plain)(value) for key, _, value in words}
    except ValueError:
        raise NoReply(f"papad answered what is not understood: {line[:200]!r}") from None
    if arguments:
        pairs["args"] = " ".join("" if word == '""' else _plain(word) for word in arguments.split(" "))
    return _name(name), pairs


def _name(text: str) -> str:
    """A name at the beginning of a line: one that looks like the prompt is written otherwise, no other."""
    return ">" if text == "\\x3e" else text


def _plain(text: str) -> str:
    """A word that the server has escaped; a value it gives as it is, but for what cannot stand in a line."""
    return _ESCAPE.sub(lambda match: _NAMED[match[3]] if match[3] else chr(int(match[1] or match[2], 16)), text)
