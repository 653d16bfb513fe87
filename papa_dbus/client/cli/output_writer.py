"""Where output is written to: never waits in a write, so that Ctrl-C and the bus are heard meanwhile."""

import asyncio
import os
import select
import stat

#: A pipe that has room takes so many bytes at once (PIPE_BUF, pipe(7)).
_PIECE = 4096


class OutputWriter:
    """An open file, pipe or terminal. ``path`` names it in errors."""

    def __init__(self, fd: int, path: str = "stdout") -> None:
        self._fd = fd
        self._path = path
        mode = os.fstat(fd).st_mode
        self._regular = stat.S_ISREG(mode)
        self._pipe = stat.S_ISFIFO(mode)

    @property
    def terminal(self) -> bool:
        """Return whether somebody looks at it."""
        return os.isatty(self._fd)

    async def write(self, data: bytes) -> None:
        """Write all. Raises OSError with the path, BrokenPipeError where nobody reads."""
        left = memoryview(data)
        while left:
            if not self._regular:
                await self._room()
            try:
                left = left[os.write(self._fd, left if self._regular else left[:_PIECE]) :]
            except OSError as error:
                raise type(error)(error.errno, error.strerror, self._path) from None

    def write_at_once(self, data: bytes) -> None:
        """Write as much as goes without waiting."""
        if data and (self._regular or self._has_room()):
            os.write(self._fd, data[:_PIECE])

    def sync(self) -> None:
        """Have it on the disk, where it is a file."""
        if self._regular:
            os.fsync(self._fd)

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))

    async def _room(self) -> None:
        if self._has_room():
            return
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._fd, _done, room)
        try:
            await room
        finally:
            loop.remove_writer(self._fd)

    async def reader_gone(self) -> None:
        """Wait until a pipe's reader has gone; for ever, where it is no pipe. Raises BrokenPipeError."""
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._pipe:
            loop = asyncio.get_running_loop()
            # The writing end is never readable: epoll wakes for its error alone.
            loop.add_reader(self._fd, _done, gone)
            try:
                await gone
            finally:
                loop.remove_reader(self._fd)
            raise BrokenPipeError
        await gone


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
