"""The processes that papad hosts, by name: made, listed, removed, and superseded by a namesake."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from papa_dbus.errors import Exists
from papa_dbus.service import audit, limits
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.fork.exit_status import how_ended
from papa_dbus.service.items.registry import Registry
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.rows import StoredProcess
from papa_dbus.service.items.specs import ProcessSpec, differences
from papa_dbus.service.items.store import Store
from papa_dbus.service.journal.scheduler import Scheduler
from papa_dbus.service.kernel.changes import Tell
from papa_dbus.service.kernel.consumers import Consumers
from papa_dbus.service.kernel.recovery import Recovery
from papa_dbus.service.kernel.reservation import Reservations
from papa_dbus.service.kernel.selection import all_found, check_some, not_there
from papa_dbus.service.kernel.starts import Starts, answers
from papa_dbus.service.kernel.superseded import Superseded
from papa_dbus.service.kernel.tokens import Tokens
from papa_dbus.service.output.readers import Absent
from papa_dbus.service.process.hosted import HostedProcess, ProcessCallbacks
from papa_dbus.service.process.pipe_poller import Poller
from papa_dbus.service.remedies import typed
from papa_dbus.service.steps import AT_ONCE, Chores, Turn

log = logging.getLogger(__name__)

#: Starts a process: with what it is asked for, and what it calls later. After an error nothing of it is left.
Starter = Callable[[ProcessSpec, ProcessCallbacks], Awaitable[HostedProcess]]


class Processes:
    """The processes by name. What is done is stored, recorded and told.

    ``on_made`` is called with each that has been made: watches may follow it.
    """

    def __init__(
        self,
        store: Store,
        reservations: Reservations,
        tell: Tell,
        journal: Scheduler,
        chores: Chores,
        start: Starter,
    ) -> None:
        self.on_made: Callable[[HostedProcess], None] = lambda process: None
        self._store = store
        self._reservations = reservations
        self._tell = tell
        self._journal = journal
        self._start = start
        self._listed: Registry[HostedProcess] = Registry()
        self._by_pid: dict[int, HostedProcess] = {}  # those that are listed; of two, the one that had it last
        self._tokens: Tokens[ProcessInfo] = Tokens("process", store)
        self.superseded = Superseded(store, self._tokens, journal)
        self.consumers = Consumers(chores, self.superseded)
        self._starts = Starts(store, reservations, self._tokens, self._recovered_later)
        self._starting = Turn()
        self.callbacks = ProcessCallbacks(on_end=self._ended, on_releasable=self._releasable, poller=Poller())

    @property
    def listed(self) -> Mapping[str, HostedProcess]:
        """Return all that are listed, as they are now, by name."""
        return self._listed

    def every(self) -> list[HostedProcess]:
        """Return all that are listed or still being read."""
        return [*self._listed.values(), *self.superseded]

    def readable(self, name: str, who: str = "") -> list[HostedProcess]:
        """Return what a new watch of a name reads: predecessors that are unread, and the one that is listed, if any.

        ``who`` is the watch's client if it consumes.
        """
        present = self._listed.get(name)
        return [*self.superseded.unread(name, who), *([] if present is None else [present])]

    def noted(self, names: Collection[str]) -> "asyncio.Future[None] | None":
        """Return what tells when it is stored how far consumers of these have come, None if it is.

        Whoever has to do with others waits for none of it: one client's watches can make much of it.
        """
        noted = self.consumers.noted()
        if noted is None or len(names) > AT_ONCE:  # to look at all of those takes time, too
            return noted
        processes = (each for name in names for each in (self._listed.get(name), *self.superseded.of(name)))
        return noted if any(self.consumers.waits(each) for each in processes if each) else None

    # ------------------------------------------------------------------ making

    async def make(self, spec: ProcessSpec) -> ProcessInfo:
        """Do what `Kernel.make_process` says."""
        key = ("process", spec.name)
        await self._reservations.wait_for(key)
        if (answer := self._tokens.find(spec)) is not None:
            return answer
        existing = self._listed.get(spec.name)
        if existing is not None:
            existing.poll()  # its end may not have been noticed yet
        existing = self._listed.get(spec.name)
        if existing is not None and existing.running:
            return self._give(existing, spec)
        self._check_startable(spec, existing)
        with self._reservations.reserve(key), self._tokens.making(spec):
            async with self._starting:  # a fork takes its time, and others have their turn between two
                await asyncio.sleep(0)
            process = await self._start(spec, self.callbacks)
            if spec.name in self._listed:
                self._unlist(self._listed[spec.name])
            self._list(process)
            self._tokens.made(spec, process)
        self._forward_output(process)
        detail = f"PID {process.pid} runs {spec.command[0]} as uid {process.facts.uid}"
        audit.record("made", "process", spec.name, detail)
        self.on_made(process)
        self._tell("process", "added", spec.name)
        return process.info()

    def _give(self, process: HostedProcess, spec: ProcessSpec) -> ProcessInfo:
        if process.spec != spec:
            raise Exists(
                f"process '{spec.name}' already runs (PID {process.pid}), and differs in"
                f" {differences(spec, process.spec)}; end it first, or use another name"
            )
        if process.removed:
            self._store.update_process(process.key, replace(process.facts, removed=False), "running")
            process.keep_output()
        self._tokens.given(spec, process)
        return process.info()

    def _check_startable(self, spec: ProcessSpec, existing: HostedProcess | None) -> None:
        """Raise NotSupported, Exists or Limit. ``existing``: one of that name that has ended."""
        if spec.journal:
            self._journal.check()
        if existing is not None:
            _check_free(existing)
        if existing is None or existing.log.readers:  # it stays while it is read; one that is not read goes
            there_are = len(self._listed) + self.superseded.in_all
            self._reservations.check_room("process", spec.name, there_are, limits.MAX_PROCESSES)

    def _forward_output(self, process: HostedProcess) -> None:
        self.consumers.follow(process)
        if process.spec.journal:
            facts = process.facts
            self._journal.add(process.key, process.spec.name, process.pid, facts.unit, process.log, facts.last_words)

    # ----------------------------------------------------- listing and removing

    def each(self, patterns: Sequence[str]) -> Iterator[ProcessInfo]:
        """Give those that match, one by one, all without a pattern: what goes meanwhile is left out.

        Arguments are whole if one name is asked for.
        """
        found, _ = self.select(patterns)
        infos = (self._listed[name].info() for name in found if name in self._listed)
        return infos if len(patterns) == 1 and found == list(patterns) else (info.short() for info in infos)

    def select(self, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the names that match a name, a prefix with '*', or a PID, and the patterns that are missing."""
        return self._listed.select(patterns, self._name_of_pid)

    def _name_of_pid(self, pid: int) -> str | None:
        process = self._by_pid.get(pid)
        return None if process is None else process.spec.name

    def removing(self, patterns: Sequence[str]) -> Iterator[str]:
        """Forget output, process by process; give their names. Raises NotFound if one is not there, then forgets none.

        One that has ended leaves the list, one that runs leaves it when it ends.
        """
        return self._remove(all_found(*self.select(check_some(patterns, "process")), "process"))

    def _remove(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            process = self._listed.get(name)
            if process is None:  # it has gone meanwhile
                continue
            self._store.update_process(process.key, replace(process.facts, removed=True), "running")
            crash_point("process removed")
            audit.record("removed", "process", name)
            process.forget_output()
            yield name

    def open(self, name: str) -> int:
        """Return a pidfd of a process that runs, for the caller to close. Raises NotFound."""
        if name not in self._listed:
            raise not_there("process", name)
        return self._listed[name].duplicate_pidfd()

    # ----------------------------------------------------------------- the end

    def _ended(self, process: HostedProcess) -> None:
        if not process.spec.journal:  # its end stands behind its last line there
            log.info(
                "process '%s' (PID %d) %s",
                process.spec.name,
                process.pid,
                how_ended(process.exit_code),
                extra={"PAPA_PROCESS": process.spec.name},
            )
        if process not in self.superseded:
            self._tell("process", "changed", process.spec.name)

    def _releasable(self, process: HostedProcess) -> None:
        if self.superseded.release(process):
            return
        if process.removable and self._listed.get(process.spec.name) is process:
            self._unlist(process)

    def _list(self, process: HostedProcess) -> None:
        self._listed[process.spec.name] = process
        self._by_pid[process.pid] = process

    def _unlist(self, process: HostedProcess) -> None:
        name = process.spec.name
        del self._listed[name]
        self._forget_pid(process)
        self.superseded.add(process)
        if process.log.readers:
            self.superseded.store_facts(process, process.facts)
        elif not process.log.buffered:
            process.forget_output()  # nobody reads it, and there is nothing to be read
        self._releasable(process)
        self._tell("process", "removed", name)

    def _forget_pid(self, process: HostedProcess) -> None:
        if self._by_pid.get(process.pid) is process:  # else Linux has given it to another
            del self._by_pid[process.pid]

    @property
    def is_idle(self) -> bool:
        """Return whether none is listed, and nobody wants anything of those that were, but the journal."""
        return not self._listed and all(process.fully_acknowledged for process in self.superseded)

    def has_last_words(self) -> bool:
        """Return whether there is output to be read, or an end that a consumer is about to acknowledge."""
        return self.callbacks.poller.has_more() or any(process.is_consumed_to_its_end for process in self.every())

    def close(self) -> None:
        """Store how far consumers have come, and read nothing more."""
        self.consumers.close()
        self.callbacks.poller.close()

    # ---------------------------------------------------------------- recovery

    def recover(self, recovery: Recovery) -> None:
        """Host again what an earlier papad has hosted, at once or when it has executed its program."""
        adopted = [self._adopt(stored, process) for stored, process in recovery.processes()]
        there = {process.key: process.info for process in adopted}
        self._tokens.recover({**answers(recovery.starting), **there})
        for process in adopted:
            self._settle(process)
        recovery.finish()
        self._starts.wait_for(recovery.starting, recovery)

    def _recovered_later(self, stored: StoredProcess, process: HostedProcess) -> None:
        self._adopt(stored, process)
        self._tokens.now_answer(process.key, process.info)
        self._tell("process", "added", process.spec.name)
        self._settle(process)

    def _adopt(self, stored: StoredProcess, process: HostedProcess) -> HostedProcess:
        self._forward_output(process)
        for who, seq, offset in stored.facts.consumers:
            here = process.log.acknowledged, process.log.acknowledged_offset
            process.log.attach(Absent(who, *max((seq, offset), here)))
        if stored.state == "retired":
            self.superseded.add(process)
        else:
            older = self._listed.get(stored.spec.name)
            self._listed[stored.spec.name] = process
            if older is not None:  # papad was killed between its successor's start and its retirement
                self._forget_pid(older)
                self.superseded.add(older)
                self.superseded.store_facts(older, older.facts)
            self._by_pid[process.pid] = process
        return process

    def _settle(self, process: HostedProcess) -> None:
        """Notice what has become of a process while papad was away."""
        process.poll()
        self._releasable(process)


def _check_free(process: HostedProcess) -> None:
    """Raise Exists where a process that has ended still has something to say to nobody who listens."""
    if process.log.buffered and not process.log.consumers:
        raise Exists(
            f"process '{process.spec.name}' has ended, and {process.log.buffered} bytes of its output are unread:"
            f" acknowledge or remove them {typed('remove', 'remove process', process.spec.name)}"
        )
