"""The kernel, as front ends know it: what may be asked, and which registry does it.

Knows no protocol, no bus and no systemd. A front end calls its methods and hears of changes by plain callbacks.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from papa_dbus.service import audit, limits
from papa_dbus.service.fork.fork import Fork, fork_here
from papa_dbus.service.items.results import ProcessInfo, SocketInfo
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec, WatchSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.journal.scheduler import Journal, NoJournal, Scheduler
from papa_dbus.service.kernel.changes import Changes
from papa_dbus.service.kernel.processes import Processes
from papa_dbus.service.kernel.recovery import Recovery, losses
from papa_dbus.service.kernel.reservation import Reservations
from papa_dbus.service.kernel.sockets import Sockets
from papa_dbus.service.kernel.values import Values
from papa_dbus.service.kernel.watches import Watches
from papa_dbus.service.lookups import Lookups
from papa_dbus.service.output.cursor import Position
from papa_dbus.service.output.watches import End, Watch
from papa_dbus.service.process import start as process_start
from papa_dbus.service.process.hosted import HostedProcess, ProcessCallbacks, ScopeAssigner
from papa_dbus.service.steps import Chores

_LOOK = 0.01  # seconds between two looks whether all last words are told


async def no_scope(pid: int, name: str, resources: Mapping[str, int]) -> None:
    """Leave processes where papad is: for a machine without systemd."""


class Kernel:
    """Holds sockets, values and processes by name, and decides nothing else.

    ``listeners`` hear of each change; ``on_exit`` is called when papad is to end because nothing is held, and each of
    ``after_reading`` when output has been read from processes, for a front end to pass it on.
    """

    def __init__(
        self, assign_scope: ScopeAssigner = no_scope, store: Store | None = None, journal: Journal | None = None
    ) -> None:
        self.assign_scope = assign_scope
        self.fork: Fork = fork_here
        self.on_exit: Callable[[], None] = lambda: None
        self._store = store or Store()
        self._lookups = Lookups()
        self._reservations = Reservations()
        self._journal = Scheduler(journal or NoJournal(), lambda key: self._processes.superseded.journal_has_all(key))  # noqa: PLW0108 (they are made later)
        changes = Changes()
        self.listeners = changes.listeners
        self._sockets = Sockets(self._store, self._reservations, changes.tell, self._lookups, lambda: self.fork)
        self._values = Values(self._store, changes.tell)
        self._processes = Processes(self._store, self._reservations, changes.tell, self._journal, Chores(), self._start)
        self.after_reading = self._processes.callbacks.poller.after_turn
        self._watches = Watches(self._processes)
        self._processes.on_made = self._watches.attach_followers
        self._processes.superseded.on_unread = self._watches.give_away

    async def _start(self, spec: ProcessSpec, callbacks: ProcessCallbacks) -> HostedProcess:
        return await process_start.start(
            spec, self._sockets.hosted, self.fork, self.assign_scope, callbacks, self._store, self._lookups
        )

    # ----------------------------------------------------------------- sockets

    async def make_socket(self, spec: SocketSpec) -> SocketInfo:
        """Host a socket. Raises Exists, Bind or Limit; asked for again it is given as it is."""
        return await self._sockets.make(spec)

    def list_sockets(self, patterns: Sequence[str] = ()) -> list[SocketInfo]:
        """Return the sockets that match a name, a prefix with '*', or a file number; all without a pattern."""
        return list(self._sockets.each(patterns))

    def each_socket(self, patterns: Sequence[str]) -> Iterator[SocketInfo]:
        """Do as list_sockets() does, one by one: what goes meanwhile is left out."""
        return self._sockets.each(patterns)

    def remove_sockets(self, patterns: Sequence[str]) -> list[str]:
        """Close sockets; files go a moment later. Raises NotFound if a name is not there, and then closes none."""
        return list(self._sockets.removing(patterns))

    def removing_sockets(self, patterns: Sequence[str]) -> Iterator[str]:
        """Do as remove_sockets() does, one by one; gives their names."""
        return self._sockets.removing(patterns)

    def files(self, patterns: Sequence[str]) -> list[str]:
        """Return the files of the sockets that match, for files_removed()."""
        return self._sockets.files(patterns)

    async def files_removed(self, files: Sequence[str]) -> None:
        """Wait until the files of sockets that were removed are gone, or their folder does not answer."""
        await self._sockets.files_removed(files)

    def host_passed(self, passed: Mapping[str, Sequence[int]]) -> list[str]:
        """Host the sockets that papad was passed; several of one name are NAME, NAME-2 and so on. Takes descriptors.

        Returns what is not hosted, and what no longer is, in words for the journal.
        """
        return self._sockets.host_passed(passed)

    def name_units(self, units: Mapping[str, str]) -> None:
        """Say which socket unit passes the descriptors of which name."""
        self._sockets.name_units(units)

    def passed_sockets(self) -> dict[str, list[int]]:
        """Return the descriptors of those that were passed, for the papad that takes over; by name."""
        return self._sockets.passed

    def open_socket(self, name: str) -> int:
        """Return a descriptor of the socket, for the caller to close."""
        return self._sockets.open(name)

    # ------------------------------------------------------------------ values

    def set_value(self, name: str, value: str) -> None:
        """Keep a value. Raises InvalidArgs or Limit."""
        self._values.set(name, value)

    def get_value(self, name: str) -> str:
        """Return the value. Raises NotFound."""
        return self._values.get(name)

    def list_values(self, patterns: Sequence[str] = ()) -> dict[str, str]:
        """Return the values that match; all without a pattern."""
        return dict(self._values.each(patterns))

    def each_value(self, patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Do as list_values() does, one by one: what goes meanwhile is left out."""
        return self._values.each(patterns)

    def remove_values(self, patterns: Sequence[str], missing_ok: bool = False) -> list[str]:
        """Forget values; never all at once. Raises NotFound unless what is missing is all right."""
        return list(self._values.removing(patterns, missing_ok))

    def removing_values(self, patterns: Sequence[str], missing_ok: bool = False) -> Iterator[str]:
        """Do as remove_values() does, one by one; gives their names."""
        return self._values.removing(patterns, missing_ok)

    # --------------------------------------------------------------- processes

    async def make_process(self, spec: ProcessSpec) -> ProcessInfo:
        """Start a process, or give the one that runs already.

        Raises Exists, Spawn, Limit, NotFound, InvalidArgs; NotSupported if there is no journal for its output.
        """
        self._watches.resume_all()  # what an earlier process of its name has not told yet is theirs
        return await self._processes.make(spec)

    def list_processes(self, patterns: Sequence[str] = ()) -> list[ProcessInfo]:
        """Return the processes that match a name, a prefix with '*', or a PID; all without a pattern.

        Arguments are whole if one name is asked for.
        """
        return list(self._processes.each(patterns))

    def each_process(self, patterns: Sequence[str]) -> Iterator[ProcessInfo]:
        """Do as list_processes() does, one by one: what goes meanwhile is left out."""
        return self._processes.each(patterns)

    def remove_processes(self, patterns: Sequence[str]) -> list[str]:
        """Forget output; a process that has ended leaves the list, one that runs leaves it when it ends."""
        return list(self._processes.removing(patterns))

    def removing_processes(self, patterns: Sequence[str]) -> Iterator[str]:
        """Do as remove_processes() does, one by one; gives their names."""
        return self._processes.removing(patterns)

    def open_process(self, name: str) -> int:
        """Return a pidfd of a process that runs, for the caller to close."""
        return self._processes.open(name)

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

        ``who`` is the client, by a name that it keeps while papad is away. If there are many, it reads the rest of them
        when attached() says so, and its names are not complete before.
        """
        return self._watches.watch(patterns, spec, on_ready, on_done, who)

    def attached(self, watch: Watch) -> "asyncio.Future[None] | None":
        """Return what tells when a watch reads all that it is to read, or was closed before; None if it does."""
        return self._watches.attached(watch)

    def close_watch(self, watch: Watch, away: bool = False) -> "asyncio.Future[None] | None":
        """Close a watch; return what tells when all is let go, None if it is. ``away``: its client will come back."""
        return self._watches.close(watch, away)

    def positions(self, watch: Watch) -> list[tuple[int, Position]]:
        """Return where a watch stands, by the processes' keys, for resume_watch() of the papad that takes over."""
        return self._watches.positions(watch)

    def resume_watch(
        self,
        positions: Sequence[tuple[int, Position]],
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None],
    ) -> Watch:
        """Continue another papad's watch, in steps as watch() begins one. Raises NotFound if a process is not there."""
        return self._watches.resume(positions, spec, on_ready, on_done)

    def close_watches(self, watches: Iterable[Watch]) -> "asyncio.Future[None]":
        """Close them in steps, whose clients will come back; returns what tells that it is done."""
        return self._watches.close_all(watches)

    def noted(self, names: Collection[str]) -> "asyncio.Future[None] | None":
        """Return what tells when it is stored how far consumers of these have come, None if it is."""
        return self._processes.noted(names)

    def all_noted(self) -> "asyncio.Future[None] | None":
        """Return what tells when that is stored for all processes, None if it is."""
        return self._processes.consumers.noted()

    # --------------------------------------------------------------- all of it

    @property
    def socket_names(self) -> list[str]:
        """Return the names of all sockets."""
        return list(self._sockets.hosted)

    @property
    def process_names(self) -> list[str]:
        """Return the names of all processes that are listed."""
        return list(self._processes.listed)

    @property
    def socket_count(self) -> int:
        """Return how many sockets there are."""
        return len(self._sockets.hosted)

    @property
    def value_count(self) -> int:
        """Return how many values there are."""
        return len(self._values)

    @property
    def process_count(self) -> int:
        """Return how many processes are listed."""
        return len(self._processes.listed)

    @property
    def buffered_bytes(self) -> int:
        """Return how many bytes of output wait for an acknowledgement, of all processes."""
        return sum(process.log.buffered for process in self._processes.listed.values())

    def recover(self, descriptors: Mapping[str, Sequence[int]]) -> list[str]:
        """Host again what was stored; ``descriptors`` are those that were kept, by name.

        Returns what could not be recovered, in words for the journal; nothing is killed over it.
        """
        recovery = Recovery(self._store, descriptors, self._processes.callbacks)
        self._values.recover()
        self._sockets.recover(recovery.sockets())
        self._processes.recover(recovery)
        return recovery.problems

    def exit_if_idle(self) -> bool:
        """Begin to exit where nothing is held. Returns whether it does."""
        if self._sockets.not_passed or self._values or self._reservations or not self._processes.is_idle:
            return False
        audit.record("ended", "kernel", "papad", "it was asked to exit where it is idle")
        self.on_exit()
        return True

    async def settle(self) -> None:
        """Wait until what is being made is made, START_TIMEOUT at most."""
        await self._reservations.settle()
        await self._sockets.files_removed()

    async def tell_last_words(self) -> None:
        """Read what there is, and let the journal and those who consume an ended process have it; not for ever."""
        self._journal.lift_limit()
        for _ in range(round(limits.LAST_WORDS_TIMEOUT / _LOOK)):
            if not (self._journal.has_more() or self._processes.has_last_words()):
                return
            await asyncio.sleep(_LOOK)

    def losses(self) -> list[str]:
        """Return what is lost if papad ends now and nobody keeps its descriptors, in words for the journal."""
        return losses(self._sockets.not_passed, self._processes.every())

    def close(self) -> None:
        """Let go of the store. What is hosted goes on; nothing more can be asked of this kernel."""
        self._journal.finish()
        self._processes.close()
        self._store.close()
