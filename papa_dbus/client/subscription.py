"""One watch that outlasts the kernel: what was acknowledged does not come again, and what was not is neither lost nor
given twice.

After a restart the kernel sends again what it has no acknowledgement of. What of that the reader has had already is
recognised here, by its place in the order and its timestamp.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from papa_dbus.bus import Variant
from papa_dbus.client.link import Link, WatchKey
from papa_dbus.client.records import Dropped, Event, Exited, Record
from papa_dbus.errors import NoReply, NotFound, PapaError, Unreachable

_PAUSE = 0.05  # seconds between two tries to take a watch up again
_ASK_AGAIN = 0.25  # seconds without anything, before it is asked again what there is

#: What an event is recognised by when it comes again, sequence number and timestamp; and its bytes.
_Mark = tuple[int, int, int]


def _mark(event: Event) -> _Mark:
    match event:
        case Record():
            return event.seq, event.timestamp, len(event.data)
        case Exited():
            return event.seq, event.timestamp, 0
        case Dropped():
            return event.last_seq, 0, event.bytes


class _Progress:
    """How far the reader has come with one process, and how much of that the kernel knows."""

    __slots__ = ("again", "done", "ended", "given", "last", "seen")

    def __init__(self) -> None:
        self.given: deque[_Mark] = deque()  # the reader has it in hand
        self.done: deque[_Mark] = deque()  # the reader has dealt with it, and the kernel has not confirmed that
        self.again: dict[_Mark, bool] = {}  # after a restart: what of that may come again, and whether it was done
        self.last: _Mark | None = None  # of what was given
        self.seen: _Mark | None = None  # for an observer, after a restart: it comes again up to here
        self.ended = False

    @property
    def settled(self) -> bool:
        """Whether it has ended, and the kernel knows that the reader knows."""
        return self.ended and not (self.given or self.done or self.again)

    def lose(self, observer: bool) -> None:
        """The kernel has gone."""
        if observer:
            self.seen = self.last
        else:
            again = dict.fromkeys(self.done, True) | dict.fromkeys(self.given, False)
            self.again = again | self.again
        self.given.clear()
        self.done.clear()

    def has_had(self, mark: _Mark) -> bool:
        """Whether the reader has had this before the kernel went away."""
        if self.seen is not None:
            if mark[0] <= self.seen[0] and mark[1] <= self.seen[1]:
                self.done.append(mark)
                return True
            self.seen = None
        while self.again:
            first = next(iter(self.again))
            was_done = self.again.pop(first)
            if first == mark:
                (self.done if was_done else self.given).append(mark)
                return True
            # The kernel has the acknowledgement of this one, though not the client its answer.
        return False

    def not_had_of(self, dropped: Dropped) -> Dropped | None:
        """What of the dropped records the reader has not had."""
        first, size = dropped.first_seq, dropped.bytes
        while self.again and (mark := next(iter(self.again)))[0] <= dropped.last_seq:
            del self.again[mark]
            first, size = mark[0] + 1, size - mark[2]
        if self.seen is not None:
            first = max(first, self.seen[0] + 1)
        return dropped._replace(first_seq=first, bytes=size) if first <= dropped.last_seq else None

    def finish(self, mark: _Mark) -> bool:
        """The reader has dealt with this; returns whether the kernel is to be told now."""
        if mark in self.again:
            self.again[mark] = True  # the kernel will be told once it has sent it again
            return False
        if not self.given or (self.given[0] != mark and mark not in self.given):
            return False
        self.done.append(self.given.popleft())
        while self.done[-1] != mark:
            self.done.append(self.given.popleft())
        return True

    def confirm(self, seq: int) -> None:
        """The kernel has taken the acknowledgement."""
        while self.done and self.done.popleft()[0] != seq:
            pass


class Subscription:
    """A watch. ``take`` gives what comes, ``acknowledge`` says what of it has been dealt with."""

    def __init__(self, link: Link, patterns: Sequence[str], *, observe: bool, follow: bool, window: int | None) -> None:
        self._link = link
        self._patterns = list(patterns)
        self.observes = observe
        self._follow = follow
        self._options = {"mode": Variant("s", "observe" if observe else "consume")}
        if follow:
            self._options["follow"] = Variant("b", True)
        if window is not None:
            self._options["window"] = Variant("t", window)
        self._key: WatchKey | None = None
        self._progress: dict[str, _Progress] = {}
        self._queue: deque[Event] = deque()
        self._stirred = asyncio.Event()
        self._there: dict[str, int] | None = None  # what there was to be caught up with: last sequence numbers
        self._up_to: dict[str, int] = {}  # to be acknowledged
        self._sender: asyncio.Task[None] | None = None
        self._more = False  # all have ended, and the kernel says that something follows
        self.over = False
        self._error: PapaError | None = None  # what the reader is told at the end

    async def open(self) -> list[str]:
        """Begin; returns the processes' names. Raises NotFound where one is not there."""
        self._key, names = await self._link.open_watch(self, self._patterns, self._options, auto_start=True)
        self._progress = {name: _Progress() for name in names}
        return names

    async def close(self) -> None:
        """Let the kernel know what has been dealt with, and end the watch. The rest is there for the next one."""
        self.over = True
        self._stirred.set()
        await self.settle()
        key, self._key = self._key, None
        if key is not None:
            await self._link.close_watch(key)

    # ----------------------------------------------------------------- reading

    async def take(self, *, or_caught_up: bool = False) -> list[Event]:
        """The next events, in order; empty at the end of the watch, which ``over`` says.

        ``or_caught_up``, for an observer who has acknowledged all: empty, too, once nothing more waits in the kernel.
        Raises NotFound at the end where a process was removed meanwhile, and its end with it; and what the kernel says
        where it lets nothing more be read.
        """
        while not self.over:
            if self._queue:
                if events := self._not_had():
                    return events
            elif self._key is None:
                await self._open_again()
            elif or_caught_up:
                if await self._has_caught_up():
                    return []
            elif self._may_be_over():
                await self._look_for_the_end()
            else:
                self._stirred.clear()
                await self._stirred.wait()
        if self._error is not None:
            raise self._error
        return []

    async def _has_caught_up(self) -> bool:
        """Whether all has come that was there when this was asked first; else it waits for more of it."""
        if self._there is None:
            call = self._link.call("ListProcesses", "as", self._patterns, auto_start=False)
            # Of one that runs and has nothing waiting, all has been acknowledged already: nothing more of that comes.
            self._there = {
                name: result["last_seq"].value
                for name, result in (await call).body[0].items()
                if result["buffered"].value or not result["running"].value
            }
        had = {name: progress.last[0] for name, progress in self._progress.items() if progress.last is not None}
        if self._queue or self._key is None:
            return False
        if all(had.get(name, 0) >= seq for name, seq in self._there.items()):
            return True
        self._stirred.clear()
        try:
            async with asyncio.timeout(_ASK_AGAIN):
                await self._stirred.wait()
        except TimeoutError:
            self._there = None  # one of them may have been removed
        return False

    def _not_had(self) -> list[Event]:
        events: list[Event] = []
        while self._queue:
            event = self._queue.popleft()
            progress = self._progress.setdefault(event.process, _Progress())
            if isinstance(event, Dropped):
                left = progress.not_had_of(event)
                if left is None:
                    continue
                event = left
            self._more = False
            progress.ended = isinstance(event, Exited)
            mark = _mark(event)
            if not progress.has_had(mark):
                progress.given.append(mark)
                progress.last = mark
                events.append(event)
            elif progress.done:
                self._tell(event.process, progress)
        return events

    def hear(self, member: str, body: list[Any]) -> None:
        """Take one signal."""
        match member:
            case "Output":
                name = body[0]
                self._queue.extend([Record(name, *record) for record in body[1]])
            case "Dropped":
                self._queue.append(Dropped(*body))
            case "Exited":
                name, seq, timestamp, code, known = body
                self._queue.append(Exited(name, seq, timestamp, code if known else None))
        self._stirred.set()

    def _may_be_over(self) -> bool:
        return not (self._follow or self._more) and all(progress.settled for progress in self._progress.values())

    async def _look_for_the_end(self) -> None:
        """Ask the kernel, which knows whether a namesake's output follows."""
        key = self._key
        if key is None:
            return
        try:
            if self.observes:
                self.over = await self._has_seen_all()
            else:
                await self._link.call_watch(key, "Acknowledge", "ta{st}", {})
        except NotFound:
            self.over = self._key == key
        except (NoReply, Unreachable):
            self._lose_if(key)
            return
        self._more = not self.over

    async def _has_seen_all(self) -> bool:
        listed = (await self._link.call("ListProcesses", "as", list(self._progress), auto_start=False)).body[0]
        for name, result in listed.items():
            last = self._progress[name].last
            if result["running"].value or last is None or last[0] < result["last_seq"].value:
                return False
        return True

    # ------------------------------------------------------- acknowledgements

    def acknowledge(self, events: Iterable[Event]) -> None:
        """These have been dealt with, and of each one's process all that was given before."""
        for event in events:
            progress = self._progress.get(event.process)  # None: it was removed meanwhile
            if progress is not None and progress.finish(_mark(event)):
                self._tell(event.process, progress)

    async def settle(self) -> None:
        """Wait until the kernel has what was acknowledged, or has gone."""
        if self._sender is not None:
            await asyncio.wait([self._sender])

    def _tell(self, name: str, progress: _Progress) -> None:
        self._up_to[name] = progress.done[-1][0]
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        """Acknowledge; what is dealt with while an answer is awaited goes with the next call."""
        while self._up_to and (key := self._key) is not None:
            up_to, self._up_to = self._up_to, {}
            try:
                await self._acknowledge(key, up_to)
            except (NoReply, Unreachable):
                self._lose_if(key)
                continue
            except PapaError as error:
                self._error, self.over = error, True
                self._stirred.set()
                return
            if self._key == key:
                for name, seq in up_to.items():
                    self._progress[name].confirm(seq)
                self._stirred.set()

    async def _acknowledge(self, key: WatchKey, up_to: dict[str, int]) -> None:
        try:
            await self._link.call_watch(key, "Acknowledge", "ta{st}", up_to)
        except NotFound:
            # One of them has been removed: the others are to be acknowledged all the same.
            if len(up_to) > 1:
                for name, seq in up_to.items():
                    await self._acknowledge(key, {name: seq})

    # --------------------------------------------------------------- restarts

    def lose(self) -> None:
        """The kernel has gone, and the watch with it."""
        self._key = self._there = None
        self._queue.clear()
        self._up_to.clear()
        for progress in self._progress.values():
            progress.lose(self.observes)
        self._stirred.set()

    def _lose_if(self, key: WatchKey) -> None:
        """The kernel does not answer: if it is there all the same, it shall not keep this watch."""
        if self._key == key:
            self._link.abandon_watch(key)
            self.lose()

    async def _open_again(self) -> None:
        await self._link.wait_for_kernel()
        patterns = self._patterns
        if not self._follow:
            patterns = [name for name, progress in self._progress.items() if self._more or not progress.settled]
            if not patterns:
                self.over = True
                return
        try:
            self._key, _ = await self._link.open_watch(self, patterns, self._options, auto_start=False)
        except NotFound:
            await self._forget_missing(patterns)
        except (NoReply, Unreachable):  # it has gone again
            await asyncio.sleep(_PAUSE)

    async def _forget_missing(self, wanted: list[str]) -> None:
        listed = (await self._link.call("ListProcesses", "as", wanted)).body[0]
        for name in wanted:
            if name not in listed and not self._progress.pop(name).ended:
                self._error = NotFound(f"process '{name}' was removed while it was watched")
