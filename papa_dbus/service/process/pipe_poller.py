"""What comes from hosted processes, read by turns: their output, and their ends.

All of it waits in an epoll(7) of its own, one descriptor for the loop. So what many have written is read together, and
the poller rests between two turns in which little came: a line after silence is read at once, and a thousand lines a
second do not wake papad a thousand times. What waits meanwhile waits in the pipes, where a kill loses nothing.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

#: Seconds of rest for each descriptor that had something, and seconds of rest at most.
COALESCE_DELAY: Final = 0.001
MAX_COALESCE_DELAY: Final = 0.005
#: Descriptors that are served before others on the loop have their turn.
MAX_PER_ITERATION: Final = 64


class Poller:
    """Descriptors, and what reads each: it returns whether a writer may be waiting. Begins with the first of them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], bool]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._turn_at = 0.0  # the loop's time of the last turn
        self.after_turn: list[Callable[[], None]] = []  # passes on what has come, without waiting for the loop

    def add(self, fd: int, read: Callable[[], bool]) -> None:
        """Call ``read`` whenever there is something, or nothing more will come."""
        self._readers[fd] = read
        self._epoll.register(fd, select.EPOLLIN)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll, self._turn, self._loop)
            # It is never writable, but so it keeps its place in the loop's own epoll while it rests: of one that is put
            # there Linux looks through all that is in it (ep_loop_check, fs/eventpoll.c).
            self._loop.add_writer(self._epoll, _never)

    def remove(self, fd: int) -> None:
        """Read from it no more, if it is read. It must still be open."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def has_more(self) -> bool:
        """Return whether something waits to be read."""
        return bool(self._epoll.poll(0, 1))

    def close(self) -> None:
        """Read nothing more; what is there still waits."""
        if self._rest is not None:
            self._rest.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._epoll)
            self._loop.remove_writer(self._epoll)
        self._epoll.close()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        backlogged = False
        ready = self._epoll.poll(0, MAX_PER_ITERATION)
        for fd, _ in ready:
            if (read := self._readers.get(fd)) is not None:  # else another one's turn has ended it
                backlogged |= read()
        for pass_on in self.after_turn:
            pass_on()
        now = loop.time()
        since, self._turn_at = now - self._turn_at, now
        if since < 2 * MAX_COALESCE_DELAY and len(ready) < MAX_PER_ITERATION and not backlogged:
            loop.remove_reader(self._epoll)
            self._rest = loop.call_later(min(COALESCE_DELAY * len(ready), MAX_COALESCE_DELAY), self._go_on, loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._rest = None
        loop.add_reader(self._epoll, self._turn, loop)


def _never() -> None:
    raise RuntimeError("an epoll has become writable")
