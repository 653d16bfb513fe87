"""One watch that outlasts papad: what was acknowledged does not come again, and what was not is neither lost nor
given twice.

After a restart papad sends again what it has no acknowledgement of. What of that the reader has had already is
recognised here, by its place in the order and its timestamp. A delivery that the bus has lost shows as a gap in the
order: the watch is given up, before anything after the gap is acknowledged, and opened again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from papa_dbus.client.acknowledger import Acknowledger
from papa_dbus.client.link import KernelConnection
from papa_dbus.client.open_watches import WatchId
from papa_dbus.client.progress import Progress, mark_of
from papa_dbus.client.records import Dropped, Event, variants
from papa_dbus.client.stirring import Stirring
from papa_dbus.errors import AccessDenied, BusFull, Late, Limit, NoReply, NotFound, PapaError, Unreachable
from papa_dbus.schema import Mode, WatchRequest

log = logging.getLogger(__name__)

#: Seconds between two tries to take a watch up again, as long as nothing new comes: at first, and at most.
_PAUSE: Final = (0.05, 2.0)
_ASK_AGAIN = 0.25  # seconds without anything, before it is asked again what there is
_SILENCE = 30.0  # seconds without anything, before it is asked whether the watch is still there


class Subscription:
    """A watch. ``take`` gives what comes, ``acknowledge`` says what of it has been dealt with."""

    def __init__(
        self, link: KernelConnection, patterns: Sequence[str], *, observe: bool, follow: bool, window: int | None
    ) -> None:
        self._link = link
        self._patterns = list(patterns)
        self.observes = observe
        self._follow = follow
        mode: Mode = "observe" if observe else "consume"
        self._options = variants(WatchRequest(mode=mode, window=window, follow=follow or None))
        self._key: WatchId | None = None
        self._progress: dict[str, Progress] = {}
        self._queue: deque[Event] = deque()  # not looked at yet
        self._stirred = Stirring()
        self._there: dict[str, int] | None = None  # what there was to be caught up with: last sequence numbers
        self._acknowledger = Acknowledger(link, self)
        self._more = False  # all have ended, and papad says that something follows
        self._reason: str | None = None  # why papad has ended the watch: the reader hears of it after what has come
        self._pause = 0.0  # seconds before the watch is opened again
        self.over = False
        self._error: PapaError | None = None  # what the reader is told at the end

    async def open(self) -> list[str]:
        """Begin; returns the processes' names. Raises NotFound if one is not there."""
        self._key, names = await self._link.watches.open(self, self._patterns, self._options, auto_start=True)
        self._progress = {name: Progress() for name in names}
        await self._note_beginnings(self._key, self._patterns)
        return names

    async def _note_beginnings(self, key: WatchId, patterns: Sequence[str]) -> None:
        """Learn with which record each process must begin: the first delivery may be lost as well.

        For a consumer nothing can be acknowledged meanwhile; for an observer the beginning can only be earlier.
        """
        if not self._progress or self._link.watches.has_socket(key):
            return
        try:
            listed = (await self._link.call("ListProcesses", "as", list(patterns), auto_start=False)).body[0]
        except (Limit, NoReply, Unreachable):
            return  # it is not known, then
        if self._key == key:
            for name, result in listed.items():
                if name in self._progress and "acknowledged" in result:  # else it is an older papad
                    self._progress[name].begin = result["acknowledged"].value + 1

    async def close(self) -> None:
        """Let papad know what has been dealt with, and end the watch. The rest is there for the next one."""
        self.over = True
        self._stirred.set()
        self._stirred.close()
        await self.settle()
        key, self._key = self._key, None
        if key is not None:
            await self._link.watches.close(key)

    def resume(self) -> None:
        """Open the watch again that has ended with an error; the reader gets nothing twice."""
        self._error, self.over = None, False
        self.give_up(self._key)

    async def take(self, *, or_caught_up: bool = False) -> list[Event]:
        """Return the next events, in order; empty at the end of the watch, which ``over`` says.

        ``or_caught_up``, for an observer who has acknowledged all: empty, too, once nothing more waits in papad.
        Raises NotFound at the end where a process was removed meanwhile, and its end with it; and what papad says
        where it lets nothing more be read.
        """
        while not self.over:
            if self._queue:
                if events := self._not_had():
                    return events
            elif self._reason is not None:
                self._end(self._reason)
            elif self._key is None:
                await self._open_again()
            elif or_caught_up:
                if await self._has_caught_up():
                    return []
            elif self._may_be_over() or not await self._stirred.within(_SILENCE):
                await self._look_for_the_end()
        if self._error is not None:
            raise self._error
        return []

    def _end(self, reason: str) -> None:
        """Do what follows when papad has ended the watch."""
        self.over = reason in ("finished", "removed", "revoked")
        if not self.over:
            self.on_disconnect()
        elif reason == "revoked":
            self._error = AccessDenied("the watch has ended: an administrator has taken this client's right to it")
        elif reason == "removed":
            self._note_removed(name for name, progress in self._progress.items() if not progress.ended)

    def _note_removed(self, names: Iterable[str]) -> None:
        for name in names:
            self._error = NotFound(f"process '{name}' was removed while it was watched")

    async def _has_caught_up(self) -> bool:
        """Return whether all has come that was there when this was asked first; else wait for more of it."""
        if self._there is None:
            if (listed := await self._list(self._patterns)) is None:
                return False
            # Of one that runs and has nothing waiting, all has been acknowledged already: nothing more of that comes.
            self._there = {
                name: result["last_seq"].value
                for name, result in listed.items()
                if result["buffered"].value or not result["running"].value
            }
        had = {name: progress.last[0] for name, progress in self._progress.items() if progress.last is not None}
        if self._queue or self._key is None:
            return False
        if all(had.get(name, 0) >= seq for name, seq in self._there.items()):
            return True
        if not await self._stirred.within(_ASK_AGAIN):
            self._there = None  # one of them may have been removed
        return False

    def _not_had(self) -> list[Event]:
        events: list[Event] = []
        while self._queue:
            event = self._queue.popleft()
            progress = self._progress.setdefault(event.process, Progress())
            if not progress.follows(event, self.observes):
                log.warning("process '%s': the bus has lost output on its way; asking for it again", event.process)
                self.give_up(self._key)
                break
            if isinstance(event, Dropped):
                if (left := progress.undelivered_part(event)) is None:
                    continue
                event = left
            self._more = False
            if progress.take(event):
                self._pause = 0.0
                events.append(event)
            elif progress.handled:
                self._acknowledger.send(event.process, progress.handled[-1][0])
        return events

    def on_events(self, events: Sequence[Event]) -> None:
        """Take what has come."""
        self._queue.extend(events)
        self._stirred.set()

    def on_ended(self, reason: str) -> None:
        """Note that papad has ended the watch."""
        self._reason = reason
        self._stirred.set()

    def _may_be_over(self) -> bool:
        return not (self._follow or self._more) and all(progress.settled for progress in self._progress.values())

    async def _look_for_the_end(self) -> None:
        """Ask papad, which knows whether a namesake's output follows, and may have ended the watch unheard."""
        key = self._key
        if key is None:
            return
        try:
            there = await self._acknowledger.is_there(key) and not await self._has_seen_all()
        except (NoReply, Unreachable):
            self.give_up(key)
            return
        if there:
            self._more = self._may_be_over()
        elif self.open_as == key and not self._queue:
            self.over = self._may_be_over()
            if not self.over:
                self.give_up(key)

    async def _has_seen_all(self) -> bool:
        """Return whether an observer has nothing more to come. An older papad does not say so."""
        if self._follow or not self.observes:
            return False
        listed = await self._list(list(self._progress))
        for name, result in (listed or {}).items():
            last = self._progress[name].last
            if result["running"].value or last is None or last[0] < result["last_seq"].value:
                return False
        return listed is not None

    async def _list(self, patterns: Sequence[str]) -> dict[str, Any] | None:
        """Return the processes that papad lists, or, after a while, None if it has too much to do to say so."""
        try:
            reply = await self._link.call("ListProcesses", "as", list(patterns), auto_start=False)
        except (BusFull, Late, Limit):
            await asyncio.sleep(_PAUSE[1])
            return None
        listed: dict[str, Any] = reply.body[0]
        return listed

    def acknowledge(self, events: Iterable[Event]) -> None:
        """Note that these have been dealt with, and of each one's process all that was given before."""
        for event in events:
            progress = self._progress.get(event.process)  # None: it was removed meanwhile
            if progress is not None and progress.mark_handled(mark_of(event)):
                self._acknowledger.send(event.process, progress.handled[-1][0])

    async def settle(self) -> None:
        """Wait until papad has what was acknowledged, or has gone; no longer than for a call."""
        await self._acknowledger.settle()

    @property
    def open_as(self) -> WatchId | None:
        """Return the watch that papad has for it, None while there is none or after papad has ended it."""
        return self._key if self._reason is None else None

    def on_acknowledged(self, up_to: Iterable[tuple[str, int]]) -> None:
        """Note that papad has acknowledgements: processes and sequence numbers."""
        for name, seq in up_to:
            if name in self._progress:
                self._progress[name].confirm(seq)
        self._stirred.set()

    def fail(self, error: PapaError) -> None:
        """End with an error, which the reader is told."""
        self._error, self.over = error, True
        self._stirred.set()

    def on_disconnect(self) -> None:
        """Note that the watch has gone: papad has, or something of it was lost."""
        self._key = self._there = self._reason = None
        self._queue.clear()
        self._acknowledger.clear()
        for progress in self._progress.values():
            progress.lose(self.observes)
        self._stirred.set()

    def give_up(self, key: WatchId | None) -> None:
        """Do without this watch, if it is the present one, and open another: papad shall not keep it."""
        if key is not None and self._key == key:
            self._link.watches.abandon(key)
            self.on_disconnect()

    async def _open_again(self) -> None:
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause or _PAUSE[0], _PAUSE[1])
        await self._link.wait_for_kernel()
        patterns = self._patterns
        if not self._follow:
            patterns = [name for name, progress in self._progress.items() if self._more or not progress.settled]
            if not patterns:
                self.over = True
                return
        try:
            self._key, names = await self._link.watches.open(self, patterns, self._options, auto_start=False)
            for name in names:
                self._progress.setdefault(name, Progress())
            await self._note_beginnings(self._key, patterns)
        except NotFound:
            await self._forget_missing(patterns)
        except (NoReply, Unreachable, Limit) as error:  # it has gone again, or has too much to do
            log.debug("the watch is not opened again yet: %s", error)

    async def _forget_missing(self, wanted: Sequence[str]) -> None:
        if (listed := await self._list(wanted)) is None:
            return
        missing = [name for name in wanted if name not in listed]
        self._note_removed(name for name in missing if not self._progress[name].ended)
        for name in missing:
            del self._progress[name]
