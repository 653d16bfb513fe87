"""Hosted processes: a program, its output pipes, its log and its end.

The kernel knows the names; this module knows one process at a time. Its states are a table.
"""

import asyncio
import enum
import fcntl
import logging
import os
import select
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from papa_dbus.errors import NotFound
from papa_dbus.service import limits
from papa_dbus.service.clock import now
from papa_dbus.service.fork.exit_status import NOT_YET_REAPED, STILL_RUNNING, poll_exit_status
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.rows import StoredProcess
from papa_dbus.service.output.files import LogFiles
from papa_dbus.service.output.log import CHUNK, OutputLog, Stream
from papa_dbus.service.process.gate import (
    readable,
)
from papa_dbus.service.process.pipe_poller import Poller

log = logging.getLogger(__name__)


#: Puts a process that stands at its gate into a unit of its own: PID, name and the unit's limits in (by option), the
#: unit's name out, or None. Raises Spawn where a limit does not hold.
ScopeAssigner = Callable[[int, str, Mapping[str, int]], Awaitable[str | None]]

#: Seconds between two looks at a process that has ended, that systemd has not reaped yet, and whose exit code is not
#: known before: first, and at most. After so many in all it is reported as unknown.
_FIRST_LOOK, _LAST_LOOK, _LOOKS_SECONDS = 0.02, 2.0, 60.0
#: Bytes that the pipes of a process hold that has filled one: 64 KiB are filled in less than a turn of the loop.
_WIDE = 256 * 1024
_BURST = 8  # chunks that one pipe may fill before others have their turn


class State(enum.Enum):
    """Where a process is in its life."""

    RUNNING = "running"
    ENDING = "ending"  # it has ended; what it wrote before is still being read
    ENDED = "ended"
    GONE = "gone"


_NEXT = {
    State.RUNNING: {State.ENDING},
    State.ENDING: {State.ENDED},
    State.ENDED: {State.GONE},
    State.GONE: set[State](),
}


class HostedProcess:
    """A process that the kernel holds, from its first instruction until its end has been acknowledged.

    ``on_end`` is called once, when its end has been noted; ``on_releasable`` whenever something that held it may be
    gone.
    """

    __slots__ = (
        "_callbacks",
        "_ended_at",
        "_looking",
        "_paused",
        "_pipes",
        "_unread_at_exit",
        "_wide",
        "exit_code",
        "facts",
        "key",
        "log",
        "pid",
        "pidfd",
        "spec",
        "state",
    )

    def __init__(
        self, stored: StoredProcess, fds: "ProcessFds", callbacks: "ProcessCallbacks", recovered: bool = False
    ) -> None:
        self.key = stored.key
        self.spec = stored.spec
        self.facts = stored.facts
        self.pid = stored.facts.pid
        self.pidfd = fds.pidfd
        self.state = State.RUNNING
        self.exit_code: int | None = None
        make_log = OutputLog.recover if recovered else OutputLog
        capacity = self.spec.bufsize if stored.pipes and not self.removed else 0
        self.log = make_log(capacity, self._on_room, fds.files)
        self._callbacks = callbacks
        self._pipes = dict(fds.pipes)
        self._unread_at_exit: dict[Stream, int] = {}
        self._paused = False
        self._wide = False
        self._looking = False
        self._ended_at = 0
        if self.log.exit is not None:
            self.exit_code = self.log.exit.code
            self.state = State.ENDED
        else:
            callbacks.poller.add(self.pidfd, self._poll)
        self._listen()

    @property
    def removed(self) -> bool:
        """Whether its output is no longer kept, and it leaves the list when it ends."""
        return self.facts.removed

    # ------------------------------------------------------------------ output

    def _listen(self) -> None:
        for stream, fd in self._pipes.items():
            self._callbacks.poller.add(fd, self._read_out if stream == "out" else self._read_err)

    def _room(self) -> int:
        """Bytes that may be read now: with ``overflow=block`` what is free, else always a chunk."""
        if self.spec.overflow == "block" and not self.removed and self.log.consumers:
            if self.log.records >= limits.MAX_RECORDS:
                return 0
            return min(CHUNK, self.log.capacity - self.log.buffered)
        return CHUNK

    def _read_out(self) -> bool:
        return self._read("out")

    def _read_err(self) -> bool:
        return self._read("err")

    def _read(self, stream: Stream) -> bool:
        """Returns whether its writer may be waiting: it was much, or there is more."""
        total = 0
        for _ in range(_BURST):
            most = self._room()
            if most <= 0:
                self._pause()
                return False
            size = self.log.splice_from(self._pipes[stream], stream, most)
            if size == 0:
                self._close_pipe(stream)
            if self._unread_at_exit:
                self._note_read(stream, size)
            total += size or 0
            if total >= CHUNK // 2 and not self._wide:
                self._widen()
            if size is None or size < min(most, self.log.capacity) or stream not in self._pipes:
                return total >= CHUNK
        return True

    def _widen(self) -> None:
        """Give the child room to write on while papad does something else: it fills its pipes."""
        self._wide = True
        for fd in self._pipes.values():
            with suppress(OSError):  # the user has as many as there may be (pipe(7), pipe-user-pages-soft)
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _WIDE)

    def _pause(self) -> None:
        self._paused = True
        for fd in self._pipes.values():
            self._callbacks.poller.remove(fd)

    def _on_room(self) -> None:
        """Something has left the log, or its consumers have: go on where reading was held up."""
        if self._paused and self._room() > 0:
            self._paused = False
            self._listen()
        self._callbacks.on_releasable(self)

    def _close_pipe(self, stream: Stream) -> None:
        fd = self._pipes.pop(stream)
        self._callbacks.poller.remove(fd)
        os.close(fd)
        if not self._pipes:
            self.log.complete()
            self._callbacks.on_releasable(self)

    # --------------------------------------------------------------------- end

    def _poll(self) -> bool:
        self.poll()
        return False

    def poll(self) -> None:
        """Notice the process's end, if it has ended."""
        if self.state is not State.RUNNING or self._looking:
            return
        end = poll_exit_status(self.pidfd)
        if end is NOT_YET_REAPED:
            self._looking = True
            self._callbacks.poller.remove(self.pidfd)
            asyncio.get_running_loop().call_later(_FIRST_LOOK, self._look_again, _FIRST_LOOK)
        elif end is not STILL_RUNNING:
            self._note_end(end if isinstance(end, int) else None)

    def _look_again(self, pause: float, waited: float = 0.0) -> None:
        """Look whether systemd has reaped what is no longer papad's child, after a growing pause."""
        if self.state is not State.RUNNING:
            return
        end = poll_exit_status(self.pidfd)
        waited += pause
        if end is NOT_YET_REAPED and waited < _LOOKS_SECONDS:
            pause = min(2 * pause, _LAST_LOOK)
            asyncio.get_running_loop().call_later(pause, self._look_again, pause, waited)
        else:
            self._note_end(end if isinstance(end, int) else None)

    def _note_end(self, code: int | None) -> None:
        self._callbacks.poller.remove(self.pidfd)
        self.exit_code = code
        self._ended_at = now()
        self._move(State.ENDING)
        self._unread_at_exit = {stream: readable(fd) for stream, fd in self._pipes.items()}
        for stream in list(self._pipes):
            # What is in a pipe now was written before the end; a descendant may write on for ever.
            if self._unread_at_exit.get(stream) and not self._paused:
                self._read(stream)
        self._finish_if_read()

    def _note_read(self, stream: Stream, size: int | None) -> None:
        left = self._unread_at_exit.get(stream, 0) - (size or 0)
        self._unread_at_exit[stream] = max(0, left) if size else 0
        self._finish_if_read()

    def _finish_if_read(self) -> None:
        if self.state is State.ENDING and not any(self._unread_at_exit.values()):
            self._unread_at_exit.clear()
            for stream, fd in list(self._pipes.items()):
                # Now, not when the loop comes to it: a client that acknowledges the end, and asks for the list, may be
                # served before that, and would find the process still there.
                if _at_its_end(fd):
                    self._close_pipe(stream)
            # What it wrote before may have been read after it: times go in the order of the numbers.
            self.log.end(self.exit_code, max(self._ended_at, self.log.last_time))
            self._move(State.ENDED)
            self._callbacks.on_end(self)
            self._callbacks.on_releasable(self)

    def _move(self, state: State) -> None:
        if state not in _NEXT[self.state]:
            raise RuntimeError(f"process '{self.spec.name}' cannot go from {self.state} to {state}")
        self.state = state

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.state is State.RUNNING

    @property
    def fully_acknowledged(self) -> bool:
        """Whether nobody reads it, and nobody can want to: what it printed and how it ended was acknowledged."""
        if self.state is not State.ENDED or self.log.readers:
            return False
        return self.removed or (self.log.exit_acknowledged and not self.log.buffered)

    @property
    def is_consumed_to_its_end(self) -> bool:
        """Whether it has ended, and somebody is about to acknowledge the rest."""
        if self.state is State.RUNNING:
            return False
        return self.log.has_present_consumers and not self.log.exit_acknowledged

    @property
    def holds_pipes(self) -> bool:
        """Return whether somebody may still write: then its pipes stay open, and are kept."""
        return bool(self._pipes)

    @property
    def removable(self) -> bool:
        """Whether it has ended and nobody can want anything of it any more."""
        if self.state is not State.ENDED:
            return False
        if self.removed:
            return True
        return self.log.exit_acknowledged and not self.log.buffered and not self._pipes

    # ------------------------------------------------------------------- hands

    def forget_output(self) -> None:
        """Keep nothing more of it; what it still writes is read and thrown away, so that it can go on."""
        self.facts = replace(self.facts, removed=True)
        self.log.discard_all()
        self._on_room()

    def duplicate_pidfd(self) -> int:
        """A pidfd for a client. Raises NotFound once the process has ended."""
        if not self.running:
            raise NotFound(f"process '{self.spec.name}' has ended")
        return os.dup(self.pidfd)

    def keep_output(self) -> None:
        """Keep output again, after forget_output(): the process has been asked for anew."""
        if self.removed:
            self.facts = replace(self.facts, removed=False)
            self.log.resume(self.spec.bufsize if self._pipes else 0)

    def dispose(self) -> None:
        """Give back what it holds. A descendant that still writes is read until it closes the pipe."""
        self._move(State.GONE)
        os.close(self.pidfd)
        if self._pipes:
            log.info(
                "process '%s' (PID %d): a descendant holds its output open; what it writes is no longer kept",
                self.spec.name,
                self.pid,
            )
        self.forget_output()
        self.log.close()

    def info(self) -> ProcessInfo:
        """What a client may know."""
        spec, log_ = self.spec, self.log
        return ProcessInfo(
            name=spec.name,
            pid=self.pid,
            running=self.running,
            started=self.facts.started,
            args=spec.command,
            uid=self.facts.uid,
            gid=self.facts.gid,
            working_dir=self.facts.working_dir,
            exit_code=self.exit_code,
            bufsize=spec.bufsize,
            buffered=log_.buffered,
            dropped=log_.dropped,
            written=log_.written,
            last_seq=log_.last_seq,
            acknowledged=log_.acknowledged,
            unit=self.facts.unit,
            as_user=spec.uid is not None,
            as_group=spec.gid is not None,
            **spec.shown,
        )


@dataclass(frozen=True, slots=True)
class ProcessCallbacks:
    """What the kernel wants to hear of a process, and what reads it."""

    on_end: Callable[[HostedProcess], None]
    on_releasable: Callable[[HostedProcess], None]
    poller: Poller


@dataclass(frozen=True, slots=True)
class ProcessFds:
    """The descriptors of a process that outlive papad."""

    pidfd: int
    pipes: Mapping[Stream, int]
    files: LogFiles


def _at_its_end(pipe: int) -> bool:
    """Whether a pipe has no writer and holds nothing (poll(2))."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return [events for _, events in poll.poll(0)] == [select.POLLHUP]
