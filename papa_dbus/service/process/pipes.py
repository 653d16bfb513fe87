"""The pipes that a process and its descendants write to: read into its log, as long as that has room."""

import fcntl
import os
import select
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from papa_dbus.service import limits
from papa_dbus.service.output.log import CHUNK, OutputLog
from papa_dbus.service.output.records import Stream
from papa_dbus.service.process.gate import readable
from papa_dbus.service.process.pipe_poller import Poller

#: Bytes that the pipes of a process hold that has filled one: 64 KiB are filled in less than a turn of the loop.
_WIDE = 256 * 1024
_BURST = 8  # chunks that one pipe may fill before others have their turn


class OutputPipes:
    """The pipes of one process that are still open.

    ``waits``: a consumer that lags holds the process up, instead of losing output. ``on_closed`` is called when the
    last one is closed, ``on_caught_up`` after read_rest() once all that was written before it has been read.
    """

    __slots__ = ("_fds", "_log", "_on_caught_up", "_on_closed", "_paused", "_poller", "_rest", "_wide", "waits")

    def __init__(
        self,
        fds: Mapping[Stream, int],
        log: OutputLog,
        poller: Poller,
        on_closed: Callable[[], None],
        on_caught_up: Callable[[], None],
    ) -> None:
        self._fds = dict(fds)
        self._log = log
        self._poller = poller
        self._on_closed = on_closed
        self._on_caught_up = on_caught_up
        self._rest: dict[Stream, int] = {}  # bytes that are left of what read_rest() is to read
        self._paused = False
        self._wide = False
        self.waits = False

    def __bool__(self) -> bool:
        return bool(self._fds)

    @property
    def fds(self) -> Collection[int]:
        """Return the descriptors of those that are open."""
        return self._fds.values()

    def listen(self) -> None:
        """Begin to read."""
        for stream, fd in self._fds.items():
            self._poller.add(fd, self._read_out if stream == "out" else self._read_err)

    def resume(self) -> None:
        """Go on if reading was held up, and the log has room, or no consumer waits for it any more."""
        if self._paused and self._room() > 0:
            self._paused = False
            self.listen()

    def _room(self) -> int:
        """Bytes that may be read now: what is free if the process waits for consumers, else always a chunk."""
        if self.waits and self._log.consumers:
            if len(self._log.records) >= limits.MAX_RECORDS:
                return 0
            return min(CHUNK, self._log.capacity - self._log.buffered)
        return CHUNK

    def _read_out(self) -> bool:
        return self._read("out")

    def _read_err(self) -> bool:
        return self._read("err")

    def _read(self, stream: Stream) -> bool:
        """Return whether its writer may be waiting: it was much, or there is more."""
        total = 0
        for _ in range(_BURST):
            most = self._room()
            if most <= 0:
                self._pause()
                return False
            size = self._log.splice_from(self._fds[stream], stream, most)
            if size == 0:
                self._close(stream)
            if self._rest:
                self._note_read(stream, size)
            total += size or 0
            if total >= CHUNK // 2 and not self._wide:
                self._widen()
            if size is None or size < min(most, self._log.capacity) or stream not in self._fds:
                return total >= CHUNK
        return True

    def _widen(self) -> None:
        """Give the child room to write on while papad does something else: it fills its pipes."""
        self._wide = True
        for fd in self._fds.values():
            with suppress(OSError):  # the user has as many as there may be (pipe(7), pipe-user-pages-soft)
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _WIDE)

    def _pause(self) -> None:
        self._paused = True
        for fd in self._fds.values():
            self._poller.remove(fd)

    def _close(self, stream: Stream) -> None:
        fd = self._fds.pop(stream)
        self._poller.remove(fd)
        os.close(fd)
        if not self._fds:
            self._log.complete()
            self._on_closed()

    # --------------------------------------------------- once the process has ended

    def read_rest(self) -> None:
        """Read what is in them now: it was written before the end. A descendant may write on for ever."""
        self._rest = {stream: readable(fd) for stream, fd in self._fds.items()}
        for stream in list(self._fds):
            if self._rest.get(stream) and not self._paused:
                self._read(stream)
        self._look_whether_caught_up()

    def _note_read(self, stream: Stream, size: int | None) -> None:
        left = self._rest.get(stream, 0) - (size or 0)
        self._rest[stream] = max(0, left) if size else 0
        self._look_whether_caught_up()

    def _look_whether_caught_up(self) -> None:
        if not any(self._rest.values()):
            self._rest.clear()
            self._on_caught_up()

    def close_ended(self) -> None:
        """Close those that nobody can write to any more, and that hold nothing."""
        for stream, fd in list(self._fds.items()):
            if _at_its_end(fd):
                self._close(stream)


def _at_its_end(pipe: int) -> bool:
    """Return whether a pipe has no writer and holds nothing (poll(2))."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return [events for _, events in poll.poll(0)] == [select.POLLHUP]
