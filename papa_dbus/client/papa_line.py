"""The drop-in's way over the line protocol, for where no message bus has a kernel: TCP 20202, or a Unix socket.

A connection for the commands and one for each watch. Blocking, as Papa 1.0.6's client is.
"""

import json
import re
import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from papa_dbus.client.records import Event, Exited, Record
from papa_dbus.errors import PapaError, Unreachable
from papa_dbus.names import UNKNOWN_EXIT

_PROMPT = b"\n> "
_WELCOME = b"Papa is home"
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|([nrt\\]))")
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}

Where = int | str  # a port on this machine, or the path of a Unix socket


class _Connection:
    """One connection. Raises Unreachable where nobody listens, or it is not Papa who does."""

    def __init__(self, where: Where, timeout: float) -> None:
        address: str | tuple[str, int] = where if isinstance(where, str) else ("127.0.0.1", where)
        self.socket = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET, socket.SOCK_STREAM)
        self._name = where if isinstance(where, str) else f"127.0.0.1:{where}"
        self._data = bytearray()
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
            self._greet()
        except BaseException:
            self.socket.close()
            raise

    def _greet(self) -> None:
        greeting = self.until(lambda data: len(data) if data.endswith((b"> ", b"\n")) else -1)
        if greeting.startswith(b"Error: "):
            raise PapaError(greeting[7:].decode(errors="replace").strip().removesuffix("\n>"))
        if not greeting.startswith(_WELCOME):
            raise Unreachable(f"what listens at {self._name} is not Papa")

    @classmethod
    def open(cls, where: Where, timeout: float) -> Self:
        """Connect. Raises Unreachable."""
        try:
            return cls(where, timeout)
        except OSError as error:
            name = where if isinstance(where, str) else f"127.0.0.1:{where}"
            raise Unreachable(f"no papad at {name}: {error.strerror or error}") from None

    def command(self, words: Sequence[str]) -> str:
        """Send a command, and give the answer. Raises PapaError for an error."""
        self.send(words)
        answer = self.until(lambda data: len(data) if data.endswith(_PROMPT) else -1)
        text = answer.removesuffix(_PROMPT).decode(errors="replace")
        if text.startswith("Error: "):
            raise PapaError(text[7:])
        return text

    def send(self, words: Sequence[str]) -> None:
        """Send a line of words that are quoted already."""
        self.write(" ".join(words).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Send. Raises Unreachable where the connection broke."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Unreachable(f"the connection to papad at {self._name} broke: {error.strerror or error}") from None

    def line(self) -> bytes:
        """A line, without its end."""
        return self.until(lambda data: data.find(b"\n") + 1 or -1)[:-1]

    def exactly(self, size: int) -> bytes:
        """Exactly so many bytes."""
        return self.until(lambda data: size if len(data) >= size else -1)

    def until(self, end: Callable[[bytearray], int]) -> bytes:
        """What comes up to where ``end`` says that it is complete; -1 says that it is not."""
        while (size := end(self._data)) < 0:
            try:
                piece = self.socket.recv(65536)
            except TimeoutError:
                raise Unreachable(f"papad at {self._name} did not answer in {self.socket.gettimeout()} s") from None
            except OSError as error:
                raise Unreachable(f"the connection to papad at {self._name} broke: {error.strerror}") from None
            if not piece:
                raise Unreachable(f"papad at {self._name} has closed the connection")
            self._data += piece
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


class LineBackend:
    """A kernel behind its line protocol: ``where`` is a port or a path, ``timeout`` bounds each command, in seconds."""

    def __init__(self, where: Where, timeout: float) -> None:
        self._where = where
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: _Connection | None = _Connection.open(where, timeout)

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
            connection.socket.close()

    def _do(self, *words: str) -> str:
        with self._lock:
            if self._connection is None:
                self._connection = _Connection.open(self._where, self._timeout)
            try:
                return self._connection.command(words)
            except Unreachable:
                self._drop()
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
        return _plain(self._do("get", _word(name))) or None

    def list_values(self, patterns: Sequence[str]) -> dict[str, str]:
        pairs = (line.partition(" ") for line in self._list("v", patterns))
        return {_plain(name): _plain(value) for name, _, value in pairs}

    def remove_values(self, patterns: Sequence[str]) -> None:
        self._do("r", "v", *map(_word, patterns))

    def make_process(self, name: str, command: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
        words = [_word(name), *_options(options), "quote=json", json.dumps(list(command))]
        return _pairs(self._do("m", "p", *words), _PROCESS_NUMBERS)[1]

    def list_processes(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        return dict(_pairs(line, _PROCESS_NUMBERS) for line in self._list("p", patterns))

    def remove_processes(self, patterns: Sequence[str]) -> None:
        self._do("r", "p", *map(_word, patterns))

    def exit_if_idle(self) -> bool:
        return self._do("exit-if-idle").startswith("Exiting")

    def watch(self, patterns: Sequence[str]) -> "LineWatch":
        return LineWatch(_Connection.open(self._where, self._timeout), patterns)

    def _list(self, kind: str, patterns: Sequence[str]) -> list[str]:
        answer = self._do("l", kind, *map(_word, patterns))
        return answer.split("\n") if answer else []


class LineWatch:
    """A consuming watch on a connection of its own. Its descriptor is readable when there is something to read."""

    def __init__(self, connection: _Connection, patterns: Sequence[str]) -> None:
        self._connection = connection
        self._unacknowledged = False
        try:
            connection.send(["w", "p", *map(_word, patterns)])
            if (first := connection.line()).startswith(b"Error: "):
                raise PapaError(first[7:].decode(errors="replace"))
        except BaseException:
            connection.socket.close()
            raise
        connection.socket.settimeout(None)  # output comes when it comes

    def fileno(self) -> int:
        """A descriptor that is readable while read() would not wait."""
        return self._connection.socket.fileno()

    @property
    def ready(self) -> bool:
        """Whether read() would not wait."""
        return bool(select.select([self.fileno()], [], [], 0)[0])

    def read(self) -> list[Event]:
        """Wait for what comes next; empty at the end. What was read before is acknowledged: it has to be."""
        self.acknowledge()
        events: list[Event] = []
        while True:
            head = self._connection.until(_end_of_head)
            if head == b"] ":
                self._unacknowledged = True
                return events
            kind, _, rest = head.decode(errors="replace").rstrip("\n").partition(":")
            if not rest:
                return []  # "Nothing left to watch"
            name, seconds, number = rest.split(":")
            if kind == "closed":
                events.append(
                    Exited(name, 0, _microseconds(seconds), None if int(number) == UNKNOWN_EXIT else int(number))
                )
            else:
                data = self._connection.exactly(int(number) + 1)[:-1]
                events.append(Record(name, 0, _microseconds(seconds), kind, data))

    def acknowledge(self, keep: int = 0) -> None:
        """What was read has been dealt with; all of it, or with ``keep`` none: the protocol knows nothing else."""
        if self._unacknowledged and not keep:
            self._unacknowledged = False
            self._connection.write(b"\n")

    def close(self) -> None:
        """End the watch. What was not acknowledged is there for the next one."""
        self._connection.socket.close()


_SOCKET_NUMBERS = {"backlog": int, "port": int, "fileno": int}
_PROCESS_NUMBERS: dict[str, Callable[[str], Any]] = {
    "pid": int,
    "started": float,
    "running": lambda text: text == "True",
}


def _end_of_head(data: bytearray) -> int:
    return 2 if data.startswith(b"] ") else data.find(b"\n") + 1 or -1


def _microseconds(seconds: str) -> int:
    whole, _, rest = seconds.partition(".")
    return int(whole) * 1_000_000 + int(rest.ljust(6, "0")[:6] or 0)


def _word(text: str) -> str:
    """A word as the protocol has it. Raises PapaError for what a line cannot hold."""
    if "\n" in text or "\r" in text:
        raise PapaError(
            f"{text[:60]!r} has a line's end in it, which the line protocol cannot carry: use a message bus"
        )
    return text.replace(" ", "\\ ")


def _options(options: Mapping[str, Any]) -> list[str]:
    """Options as Papa 1.0.6 writes them."""
    words = []
    for name, value in options.items():
        if name in ("env", "rlimits"):
            words += [_pair(f"{name.removesuffix('s')}.{key}", of) for key, of in value.items()]
        elif name == "umask":
            words.append(_pair(name, f"{value:04o}"))
        elif name in ("stdout", "stderr"):
            words.append(_pair(name, {"null": "0", "pipe": "1"}.get(value, value)))
        else:
            words.append(_pair(name, int(value) if isinstance(value, bool) else value))
    return words


def _pair(name: str, value: object) -> str:
    text = str(value)
    if text.endswith("\\"):  # it would join this word and the next
        text = f'"{text}"'
    return f"{name}={_word(text)}"


def _pairs(line: str, types: Mapping[str, Callable[[str], Any]]) -> tuple[str, dict[str, Any]]:
    """An item's name and its pairs; ``args`` comes last and takes the rest of the line."""
    name, _, rest = line.partition(" ")
    rest, _, arguments = rest.partition(" args=")
    pairs = {key: types.get(key, _plain)(value) for key, _, value in (word.partition("=") for word in rest.split(" "))}
    if arguments:
        pairs["args"] = " ".join("" if word == '""' else _plain(word) for word in arguments.split(" "))
    return _plain(name), pairs


def _plain(text: str) -> str:
    """What the server has escaped."""
    return _ESCAPE.sub(lambda match: _NAMED[match[3]] if match[3] else chr(int(match[1] or match[2], 16)), text)
