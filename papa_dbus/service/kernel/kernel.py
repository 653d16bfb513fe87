"""The kernel: three registries, and the rules about them.

Knows no protocol, no bus and no systemd. A front end calls its methods and hears of changes by plain callbacks.
"""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from papa_dbus import names
from papa_dbus.errors import Exists, InvalidArgs, Limit, NotFound, PapaError, Spawn
from papa_dbus.service import audit, limits
from papa_dbus.service.caller import acting_caller
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.fork.fork import Fork, fork_here
from papa_dbus.service.items import sockets
from papa_dbus.service.items.registry import Patterns, Registry, is_number
from papa_dbus.service.items.results import ProcessInfo, SocketInfo
from papa_dbus.service.items.rows import ProcessRecord, StoredProcess
from papa_dbus.service.items.socket_files import SocketFiles
from papa_dbus.service.items.sockets import HostedSocket
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec, WatchSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.items.values import Values
from papa_dbus.service.journal.forwarder import LastWords
from papa_dbus.service.journal.scheduler import Journal, NoJournal, Scheduler
from papa_dbus.service.kernel.recovery import Recovery, Start, losses
from papa_dbus.service.kernel.reservation import NameReservation
from papa_dbus.service.kernel.superseded import Superseded
from papa_dbus.service.kernel.tokens import Tokens
from papa_dbus.service.lookups import Lookups
from papa_dbus.service.output.cursor import Position
from papa_dbus.service.output.readers import OTHERS, Absent, Reader, consumers_of
from papa_dbus.service.output.watches import End, Watch
from papa_dbus.service.process import start as process_start
from papa_dbus.service.process.hosted import HostedProcess, ProcessCallbacks, ScopeAssigner
from papa_dbus.service.process.pipe_poller import Poller
from papa_dbus.service.shares import Share, Shares
from papa_dbus.service.steps import Chores

log = logging.getLogger(__name__)


Kind = Literal["socket", "value", "process"]
What = Literal["added", "changed", "removed"]
_PLURALS: Mapping[Kind, str] = {"socket": "sockets", "process": "processes"}
_NUMBERED = re.compile(r"-\d+$")
_LOOK = 0.01  # seconds between two looks whether all last words are told


@dataclass(frozen=True, slots=True)
class Change:
    """Something has become another: ``changed`` is a process's end."""

    kind: Kind
    what: What
    name: str


async def no_scope(pid: int, name: str, resources: Mapping[str, int]) -> None:
    """Leave processes where papad is: for a machine without systemd."""


class Kernel:
    """Holds sockets, values and processes by name, and decides nothing else."""

    def __init__(
        self, assign_scope: ScopeAssigner = no_scope, store: Store | None = None, journal: Journal | None = None
    ) -> None:
        self.assign_scope = assign_scope
        self.fork: Fork = fork_here
        self._store = store or Store()
        self.listeners: list[Callable[[Change], None]] = []
        self.on_exit: Callable[[], None] = lambda: None
        self._sockets: Registry[HostedSocket] = Registry()
        self._values = Values()
        self._processes: Registry[HostedProcess] = Registry()
        self._by_pid: dict[int, HostedProcess] = {}  # those that are listed; of two, the one that had it last
        self._superseded = Superseded()  # replaced by a namesake, and still being read
        self._leaving: set[HostedProcess] = set()  # gone, but for descendants that hold its pipes open
        self._absences: dict[Absent, tuple[float, HostedProcess]] = {}  # with the loop's time at which each is given up
        self._absence: asyncio.TimerHandle | None = None  # until the first of them is
        self._to_note: dict[HostedProcess, None] = {}  # how far the consumers of these have come is to be stored
        self._will_note = False  # all of those
        self._noted: asyncio.Future[None] | None = None
        self._chores = Chores()
        self._socket_tokens: Tokens[SocketInfo] = Tokens("socket", self._store)
        self._process_tokens: Tokens[ProcessInfo] = Tokens("process", self._store)
        self._recovering: list[asyncio.Task[None]] = []
        self._pending: dict[tuple[str, str], asyncio.Future[None]] = {}  # by kind and name, or "path" and path
        self._starting = asyncio.Lock()
        self._lookups = Lookups()
        self._files = SocketFiles(lambda: self.fork)
        self._watches: dict[int, Watch] = {}
        self._watches_of: dict[Watch, Share] = {}
        self._followers: Patterns[Watch] = Patterns()
        self._last_watch = 0
        self._watch_shares = Shares(limits.MAX_WATCHES_PER_CLIENT, limits.MAX_WATCHES_OF_USER, limits.MAX_WATCHES)
        self._cursors = Shares(limits.MAX_CURSORS_OF_CLIENT, limits.MAX_CURSORS_OF_USER, limits.MAX_CURSORS)
        self._journal = Scheduler(journal or NoJournal(), self._journal_has_all)
        self._callbacks = ProcessCallbacks(
            on_end=self._process_ended, on_releasable=self._process_releasable, poller=Poller()
        )

    def _tell(self, kind: Kind, what: What, name: str) -> None:
        for listener in self.listeners:
            try:
                listener(Change(kind, what, name))
            except Exception:  # what has changed has changed, and others are still to be told
                log.exception("a change of %s '%s' could not be told", kind, name)

    # ----------------------------------------------------------------- sockets

    async def make_socket(self, spec: SocketSpec) -> SocketInfo:
        """Host a socket. Raises Exists, Bind or Limit; asked for again it is given as it is."""
        keys = _keys(spec)
        await self._wait_for_name(*keys)
        if (answer := self._socket_tokens.find(spec)) is not None:
            return answer
        existing = self._sockets.get(spec.name)
        if existing is not None:
            if not spec.asks_for(existing.spec, existing.port):
                raise Exists(f"socket '{spec.name}' is there, with other options")
            if not existing.spec.passed:  # at each start that is another one
                self._socket_tokens.given(spec, existing)
            return existing.info()
        self._check_room("socket", spec.name, len(self._sockets), limits.MAX_SOCKETS)
        for other in self._sockets.values():
            if spec.path is not None and other.spec.path == spec.path:
                raise Exists(f"socket '{spec.name}': socket '{other.spec.name}' has the path {spec.path}")
        with self._reserve_name(*keys), self._socket_tokens.making(spec):
            hosted = await sockets.open_socket(spec, self._lookups, self._files)
            try:
                hosted.key = self._store.add_socket(spec, hosted.port, hosted.fileno, hosted.file)
            except BaseException:
                self._close_socket(hosted)
                raise
            crash_point("socket stored")
            try:
                await self._store.kept()
            except BaseException:
                self._close_socket(hosted)
                self._store.withdraw_socket(hosted.key, spec)
                raise
            self._sockets[spec.name] = hosted
            self._socket_tokens.made(spec, hosted)
        audit.record("made", "socket", spec.name)
        self._tell("socket", "added", spec.name)
        return hosted.info()

    def _check_room(self, kind: Kind, name: str, there: int, most: int) -> None:
        """Raise Limit if there is no room for another item, with those that are being made."""
        if there + sum(made == kind for made, _ in self._pending) >= most:
            raise Limit(f"{kind} '{name}': there may be {most} {_PLURALS[kind]} at most")

    def list_sockets(self, patterns: Sequence[str] = ()) -> list[SocketInfo]:
        """The sockets that match a name, a prefix with '*', or a file number; all without a pattern."""
        return list(self.each_socket(patterns))

    def each_socket(self, patterns: Sequence[str]) -> Iterator[SocketInfo]:
        """Do as list_sockets() does, one by one: what goes meanwhile is left out."""
        found, _ = self._select_sockets(patterns)
        return (self._sockets[name].info() for name in found if name in self._sockets)

    def remove_sockets(self, patterns: Sequence[str]) -> list[str]:
        """Close sockets. Raises NotFound if a name is not there, and then closes none.

        The files of Unix sockets are gone a moment later.
        """
        return list(self.removing_sockets(patterns))

    def removing_sockets(self, patterns: Sequence[str]) -> Iterator[str]:
        """Do as remove_sockets() does, one by one; gives their names."""
        return self._remove_sockets(self._found(*self._select_sockets(_some(patterns, "socket")), "socket"))

    def _remove_sockets(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            hosted = self._sockets.get(name)
            if hosted is None:  # it has gone meanwhile
                continue
            last = self._socket_tokens.last_of(hosted)
            self._store.remove_socket(hosted.key, last)
            del self._sockets[name]
            self._socket_tokens.gone(hosted, last)
            crash_point("socket removed")
            self._close_socket(hosted)
            holder = hosted.unit or "its socket unit"
            still = f"{holder} holds it still, and passes it again when papad starts anew" if hosted.spec.passed else ""
            audit.record("removed", "socket", name, still)
            self._tell("socket", "removed", name)
            yield name

    def _close_socket(self, hosted: HostedSocket) -> None:
        hosted.close()
        if hosted.file is not None:
            self._files.remove(hosted.spec.name, str(hosted.spec.path), hosted.file)

    def files(self, patterns: Sequence[str]) -> list[str]:
        """Return the files of the sockets that match, for files_removed()."""
        found, _ = self._select_sockets(patterns)
        return [str(self._sockets[name].spec.path) for name in found if self._sockets[name].file is not None]

    async def files_removed(self, files: Sequence[str]) -> None:
        """Wait until the files of sockets that were removed are gone, or their folder does not answer."""
        await self._files.removed(files)

    def host_passed(self, passed: Mapping[str, Sequence[int]]) -> list[str]:
        """Host the sockets that papad was passed; several of one name are NAME, NAME-2 and so on. Takes descriptors.

        Returns what is not hosted, and what no longer is, in words for the journal.
        """
        problems, hosted = [], []
        for name, fds in passed.items():
            for number, fd in enumerate(fds, 1):
                called = name if number == 1 else f"{name}-{number}"
                try:
                    self._check_passed(called)
                    hosted.append(sockets.passed_socket(called, fd))
                except PapaError as error:
                    problems.append(f"what was passed as '{name}' is not hosted, and closed: {error}")
                    os.close(fd)
                else:
                    self._sockets[called] = hosted[-1]
        try:
            keys, before = self._store.note_passed([(each.spec, each.fileno) for each in hosted])
        except PapaError as error:
            return [*problems, f"which sockets were passed cannot be noted: {error}"]
        for each, key in zip(hosted, keys, strict=True):
            each.key = key
            if each.spec.name not in before:
                audit.record("made", "socket", each.spec.name, "it was passed to papad")
        gone = [name for name in before if name not in self._sockets]
        problems += [f"socket '{name}' is no longer hosted: its socket unit has not passed it again" for name in gone]
        return problems

    def _check_passed(self, name: str) -> None:
        if name in self._sockets:
            raise Exists(
                f"another socket '{name}' was passed, too"
                if self._sockets[name].spec.passed
                else f"a client has had another socket '{name}' made; remove that, and restart papad"
            )
        if len(self._sockets) >= limits.MAX_SOCKETS:
            raise Limit(f"there may be {limits.MAX_SOCKETS} sockets at most")

    def name_units(self, units: Mapping[str, str]) -> None:
        """Say which socket unit passes the descriptors of which name."""
        for name, hosted in self._sockets.items():
            if hosted.spec.passed:
                hosted.unit = units.get(name) or units.get(_NUMBERED.sub("", name), "")

    def passed_sockets(self) -> dict[str, list[int]]:
        """The descriptors of those that were passed, for the papad that takes over; by name."""
        return {name: [hosted.fileno] for name, hosted in self._sockets.items() if hosted.spec.passed}

    def open_socket(self, name: str) -> int:
        """A descriptor of the socket, for the caller to close."""
        if name not in self._sockets:
            raise NotFound(f"socket '{name}' is not there")
        return self._sockets[name].duplicate()

    def _select_sockets(self, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
        numbers = any(map(is_number, patterns))
        by_number = {sock.fileno: name for name, sock in self._sockets.items()} if numbers else {}
        return self._sockets.select(patterns, by_number.get)

    # ------------------------------------------------------------------ values

    def set_value(self, name: str, value: str) -> None:
        """Keep a value."""
        new = name not in self._values.items
        self._values.check(name, value)
        self._store.set_value(name, value)
        self._values.set(name, value)
        if new:  # a new text for it is none that is made or removed: managers write some every second
            audit.record("made", "value", name)
        self._tell("value", "added" if new else "changed", name)

    def get_value(self, name: str) -> str:
        """The value. Raises NotFound."""
        return self._values.get(name)

    def list_values(self, patterns: Sequence[str] = ()) -> dict[str, str]:
        """The values that match; all without a pattern."""
        return dict(self.each_value(patterns))

    def each_value(self, patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Do as list_values() does, one by one: what goes meanwhile is left out."""
        found, _ = self._values.items.select(patterns)
        return ((name, self._values.items[name]) for name in found if name in self._values.items)

    def remove_values(self, patterns: Sequence[str], missing_ok: bool = False) -> list[str]:
        """Forget values; never all at once. Raises NotFound unless what is missing is all right."""
        return list(self.removing_values(patterns, missing_ok))

    def removing_values(self, patterns: Sequence[str], missing_ok: bool = False) -> Iterator[str]:
        """Do as remove_values() does, one by one; gives their names."""
        if "*" in _some(patterns, "value"):
            raise InvalidArgs("values cannot be removed all at once: '*' alone is refused")
        found, missing = self._values.items.select(patterns)
        if not missing_ok:
            self._found(found, missing, "value")
        return self._remove_values(found)

    def _remove_values(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if name in self._values.items:
                self._store.remove_value(name)
                self._values.remove(name)
                audit.record("removed", "value", name)
                self._tell("value", "removed", name)
                yield name

    # --------------------------------------------------------------- processes

    async def make_process(self, spec: ProcessSpec) -> ProcessInfo:
        """Start a process, or give the one that runs already.

        Raises Exists, Spawn, Limit, NotFound, InvalidArgs; NotSupported where its output is to go to a journal that is
        not there.
        """
        await self._wait_for_name(("process", spec.name))
        if (answer := self._process_tokens.find(spec)) is not None:
            return answer
        existing = self._processes.get(spec.name)
        if existing is not None:
            existing.poll()  # its end may not have been noticed yet
        existing = self._processes.get(spec.name)
        if existing is not None and existing.running:
            return self._running(existing, spec)
        if spec.journal:
            self._journal.check()
        if existing is not None:
            _check_free(existing)
        if existing is None or existing.log.readers:  # it stays while it is read; one that is not read goes
            there_are = len(self._processes) + len(self._superseded) + len(self._leaving)
            self._check_room("process", spec.name, there_are, limits.MAX_PROCESSES)
        with self._reserve_name(("process", spec.name)), self._process_tokens.making(spec):
            async with self._starting:  # a fork takes its time, and others have their turn between two
                await asyncio.sleep(0)
            process = await process_start.start(
                spec, self._sockets, self.fork, self.assign_scope, self._callbacks, self._store, self._lookups
            )
            if spec.name in self._processes:
                self._unlist(self._processes[spec.name])
            self._processes[spec.name] = process
            self._by_pid[process.pid] = process
            self._process_tokens.made(spec, process)
        self._forward_output(process)
        detail = f"PID {process.pid} runs {spec.command[0]} as uid {process.facts.uid}"
        audit.record("made", "process", spec.name, detail)
        self._attach_followers(process)
        self._tell("process", "added", spec.name)
        return process.info()

    def _attach_followers(self, process: HostedProcess) -> None:
        for watch in self._followers.holders_of(process.spec.name):
            if watch.share.has_room():
                watch.attach(process.spec.name, process.log)
            else:
                watch.give_up()

    def _forward_output(self, process: HostedProcess) -> None:
        process.log.on_shared = partial(self._note_newcomer, process)
        process.log.on_moved = partial(self._note_consumers_soon, process)
        if process.spec.journal:
            facts = process.facts
            self._journal.add(process.key, process.spec.name, process.pid, facts.unit, process.log, facts.last_words)

    def _running(self, process: HostedProcess, spec: ProcessSpec) -> ProcessInfo:
        if process.spec != spec:
            raise Exists(f"process '{spec.name}' runs (PID {process.pid}), with another command or other options")
        if process.removed:
            self._store.update_process(process.key, replace(process.facts, removed=False), "running")
            process.keep_output()
        self._process_tokens.given(spec, process)
        return process.info()

    def list_processes(self, patterns: Sequence[str] = ()) -> list[ProcessInfo]:
        """The processes that match a name, a prefix with '*', or a PID; all without a pattern.

        Arguments are whole if one name is asked for.
        """
        return list(self.each_process(patterns))

    def each_process(self, patterns: Sequence[str]) -> Iterator[ProcessInfo]:
        """Do as list_processes() does, one by one: what goes meanwhile is left out."""
        found, _ = self._select_processes(patterns)
        infos = (self._processes[name].info() for name in found if name in self._processes)
        return infos if len(patterns) == 1 and found == list(patterns) else (info.short() for info in infos)

    def remove_processes(self, patterns: Sequence[str]) -> list[str]:
        """Forget output; a process that has ended leaves the list, one that runs leaves it when it ends."""
        return list(self.removing_processes(patterns))

    def removing_processes(self, patterns: Sequence[str]) -> Iterator[str]:
        """Do as remove_processes() does, one by one; gives their names."""
        return self._remove_processes(self._found(*self._select_processes(_some(patterns, "process")), "process"))

    def _remove_processes(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            process = self._processes.get(name)
            if process is None:  # it has gone meanwhile
                continue
            self._store.update_process(process.key, replace(process.facts, removed=True), "running")
            crash_point("process removed")
            audit.record("removed", "process", name)
            process.forget_output()
            yield name

    def open_process(self, name: str) -> int:
        """A pidfd of a process that runs, for the caller to close."""
        if name not in self._processes:
            raise NotFound(f"process '{name}' is not there")
        return self._processes[name].duplicate_pidfd()

    def _select_processes(self, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
        return self._processes.select(patterns, self._name_of_pid)

    def _name_of_pid(self, pid: int) -> str | None:
        process = self._by_pid.get(pid)
        return None if process is None else process.spec.name

    def _process_ended(self, process: HostedProcess) -> None:
        if not process.spec.journal:  # its end stands behind its last line there
            log.info(
                "process '%s' (PID %d) ended with %s",
                process.spec.name,
                process.pid,
                process.exit_code,
                extra={"PAPA_PROCESS": process.spec.name},
            )
        if process not in self._superseded:
            self._tell("process", "changed", process.spec.name)

    def _process_releasable(self, process: HostedProcess) -> None:
        if process in self._superseded:
            if not process.fully_acknowledged:
                self._give_away(process)
                self._bound_orphans(process.spec.name)
            elif (words := self._journal.leave(process.key)) is None:
                self._forget(process)
            else:
                self._keep_last_words(process, words)
        elif process in self._leaving:
            if not process.holds_pipes:
                self._leaving.remove(process)
                self._store.drop_process_descriptors(process.key)
        elif process.removable and self._processes.get(process.spec.name) is process:
            self._unlist(process)

    def _keep_last_words(self, process: HostedProcess, words: LastWords) -> None:
        """Only the journal still wants something of it: if papad ends before that, the next one tells it."""
        facts = replace(process.facts, removed=True, last_words=words)
        if facts != process.facts:
            self._store_facts(process, facts)
            process.forget_output()

    def _journal_has_all(self, key: int) -> None:
        """Forget a process that is gone: its last words are in the journal now."""
        process = next((process for process in self._superseded if process.key == key), None)
        if process is not None and process.fully_acknowledged:
            self._forget(process)

    def _forget(self, process: HostedProcess) -> None:
        """Let it go. The pipes that its descendants write to stay kept: without a reader SIGPIPE would end them."""
        self._superseded.remove(process)
        self._journal.remove(process.key)
        last = self._process_tokens.last_of(process)
        self._process_tokens.gone(process, last)
        if process.holds_pipes:
            self._leaving.add(process)
            self._store.forget_process(process.key, last)
        else:
            self._store.remove_process(process.key, last)
        crash_point("process forgotten")
        process.dispose()

    def _unlist(self, process: HostedProcess) -> None:
        name = process.spec.name
        del self._processes[name]
        self._forget_pid(process)
        self._retire(process)
        if process.log.readers:
            self._store_facts(process, process.facts)
        elif not process.log.buffered:
            process.forget_output()  # nobody reads it, and there is nothing to be read
        self._process_releasable(process)
        self._tell("process", "removed", name)

    def _forget_pid(self, process: HostedProcess) -> None:
        if self._by_pid.get(process.pid) is process:  # else Linux has given it to another
            del self._by_pid[process.pid]

    def _retire(self, process: HostedProcess) -> None:
        self._superseded.add(process)
        process.log.superseded = True

    def _store_facts(self, process: HostedProcess, facts: ProcessRecord) -> None:
        """Store facts. If a superseded process cannot be stored the next papad takes the older of the two for it."""
        process.facts = facts
        try:
            self._store.update_process(process.key, facts, "retired" if process in self._superseded else "running")
        except PapaError as error:
            log.error("process '%s' (PID %d): %s", process.spec.name, process.pid, error)

    def _note_newcomer(self, process: HostedProcess, newcomer: Reader) -> None:
        if not self._is_noted(process, newcomer):
            self._note_consumers_soon(process)

    def _note_consumers(self, process: HostedProcess) -> None:
        """Store how far each consumer has come: after a kill the others may not let go of what one has not had."""
        for reader in process.log.consumers:
            if isinstance(reader, Absent) and reader not in self._absences:
                self._absences[reader] = asyncio.get_running_loop().time() + limits.ABSENCE, process
                self._wait_for_absent()
        noted = consumers_of(process.log, process in self._superseded)
        if noted != process.facts.consumers:
            self._store_facts(process, replace(process.facts, consumers=noted))

    def _is_noted(self, process: HostedProcess, newcomer: Reader) -> bool:
        """Return whether one that has come no further than the log is noted with those who have not, either."""
        if isinstance(newcomer, Absent) or process in self._to_note or process in self._superseded:
            return False
        noted = process.facts.consumers
        if noted[:1] != ((OTHERS, 0, 0),) or newcomer.acknowledged > process.log.acknowledged:
            return False
        return all(who != newcomer.who for who, _, _ in noted)

    def _note_consumers_soon(self, process: HostedProcess) -> None:
        """Do that once for all that happens now. Until then less is noted of them, which holds back more than it need.

        Of a newcomer nothing is noted; so it is told that it is one once noted() is over.
        """
        self._to_note[process] = None
        if not self._will_note:
            self._will_note = True
            self._noted = self._chores.add(self._noting())

    def _noting(self) -> Iterator[None]:
        self._will_note = False
        for process in list(self._to_note):
            del self._to_note[process]
            self._note_consumers(process)
            yield

    def noted(self, names: Iterable[str]) -> "asyncio.Future[None] | None":
        """Return what tells when it is stored how far consumers of these have come, None if it is.

        Whoever has to do with others waits for none of it: one client's watches can make much of it.
        """
        processes = (each for name in names for each in (self._processes.get(name), *self._superseded.of(name)))
        return self.all_noted() if any(process in self._to_note for process in processes) else None

    def all_noted(self) -> "asyncio.Future[None] | None":
        """Return what tells when that is stored for all processes, None if it is."""
        return None if self._noted is None or self._noted.done() else asyncio.shield(self._noted)

    def close_watches(self, watches: Iterable[Watch]) -> "asyncio.Future[None]":
        """Close them in steps, whose clients will come back; returns what tells that it is done."""
        return self._chores.add(step for watch in watches for step in watch.closing(away=True))

    def _wait_for_absent(self) -> None:
        if self._absences and self._absence is None:
            due, _ = next(iter(self._absences.values()))
            loop = asyncio.get_running_loop()
            self._absence = loop.call_at(due, lambda: self._chores.add(self._giving_up(loop.time())))

    def _giving_up(self, until: float) -> Iterator[None]:
        """Keep nothing more for clients that have not come back."""
        for absent, (due, process) in list(self._absences.items()):
            if due > until:
                break
            del self._absences[absent]
            if absent in process.log.readers:
                process.log.detach(absent)
            yield
        self._absence = None
        self._wait_for_absent()

    def _give_away(self, process: HostedProcess) -> None:
        """Give what nobody reads any more to a watch that consumes the name's present process, if there is one."""
        if process.removed or process.log.consumers or process.log.exit_acknowledged:
            return
        name = process.spec.name
        for watch in self._watches.values():
            if watch.consumes and watch.reads(name):
                watch.attach_earlier(name, process.log)
                return

    # ----------------------------------------------------------------- watches

    def watch(
        self,
        patterns: Sequence[str],
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None] = lambda end: None,
        who: str = "",
    ) -> Watch:
        """Subscribe to the output of the processes that match. Raises NotFound if there is none, and Limit.

        ``who`` is the client, by a name that it keeps while papad is away.
        """
        found, missing = self._select_processes(patterns)
        if spec.follow:
            _check_lengths(patterns)
        else:
            self._found(found, missing, "process")
            if not found:
                raise NotFound("there is no process to watch")
        if not self._share_of_caller(self._watch_shares).has_room():
            raise Limit(f"there may be {limits.MAX_WATCHES} watches at most, and you have your share of them")
        share = self._share_of_caller(self._cursors)
        more_patterns = len(set(patterns)) - 1 if spec.follow and patterns else 0
        if not share.has_room(len(found) + more_patterns):
            raise Limit("your watches have too many processes together; end some, or watch fewer processes with each")
        watch = self._new_watch(spec, on_ready, on_done, share, who)
        if spec.follow:
            self._followers.add(watch, patterns)
            share.take(more_patterns)
        for name in found:
            for old in self._unread_predecessors(name, who if watch.consumes else ""):
                watch.attach(name, old.log)
            watch.attach(name, self._processes[name].log)
        return watch

    @staticmethod
    def _share_of_caller(shares: Shares) -> Share:
        caller = acting_caller()
        return shares.of(None, "") if caller is None else shares.of(caller.uid, caller.at)

    def _new_watch(
        self,
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None],
        share: Share,
        who: str = "",
    ) -> Watch:
        self._last_watch += 1
        watch = Watch(self._last_watch, spec, on_ready, on_done, self._watch_closed, share, who)
        self._watches[watch.number] = watch
        self._watches_of[watch] = share_of_watches = self._share_of_caller(self._watch_shares)
        share_of_watches.take()
        return watch

    def positions(self, watch: Watch) -> list[tuple[int, Position]]:
        """Where a watch stands, by the processes' keys, for resume_watch() of the papad that takes over."""
        keys = {process.log: process.key for process in (*self._processes.values(), *self._superseded)}
        return [(keys[cursor.log], cursor.position) for cursor in watch.cursors]

    def resume_watch(
        self,
        positions: Sequence[tuple[int, Position]],
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None],
    ) -> Watch:
        """A watch that goes on where another papad's was. Raises NotFound where a process of it was not recovered."""
        by_key = {process.key: process for process in (*self._processes.values(), *self._superseded)}
        if not all(key in by_key for key, _ in positions):
            raise NotFound("a process that was watched has not come back")
        watch = self._new_watch(spec, on_ready, on_done, self._share_of_caller(self._cursors))
        for key, position in positions:
            watch.attach(by_key[key].spec.name, by_key[key].log, position)
        return watch

    def _bound_orphans(self, name: str) -> None:
        """Keep the last few of a name whose readers went away before they had acknowledged everything."""
        unread = [
            old for old in self._unread_predecessors(name) if not old.log.consumers
        ]  # else a client may come back for it
        for old in unread[: -limits.MAX_UNREAD_PREDECESSORS]:
            log.warning(
                "process '%s' (PID %d): %d bytes that nobody has read are given up", name, old.pid, old.log.buffered
            )
            old.forget_output()

    def _unread_predecessors(self, name: str, who: str = "") -> list[HostedProcess]:
        """Earlier processes of a name that nobody consumes now, or that a client did when papad itself ended."""
        unread = [
            old
            for old in self._superseded.of(name)
            if not old.removed and (not old.log.has_present_consumers or (who and old.log.absent(who)))
        ]
        return sorted(unread, key=lambda process: process.key)

    def _watch_closed(self, watch: Watch) -> None:
        del self._watches[watch.number]
        self._watches_of.pop(watch).give()
        watch.share.give(max(0, self._followers.remove(watch) - 1))

    # ------------------------------------------------------------------ kernel

    @property
    def socket_names(self) -> list[str]:
        """Return the names of all sockets."""
        return list(self._sockets)

    @property
    def process_names(self) -> list[str]:
        """Return the names of all processes that are listed."""
        return list(self._processes)

    @property
    def socket_count(self) -> int:
        """How many sockets there are."""
        return len(self._sockets)

    @property
    def value_count(self) -> int:
        """How many values there are."""
        return len(self._values.items)

    @property
    def process_count(self) -> int:
        """How many processes are listed."""
        return len(self._processes)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of output that wait for an acknowledgement, of all processes."""
        return sum(process.log.buffered for process in self._processes.values())

    def close(self) -> None:
        """Let go of the store. What is hosted goes on; nothing more can be asked of this kernel."""
        self._journal.finish()
        for _ in self._noting():
            pass
        if self._absence is not None:
            self._absence.cancel()
        self._callbacks.poller.close()
        self._store.close()

    async def settle(self) -> None:
        """Wait until what is being made is made, START_TIMEOUT at most."""
        if self._pending:
            await asyncio.wait(list(self._pending.values()), timeout=limits.START_TIMEOUT)
        await self._files.removed()

    async def tell_last_words(self) -> None:
        """Read what there is, and let the journal and those who consume an ended process have it; not for ever."""
        self._journal.lift_limit()
        for _ in range(round(limits.LAST_WORDS_TIMEOUT / _LOOK)):
            if not self._words_left():
                return
            await asyncio.sleep(_LOOK)

    def _words_left(self) -> bool:
        if self._callbacks.poller.has_more() or self._journal.has_more():
            return True
        return any(process.is_consumed_to_its_end for process in [*self._processes.values(), *self._superseded])

    def exit_if_idle(self) -> bool:
        """Begin to exit where nothing is held. Returns whether it does."""
        held = any(not hosted.spec.passed for hosted in self._sockets.values())  # its socket unit passes it again
        read = any(
            not process.fully_acknowledged for process in self._superseded
        )  # else the journal alone has not had all
        if held or self._values.items or self._processes or self._pending or read:
            return False
        audit.record("ended", "kernel", "papad", "it was asked to exit where it is idle")
        self.on_exit()
        return True

    def losses(self) -> list[str]:
        """What is lost where papad ends now and nobody keeps its descriptors, in words for the journal."""
        made = [hosted for hosted in self._sockets.values() if not hosted.spec.passed]  # the others are held elsewhere
        return losses(made, [*self._processes.values(), *self._superseded])

    def recover(self, descriptors: Mapping[str, Sequence[int]]) -> list[str]:
        """Host again what was stored; ``descriptors`` are those that were kept, by name.

        Returns what could not be recovered, in words for the journal; nothing is killed over it.
        """
        recovery = Recovery(self._store, descriptors, self._callbacks)
        for name, value in self._store.values().items():
            self._values.set(name, value)
        for hosted in recovery.sockets():
            self._sockets[hosted.spec.name] = hosted
        adopted = [self._adopt(stored, process) for stored, process in recovery.processes()]
        self._socket_tokens.recover({hosted.key: hosted.info for hosted in self._sockets.values()})
        answers = {start.stored.key: _being_started(start.name) for start in recovery.starting}
        self._process_tokens.recover(answers | {process.key: process.info for process in adopted})
        for process in adopted:
            self._settle(process)
        recovery.finish()
        self._recovering = [self._await_start(recovery, start) for start in recovery.starting]
        return recovery.problems

    def _await_start(self, recovery: Recovery, start: Start) -> "asyncio.Task[None]":
        """Hold the name until it is known whether an earlier papad's child has executed its program."""
        turn = ExitStack()
        turn.enter_context(self._reserve_name(("process", start.name)))

        async def wait() -> None:
            with turn:
                try:
                    self._end_start(recovery, start, await start.executed(self._store))
                except Exception:  # nobody waits for this, and the name must be free again
                    log.exception("process '%s': what an earlier papad has started cannot be hosted", start.name)
                    self._process_tokens.now_answer(start.stored.key, _not_hosted(start.name, start.stored.facts.pid))

        return asyncio.ensure_future(wait())

    def _end_start(self, recovery: Recovery, start: Start, executed: bool) -> None:
        if not executed:
            self._process_tokens.not_made(start.stored.key)
            recovery.forget(start)
            return
        process = self._adopt(*recovery.host(start))
        self._process_tokens.now_answer(process.key, process.info)
        self._tell("process", "added", start.name)
        self._settle(process)

    def _adopt(self, stored: StoredProcess, process: HostedProcess) -> HostedProcess:
        self._forward_output(process)
        for who, seq, offset in stored.facts.consumers:
            here = process.log.acknowledged, process.log.acknowledged_offset
            process.log.attach(Absent(who, *max((seq, offset), here)))
        if stored.state == "retired":
            self._retire(process)
        else:
            older = self._processes.get(stored.spec.name)
            self._processes[stored.spec.name] = process
            if older is not None:  # papad was killed between its successor's start and its retirement
                self._forget_pid(older)
                self._retire(older)
                self._store_facts(older, older.facts)
            self._by_pid[process.pid] = process
        return process

    def _settle(self, process: HostedProcess) -> None:
        """Notice what has become of a process while papad was away."""
        process.poll()
        self._process_releasable(process)

    # ------------------------------------------------------------------- turns

    async def _wait_for_name(self, *keys: tuple[str, str]) -> None:
        """Wait while another request makes one of these."""
        while pending := [self._pending[key] for key in keys if key in self._pending]:
            await asyncio.wait(pending)

    def _reserve_name(self, *keys: tuple[str, str]) -> "NameReservation":
        return NameReservation(self._pending, keys)

    @staticmethod
    def _found(found: list[str], missing: list[str], kind: Kind) -> list[str]:
        if missing:
            raise NotFound(f"{kind} '{missing[0]}' is not there")
        return found


def _check_free(process: HostedProcess) -> None:
    """Raise Exists where a process that has ended still has something to say to nobody who listens."""
    if process.log.buffered and not process.log.consumers:
        raise Exists(
            f"process '{process.spec.name}' has ended, and {process.log.buffered} bytes of its output are unread:"
            " acknowledge or remove them"
        )


def _check_lengths(patterns: Sequence[str]) -> None:
    """Raise InvalidArgs for a pattern that can stand for no name: it would be kept all the same."""
    for pattern in patterns:
        if len(pattern.encode()) > names.MAX_NAME_BYTES + 1:
            raise InvalidArgs(f"{pattern[:40]!r}… is longer than a name may be ({names.MAX_NAME_BYTES} bytes)")


def _being_started(name: str) -> Callable[[], ProcessInfo]:
    """Return what stands for the answer until a start is over; whoever asks for that name waits until then."""

    def answer() -> ProcessInfo:
        raise Exists(f"process '{name}' is being started")

    return answer


def _not_hosted(name: str, pid: int) -> Callable[[], ProcessInfo]:
    """Return what stands for the answer if it is not known whether a process runs that papad cannot host."""

    def answer() -> ProcessInfo:
        raise Spawn(
            f"process '{name}' (PID {pid}) was started by an earlier papad and cannot be hosted, as papad's journal"
            " says; ask with another token to start another one"
        )

    return answer


def _keys(spec: SocketSpec) -> list[tuple[str, str]]:
    """Return what no other request may make at the same time: the name, and the path."""
    return [("socket", spec.name)] + ([] if spec.path is None else [("path", spec.path)])


def _some(patterns: Sequence[str], kind: Kind) -> Sequence[str]:
    if not patterns:
        raise InvalidArgs(f"which {kind} is to be removed? an empty list of names removes nothing")
    return patterns
