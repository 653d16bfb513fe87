"""The systemd journal, written to without ever waiting for it: its native protocol on a socket that does not block.

sd_journal_sendv(3), on which systemd-python stands, waits where journald does not read; papad would wait with it, and
with papad all that it serves. The protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

import asyncio
import errno
import fcntl
import os
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

SOCKET: Final = "/run/systemd/journal/socket"
#: Bytes of papad's own log that wait while journald does not read.
MAX_WAITING: Final = 1024 * 1024
_RETRY = 1.0  # seconds until a journal that has gone is looked for again
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_FIELD = re.compile(r"[A-Z][A-Z0-9_]*")
_WARNING = "4"  # LOG_WARNING, syslog(3)

Fields = Iterable[tuple[str, str | bytes]]


def pack(fields: Fields) -> bytes:
    """Return an entry as the journal reads it. Values may be any bytes."""
    parts = []
    for name, value in fields:
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        if b"\n" in data:
            parts.append(b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(data)), data))
        else:
            parts.append(b"%b=%b\n" % (name.encode(), data))
    return b"".join(parts)


class Journal:
    """A connection to the journal. ``on_room``: called by the loop when the journal may take again what it did not."""

    def __init__(self, path: str = SOCKET) -> None:
        self.on_room: list[Callable[[], object]] = []
        self._path = path
        self._socket: socket.socket | None = None
        self._watched = False  # the loop says when the socket has room
        self._later: asyncio.TimerHandle | None = None

    def unavailable_reason(self) -> str | None:
        """Return why there is no journal to write to; None if there is one."""
        try:
            self._new_socket().close()  # of one that papad has, only sending would tell
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        return None

    def send(self, fields: Fields) -> bool:
        """Write an entry. False: it is not taken now; ``on_room`` says when to try again, where a loop runs."""
        return self.send_packed(pack(fields))

    def send_packed(self, entry: bytes) -> bool:
        """Do as send(), with what pack() has made."""
        for _ in range(2):  # a second time where the journal has a new socket since
            try:
                _send(self._connect(), entry)
            except BlockingIOError:
                self._wait_for_room()
                return False
            except OSError:
                self.close()
            else:
                return True
        with suppress(RuntimeError):  # no loop runs
            self._later = self._later or asyncio.get_running_loop().call_later(_RETRY, self._tell)
        return False

    def wait(self, seconds: float) -> bool:
        """Wait until there is room, for papad's last words only. False: there was none, or there is no journal."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Leave the journal; the next entry connects again."""
        self._stop_watching()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._new_socket()
        return self._socket

    def _new_socket(self) -> socket.socket:
        new = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            new.connect(self._path)
        except OSError:
            new.close()
            raise
        return new

    def _wait_for_room(self) -> None:
        if self._socket is not None and not self._watched:
            with suppress(RuntimeError):
                asyncio.get_running_loop().add_writer(self._socket, self._tell)
                self._watched = True

    def _stop_watching(self) -> None:
        if self._watched and self._socket is not None:
            self._watched = False
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_writer(self._socket)

    def _tell(self) -> None:
        self._stop_watching()
        self._later = None
        for callback in self.on_room:
            callback()


def _send(to: socket.socket, entry: bytes) -> None:
    try:
        to.send(entry)
    except OSError as error:
        if error.errno not in _TOO_LARGE:
            raise
        _send_in_file(to, entry)


def _send_in_file(to: socket.socket, entry: bytes) -> None:
    """Send an entry that is too large for a datagram: in a memory file that nobody can change any more."""
    fd = os.memfd_create("papa-journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(entry)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        to.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))])
    finally:
        os.close(fd)


class OwnLog:
    """papad's own log on its way to the journal: what is not taken at once waits, MAX_WAITING bytes at most.

    To be given to systemd-python's JournalHandler in the place of its ``send``.
    """

    def __init__(self, journal: Journal, identifier: str) -> None:
        self._journal = journal
        self._identifier = identifier
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._left_out = 0
        journal.on_room.append(self._flush)

    def __call__(self, MESSAGE: str, **fields: Any) -> None:  # noqa: N803 (the handler's word)
        """Write a record. Fields that the journal would not take (lower case) are left out."""
        known = ((name, str(value)) for name, value in fields.items() if _FIELD.fullmatch(name) and value is not None)
        entry = pack((("MESSAGE", MESSAGE), *known))
        if self._bytes + len(entry) > MAX_WAITING and self._waiting:
            self._left_out += 1
            return
        self._waiting.append(entry)
        self._bytes += len(entry)
        self._flush()

    def _flush(self) -> bool:
        while self._waiting:
            if not self._journal.send_packed(self._waiting[0]):
                return False
            self._bytes -= len(self._waiting.popleft())
        if self._left_out and self._journal.send(self._loss()):
            self._left_out = 0
        return not self._left_out

    def _loss(self) -> Fields:
        text = f"{self._left_out} records of papad's own are not in the journal: journald did not take them"
        return (("MESSAGE", text), ("PRIORITY", _WARNING), ("SYSLOG_IDENTIFIER", self._identifier))

    def finish(self, seconds: float) -> None:
        """Wait so long at most, before papad ends, until all is written."""
        end = time.monotonic() + seconds
        while not self._flush() and self._journal.wait(max(0.0, end - time.monotonic())):
            pass
