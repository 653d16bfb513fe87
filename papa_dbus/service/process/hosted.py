"""Hosted processes: a program, its log and its end.

The kernel knows the names; this module knows one process at a time. Its states are a table.
"""

import asyncio
import enum
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from papa_dbus.errors import NotFound
from papa_dbus.service.clock import now
from papa_dbus.service.fork.exit_status import NOT_YET_REAPED, STILL_RUNNING, poll_exit_status
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.rows import StoredProcess
from papa_dbus.service.output.files import LogFiles
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.records import Stream
from papa_dbus.service.process.pipe_poller import Poller
from papa_dbus.service.process.pipes import OutputPipes
from papa_dbus.state_table import follow

log = logging.getLogger(__name__)

#: Puts a process that stands at its gate into a unit of its own: PID, name and the unit's limits in (by option), the
#: unit's name out, or None. Raises Spawn where a limit does not hold.
ScopeAssigner = Callable[[int, str, Mapping[str, int]], Awaitable[str | None]]

#: Seconds between two looks at a process that has ended, that systemd has not reaped yet, and whose exit code is not
#: known before: first, and at most. After so many in all it is reported as unknown.
_FIRST_LOOK, _LAST_LOOK, _LOOKS_SECONDS = 0.02, 2.0, 60.0


class State(enum.Enum):
    """Where a process is in its life."""

    RUNNING = "running"
    ENDING = "ending"  # it has ended; what it wrote before is still being read
    ENDED = "ended"
    GONE = "gone"


class StateEvent(enum.Enum):
    """What happens to a process."""

    END = enum.auto()
    READ = enum.auto()  # all that it wrote before its end
    DISPOSE = enum.auto()  # nobody wants anything of it any more


STATE: Final = {
    State.RUNNING: {StateEvent.END: State.ENDING},
    State.ENDING: {StateEvent.READ: State.ENDED},
    State.ENDED: {StateEvent.DISPOSE: State.GONE},
    State.GONE: {},
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
        "_pipes",
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
        self._pipes = OutputPipes(fds.pipes, self.log, callbacks.poller, self._note_releasable, self._finish)
        self._set_waits()
        self._looking = False
        self._ended_at = 0
        if self.log.exit is not None:
            self.exit_code = self.log.exit.code
            self.state = State.ENDED
        else:
            callbacks.poller.add(self.pidfd, self._poll)
        self._pipes.listen()

    @property
    def removed(self) -> bool:
        """Return whether its output is no longer kept, and it leaves the list when it ends."""
        return self.facts.removed

    # ------------------------------------------------------------------ output

    def _set_waits(self) -> None:
        self._pipes.waits = self.spec.overflow == "block" and not self.removed

    def _on_room(self) -> None:
        """Go on if reading was held up: something has left the log, or its consumers have."""
        self._pipes.resume()
        self._callbacks.on_releasable(self)

    def _note_releasable(self) -> None:
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
        self._happen(StateEvent.END)
        self._pipes.read_rest()

    def _finish(self) -> None:
        """Note its end behind what it wrote before."""
        if self.state is not State.ENDING:
            return
        # Now, not when the loop comes to it: a client that acknowledges the end, and asks for the list, may be served
        # before that, and would find the process still there.
        self._pipes.close_ended()
        # What it wrote before may have been read after it: times go in the order of the numbers.
        self.log.end(self.exit_code, max(self._ended_at, self.log.records.last_time))
        self._happen(StateEvent.READ)
        self._callbacks.on_end(self)
        self._callbacks.on_releasable(self)

    def _happen(self, event: StateEvent) -> None:
        self.state = follow(STATE, self.state, event)

    @property
    def running(self) -> bool:
        """Return whether it has not ended."""
        return self.state is State.RUNNING

    @property
    def gone(self) -> bool:
        """Return whether nothing more can be read of it."""
        return self.state is State.GONE

    @property
    def fully_acknowledged(self) -> bool:
        """Return whether nobody reads it, and nobody can want to: what it printed and how it ended was acknowledged."""
        if self.state is not State.ENDED or self.log.readers:
            return False
        return self.removed or (self.log.exit_acknowledged and not self.log.buffered)

    @property
    def is_consumed_to_its_end(self) -> bool:
        """Return whether it has ended, and somebody is about to acknowledge the rest."""
        if self.state is State.RUNNING:
            return False
        return self.log.has_present_consumers and not self.log.exit_acknowledged

    @property
    def holds_pipes(self) -> bool:
        """Return whether somebody may still write: then its pipes stay open, and are kept."""
        return bool(self._pipes)

    @property
    def removable(self) -> bool:
        """Return whether it has ended and nobody can want anything of it any more."""
        if self.state is not State.ENDED:
            return False
        if self.removed:
            return True
        return self.log.exit_acknowledged and not self.log.buffered and not self._pipes

    # ------------------------------------------------------------------- hands

    def forget_output(self) -> None:
        """Keep nothing more of it; what it still writes is read and thrown away, so that it can go on."""
        self.facts = replace(self.facts, removed=True)
        self._set_waits()
        self.log.discard_all()
        self._on_room()

    def duplicate_pidfd(self) -> int:
        """Return a pidfd for a client. Raises NotFound once the process has ended."""
        if not self.running:
            raise NotFound(f"process '{self.spec.name}' has ended; only one that runs can be opened")
        return os.dup(self.pidfd)

    def keep_output(self) -> None:
        """Keep output again, after forget_output(): the process has been asked for anew."""
        if self.removed:
            self.facts = replace(self.facts, removed=False)
            self._set_waits()
            self.log.resume(self.spec.bufsize if self._pipes else 0)

    def dispose(self) -> None:
        """Give back what it holds. A descendant that still writes is read until it closes the pipe."""
        self._happen(StateEvent.DISPOSE)
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
        """Return what a client may know."""
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
            exit_timestamp=log_.exit.timestamp if log_.exit is not None else self._ended_at or None,
            stdout=spec.stdout,
            stderr=spec.stderr,
            overflow=spec.overflow,
            bufsize=spec.bufsize,
            buffered=log_.buffered,
            dropped=log_.dropped,
            written=log_.written,
            last_seq=log_.records.last_seq,
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
