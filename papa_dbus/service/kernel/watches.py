"""The watches of all clients: which processes each reads, and how many a client may have."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from papa_dbus.errors import Limit, NotFound
from papa_dbus.service import limits
from papa_dbus.service.caller import acting_caller
from papa_dbus.service.items.registry import Patterns
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.selection import all_found, check_lengths
from papa_dbus.service.output.cursor import Position
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.watches import End, Watch
from papa_dbus.service.process.hosted import HostedProcess
from papa_dbus.service.shares import Share, Shares
from papa_dbus.service.steps import Chores

#: A log, and where in it another papad's watch was.
_Place = tuple[OutputLog, Position | None]


class Readable(Protocol):
    """The processes, as far as watches need them."""

    def select(self, patterns: Sequence[str], /) -> tuple[list[str], list[str]]:
        """Return the names that patterns stand for, and the patterns that are missing."""

    def readable(self, name: str, who: str, /) -> list[HostedProcess]:
        """Return what a new watch of a name reads, in this order."""

    def every(self) -> list[HostedProcess]:
        """Return all that are listed or still being read."""


class Watches:
    """The watches by number, and those that follow what is made later by pattern."""

    def __init__(self, processes: Readable) -> None:
        self._processes = processes
        self._chores = Chores()
        self._open: dict[int, Watch] = {}
        self._attaching: dict[Watch, asyncio.Future[None]] = {}  # those that do not read all yet, and what tells it
        self._resuming: dict[Watch, Iterator[None]] = {}  # those of them that another papad began
        self._watches_of: dict[Watch, Share] = {}
        self._followers: Patterns[Watch] = Patterns()
        self._last = 0
        self._shares = Shares(limits.MAX_WATCHES_PER_CLIENT, limits.MAX_WATCHES_OF_USER, limits.MAX_WATCHES)
        self._cursors = Shares(limits.MAX_CURSORS_OF_CLIENT, limits.MAX_CURSORS_OF_USER, limits.MAX_CURSORS)

    @property
    def open(self) -> Mapping[int, Watch]:
        """Return those that have not ended, by number."""
        return self._open

    def watch(
        self,
        patterns: Sequence[str],
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None],
        who: str,
    ) -> Watch:
        """Do what `Kernel.watch` says."""
        found, missing = self._processes.select(patterns)
        if spec.follow:
            check_lengths(patterns)
        else:
            all_found(found, missing, "process")
            if not found:
                raise NotFound("there is no process to watch; make one first, or observe with follow")
        if not _share_of_caller(self._shares).has_room():
            raise Limit(f"there may be {limits.MAX_WATCHES} watches at most, and you have your share of them; end some")
        share = _share_of_caller(self._cursors)
        more_patterns = len(set(patterns)) - 1 if spec.follow and patterns else 0
        if not share.has_room(len(found) + more_patterns):
            raise Limit("your watches have too many processes together; end some, or watch fewer processes with each")
        self.resume_all()
        watch = self._new(spec, on_ready, on_done, share, who)
        if spec.follow:
            self._followers.add(watch, patterns)
            share.take(more_patterns)
        watch.expect(found)
        self._begin(watch, self._attach(watch, found, lambda name: self._readable(watch, name)))
        return watch

    def _begin(self, watch: Watch, attaching: Iterator[None]) -> None:
        attached = self._chores.begin(attaching)
        if attached is not None:
            self._attaching[watch] = attached
            attached.add_done_callback(lambda _: self._attaching.pop(watch))

    def attached(self, watch: Watch) -> "asyncio.Future[None] | None":
        """Do what `Kernel.attached` says."""
        attached = self._attaching.get(watch)
        return None if attached is None else asyncio.shield(attached)

    def _attach(self, watch: Watch, names: Iterable[str], logs_of: Callable[[str], list[_Place]]) -> Iterator[None]:
        """Have a watch read what it expects, name by name, until it is closed."""
        for name in names:
            if watch.closed:
                return
            if name in watch.expected:
                watch.attach_expected(name, logs_of(name))
            yield

    def _readable(self, watch: Watch, name: str) -> list[_Place]:
        """Return what there is of a name now: the process may have gone meanwhile, or have a successor."""
        processes = self._processes.readable(name, watch.who if watch.consumes else "")
        return [(process.log, None) for process in processes]

    def _new(
        self,
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None],
        share: Share,
        who: str = "",
    ) -> Watch:
        self._last += 1
        watch = Watch(self._last, spec, on_ready, on_done, self._closed, share, who)
        self._open[watch.number] = watch
        self._watches_of[watch] = share_of_watches = _share_of_caller(self._shares)
        share_of_watches.take()
        return watch

    def positions(self, watch: Watch) -> list[tuple[int, Position]]:
        """Return where a watch stands, by the processes' keys, for resume()."""
        keys = {process.log: process.key for process in self._processes.every()}
        return [(keys[cursor.log], cursor.position) for cursor in watch.cursors]

    def resume(
        self,
        positions: Sequence[tuple[int, Position]],
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None],
    ) -> Watch:
        """Do what `Kernel.resume_watch` says."""
        by_key = {process.key: process for process in self._processes.every()}
        if not all(key in by_key for key, _ in positions):
            raise NotFound("a process that was watched has not come back")
        watch = self._new(spec, on_ready, on_done, _share_of_caller(self._cursors))
        of: dict[str, list[tuple[HostedProcess, Position]]] = {}
        for key, position in positions:
            of.setdefault(by_key[key].spec.name, []).append((by_key[key], position))
        watch.expect(of)
        attaching = self._attach(watch, of, lambda name: [(each.log, at) for each, at in of[name] if not each.gone])
        self._begin(watch, attaching)
        if (attached := self._attaching.get(watch)) is not None:
            self._resuming[watch] = attaching
            attached.add_done_callback(lambda _: self._resuming.pop(watch))
        return watch

    def resume_all(self) -> None:
        """Have those that resume read all now: what a newcomer acknowledges must stay for them."""
        for attaching in self._resuming.values():
            for _ in attaching:
                pass

    def attach_followers(self, process: HostedProcess) -> None:
        """Have those read a process that has just been made, of which a pattern stands for its name."""
        name = process.spec.name
        for watch in self._followers.holders_of(name):
            if name in watch.expected:
                watch.attach_expected(name, self._readable(watch, name))  # the name's earlier process first
            elif watch.share.has_room():
                watch.attach(name, process.log)
            else:
                self._chores.begin(watch.giving_up())

    def give_away(self, process: HostedProcess) -> None:
        """Give what nobody reads any more to a watch that consumes the name's present process, if there is one."""
        if process.removed or process.log.consumers or process.log.exit_acknowledged:
            return
        name = process.spec.name
        for watch in self._open.values():
            if watch.consumes and watch.reads(name):
                watch.attach_earlier(name, process.log)
                return

    def close(self, watch: Watch, away: bool = False) -> "asyncio.Future[None] | None":
        """Do what `Kernel.close_watch` says."""
        closed = self._chores.begin(watch.closing(away))
        return None if closed is None else asyncio.shield(closed)

    def close_all(self, watches: Iterable[Watch]) -> "asyncio.Future[None]":
        """Close them in steps, whose clients will come back; returns what tells that it is done."""
        return self._chores.add(step for watch in watches for step in watch.closing(away=True))

    def _closed(self, watch: Watch) -> None:
        del self._open[watch.number]
        self._watches_of.pop(watch).give()
        watch.share.give(max(0, self._followers.remove(watch) - 1))


def _share_of_caller(shares: Shares) -> Share:
    caller = acting_caller()
    return shares.of(None, "") if caller is None else shares.of(caller.uid, caller.at)
