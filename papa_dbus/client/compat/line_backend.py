"""The drop-in's way over the line protocol, for where no message bus has a papad: TCP 20202, or a Unix socket.

A connection for the commands and one for each watch. Blocking, as Papa 1.0.6's client is.
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from papa_dbus.client.compat.line_connection import MOST, Connection, Where, end_of_line, readable
from papa_dbus.client.compat.line_words import PROCESS_NUMBERS, SOCKET_NUMBERS, name_of, option_words, pairs_of, word
from papa_dbus.client.records import Event, Exited, Record
from papa_dbus.errors import AccessDenied, NoReply, NotFound, PapaError, Unreachable
from papa_dbus.names import UNKNOWN_EXIT

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
        return pairs_of(self._do("m", "s", word(name), *option_words(options)), SOCKET_NUMBERS)[1]

    def list_sockets(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        return dict(pairs_of(line, SOCKET_NUMBERS) for line in self._list("s", patterns))

    def open_socket(self, name: str) -> socket.socket:
        raise PapaError(f"socket '{name}' cannot be handed over by the line protocol: use a message bus")

    def remove_sockets(self, patterns: Sequence[str]) -> None:
        self._do("r", "s", *map(word, patterns))

    def set_value(self, name: str, value: str) -> None:
        self._do("set", word(name), word(value))

    def get_value(self, name: str) -> str | None:
        return self._do("get", word(name)) or None

    def list_values(self, patterns: Sequence[str]) -> dict[str, str]:
        pairs = (line.partition(" ") for line in self._list("v", patterns))
        return {name_of(name): value for name, _, value in pairs}

    def remove_values(self, patterns: Sequence[str]) -> None:
        self._do("r", "v", *map(word, patterns))

    def make_process(self, name: str, command: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
        words = [word(name), *option_words(options), "quote=json", json.dumps(list(command))]
        return pairs_of(self._do("m", "p", *words), PROCESS_NUMBERS)[1]

    def list_processes(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        return dict(pairs_of(line, PROCESS_NUMBERS) for line in self._list("p", patterns))

    def remove_processes(self, patterns: Sequence[str]) -> None:
        self._do("r", "p", *map(word, patterns))

    def pid(self) -> int | None:
        return None  # systemd may have listened for papad: whose the other end was at first says nothing

    def exit_if_idle(self) -> bool:
        return self._do("exit-if-idle").startswith("Exiting")

    def watch(self, patterns: Sequence[str]) -> "LineWatch":
        return LineWatch(self._open, patterns)

    def _list(self, kind: str, patterns: Sequence[str]) -> list[str]:
        answer = self._do("l", kind, *map(word, patterns))
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
                connection.write(["w", "p", *map(word, self._patterns)])
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
        """Return whether read() would not wait."""
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
        """Note that what was read has been dealt with."""
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


def _raise_end(reason: str) -> None:
    """Raise what the end of a watch is to its reader, as the bus's does."""
    match reason:
        case "" | "finished":
            return
        case "removed":
            raise NotFound("a process was removed while it was watched")
        case "revoked":
            raise AccessDenied("the watch has ended: an administrator has taken this client's right to it")
    raise NoReply(f"the watch has ended: {reason}")


def _end_of_event(data: bytearray) -> int:
    """Return where the next event is complete: its line, and the bytes of output that the line tells of."""
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
