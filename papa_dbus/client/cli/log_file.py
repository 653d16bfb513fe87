"""A file that output is appended to: opened again when it is moved away, rotated by size, waited for if a disk is full.

Nothing counts as written before `sync`, which has it on the disk: what is not acknowledged stays in papad meanwhile.
"""

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Callable

#: What says that a disk has no room now, and may have some later.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_AGAIN = 1.0  # seconds, until a full disk is tried again
#: What logrotate and those who replace Supervisor or nginx send to have a file opened again.
_REOPEN = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class LogFile:
    """Appends to a file as `Sink` writes to an open one.

    ``limit``: bytes after which it is rotated, at a line's end: FILE to FILE.1, that to FILE.2, of which ``keep`` are
    kept. ``say`` tells a person.
    """

    terminal = False

    def __init__(self, path: str, say: Callable[[str], None], limit: int | None = None, keep: int = 0) -> None:
        self._path = path
        self._say = say
        self._limit = limit
        self._keep = keep
        self._fd = -1
        self._busy = False  # something has been written and not synced
        self._asked = False  # to open the file again
        self._open()

    def _open(self) -> None:
        """Open what has the name now; what was written to the file before is on the disk."""
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.close()
        self._fd = fd
        self._asked = False
        status = os.fstat(fd)
        self._identity = status.st_dev, status.st_ino
        self._size = status.st_size
        self._at_line_end = self._size == 0 or self._last_byte() == b"\n"

    def _last_byte(self) -> bytes:
        with contextlib.suppress(OSError), open(self._path, "rb") as file:  # it may be for writing only
            file.seek(-1, os.SEEK_END)
            return file.read(1)
        return b"\n"

    def close(self) -> None:
        """Have it on the disk, and close it. Raises OSError."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def listen(self, hung_up: Callable[[], object]) -> None:
        """Open the file again when a signal asks for that; ``hung_up`` if SIGHUP says that the terminal is gone."""
        loop = asyncio.get_running_loop()
        may_hang_up = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # as nohup(1) has it

        def reopen() -> None:
            if may_hang_up and not _has_terminal():
                hung_up()
            else:
                self.reopen()

        for number in _REOPEN:
            loop.add_signal_handler(number, reopen)

    def reopen(self) -> None:
        """Open the file again: at once, or after what is being written."""
        self._asked = True
        if not self._busy:
            with contextlib.suppress(OSError):  # the next write tries it again, and fails
                self._open()

    async def write(self, data: bytes) -> None:
        """Append all, wherever the name leads to; wait as long as the disk is full. Raises OSError with the path."""
        self._busy = True
        at = 0
        while at < len(data):
            self._follow_name()
            until = self._fits(data, at)
            if until == at:
                self._rotate()
            else:
                at += await self._append(data[at:until])

    def _follow_name(self) -> None:
        """Open the file again if somebody has moved it away, or asks for it."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            self._open()
            return
        self._size = status.st_size  # it may have been truncated
        if self._asked or self._identity != (status.st_dev, status.st_ino):
            self._open()

    def _fits(self, data: bytes, at: int) -> int:
        """Return how far the data goes into this file: up to a line's end, if it is to be rotated there."""
        if self._limit is None or self._size + len(data) - at <= self._limit:
            return len(data)
        room = max(self._limit - self._size, 0)
        if end := data.rfind(b"\n", at, at + room) + 1:
            return end
        if self._at_line_end and self._size:
            return at
        return data.find(b"\n", at) + 1 or len(data)  # a line that is longer than a file may be

    async def _append(self, data: bytes) -> int:
        """Write as much as goes; returns how much that was."""
        full = False
        while True:
            try:
                size = os.write(self._fd, data)
            except OSError as error:
                if error.errno not in _FULL:
                    raise type(error)(error.errno, error.strerror, self._path) from None
                if not full:
                    self._say(f"{self._path}: {error.strerror}: waiting for room, nothing is acknowledged meanwhile")
                full = True
                await asyncio.sleep(_AGAIN)
                self._follow_name()
                continue
            if full:
                self._say(f"{self._path}: there is room again")
            self._size += size
            self._at_line_end = data[size - 1 : size] == b"\n"
            return size

    def _rotate(self) -> None:
        """FILE.1 to FILE.2 and so on, FILE to FILE.1; the new one belongs to whom the old one did."""
        old = os.fstat(self._fd)
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            if not self._keep:
                os.unlink(self._path)
        for number in range(self._keep, 0, -1):
            source = f"{self._path}.{number - 1}" if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                os.rename(source, f"{self._path}.{number}")
        # Whoever may write to the folder may put something else there meanwhile: only a new file gets owner and mode.
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            new = os.open(self._path, flags, 0o600)
            try:
                with contextlib.suppress(PermissionError):
                    os.fchown(new, old.st_uid, old.st_gid)
                os.fchmod(new, old.st_mode & 0o7777)
            finally:
                os.close(new)
        self._open()
        self._sync_folder()

    def _sync_folder(self) -> None:
        fd = os.open(os.path.dirname(self._path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Have all that was written on the disk. Raises OSError with the path."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, self._path) from None
        self._busy = False
        if self._asked:
            self.reopen()

    async def reader_gone(self) -> None:
        """Wait for ever: a file has no reader that could go away."""
        await asyncio.get_running_loop().create_future()


def _has_terminal() -> bool:
    """Return whether there is a terminal whose end would be ours (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
