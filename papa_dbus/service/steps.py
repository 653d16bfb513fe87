"""Long work, and much that is short, in steps of a few milliseconds: everybody else has a turn in between."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from itertools import islice
from typing import Final, TypeVar

from papa_dbus.service.caller import acting_user

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Seconds that one step takes.
STEP: Final = 0.003
#: Of those who wait, so many may work in one turn of the loop, if there is time.
MOST_LET_IN: Final = 32
#: Of what may be long, so many parts are done at once: most of it has no more.
AT_ONCE: Final = 256
_TOGETHER: Final = 4  # items that are used at a time


class Turn:
    """Held by one at a time; after it comes the next user's first, so that one's many do not delay another's."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # by user, in the order of their turns

    async def __aenter__(self) -> None:
        """Wait for it, for the user on whose behalf the caller acts."""
        if not self._held:
            self._held = True
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(acting_user(), deque()).append(given)
        try:
            await given
        except BaseException:
            if not given.cancelled():  # it came just before
                self._pass_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Give it to the next."""
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            if _give_next(self._waiting):
                return
        self._held = False


class Pace:
    """Lets many who do little at a time work for a few milliseconds together, at each turn of the loop.

    Those for whom there is no time wait, and users take turns.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # by user, in the order of their turns
        self._late: deque[asyncio.Future[None]] = deque()  # let in already, when the time was over
        self._end: float | None = None  # of this turn's time; None: nobody has worked yet
        self._crowded = False  # somebody waits, or has just been let in
        self._next: asyncio.Handle | None = None

    async def turn(self) -> None:
        """Wait until there is time for the user on whose behalf the caller acts, who works until the next ``await``."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._let_in)
        if self._crowded or self._is_over():
            self._crowded = True
            await _given(self._waiting.setdefault(acting_user(), deque()))
            while self._is_over():
                await _given(self._late)

    def _is_over(self) -> bool:
        """Return whether this turn's time is over. It begins with the first who asks, who always has some."""
        now = time.perf_counter()
        if self._end is None:
            self._end = now + STEP
            return False
        return now >= self._end

    def _let_in(self) -> None:
        """Let some work in the loop's next turn, those first who have waited longest."""
        self._end = self._next = None
        late, self._late = self._late, deque()
        let_in = sum(_give(given) for given in late)
        while self._waiting and let_in < MOST_LET_IN:
            let_in += _give_next(self._waiting)
        self._crowded = let_in > 0
        if self._crowded:
            self._next = asyncio.get_running_loop().call_soon(self._let_in)


async def _given(queue: deque[asyncio.Future[None]]) -> None:
    given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    queue.append(given)
    await given


def _give_next(waiting: dict[Hashable, deque[asyncio.Future[None]]]) -> bool:
    """Let the first of the next user continue. Returns whether that one still waited."""
    user = next(iter(waiting))
    queue = waiting.pop(user)
    given = queue.popleft()
    if queue:
        waiting[user] = queue
    return _give(given)


def _give(given: "asyncio.Future[None]") -> bool:
    if given.cancelled():
        return False
    given.set_result(None)
    return True


class Steps:
    """Those who work in steps, one after the other: what they put together is in memory once.

    ``turn`` is held by the one who does.
    """

    def __init__(self) -> None:
        self.turn = Turn()

    def take(
        self, items: Iterator[_Item], use: Callable[[list[_Item]], object], result: Callable[[], _Result]
    ) -> _Result | Awaitable[_Result]:
        """Give all items to ``use``, some at a time, and return the result: at once if one step is enough."""
        return result() if take_some(items, use) else self._take_rest(items, use, result)

    async def _take_rest(
        self, items: Iterator[_Item], use: Callable[[list[_Item]], object], result: Callable[[], _Result]
    ) -> _Result:
        async with self.turn:
            await take_all(items, use)
            return result()


def begin(chore: Iterator[_Item]) -> Iterator[_Item] | None:
    """Do the first AT_ONCE parts; return the rest, None if that was all."""
    return None if sum(1 for _ in islice(chore, AT_ONCE)) < AT_ONCE else chore


#: Of one user: what is to be done, and what is told when it is.
_Queue = deque[tuple[Iterator[object], asyncio.Future[None]]]


class Chores:
    """What is to be done soon, a step at each turn of the loop: each time an iterator goes on.

    Users take turns. What one user has is done one after the other.
    """

    def __init__(self) -> None:
        self._chores: dict[Hashable, _Queue] = {}  # by user, in the order of their turns

    def begin(self, chore: Iterator[object]) -> "asyncio.Future[None] | None":
        """Do the first AT_ONCE parts now and add the rest; return what tells of the end, None if that was all."""
        rest = begin(chore)
        return None if rest is None else self.add(rest)

    def add(self, chore: Iterator[object]) -> "asyncio.Future[None]":
        """Begin, after what this user has already, not before the loop's next turn; return what tells of the end.

        Its user is the one on whose behalf the caller acts.
        """
        done = asyncio.get_running_loop().create_future()
        if not self._chores:
            self._go_on_soon()
        self._chores.setdefault(acting_user(), deque()).append((chore, done))
        return done

    def _go_on_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        end = time.perf_counter() + STEP
        in_time = True
        while self._chores and in_time:
            user, queue = next(iter(self._chores.items()))
            in_time = _go_on_with(queue, end)
            del self._chores[user]
            if queue:
                self._chores[user] = queue
        if self._chores:
            self._go_on_soon()


def _go_on_with(queue: _Queue, end: float) -> bool:
    """Go on with the first of them until the time is over, or it is done. Return whether there is time left."""
    chore, done = queue[0]
    try:
        for _ in chore:
            if time.perf_counter() >= end:
                return False
    except Exception as error:  # noqa: BLE001 (told to whoever waits; the others are done all the same)
        done.set_exception(error)
    else:
        done.set_result(None)
    queue.popleft()
    return True


async def take_all(items: Iterator[_Item], use: Callable[[list[_Item]], object]) -> None:
    """Give all items to ``use``, some at a time: a step at each turn of the loop."""
    done = False
    while not done:
        await asyncio.sleep(0)
        done = take_some(items, use)


def take_some(items: Iterator[_Item], use: Callable[[list[_Item]], object]) -> bool:
    """Give items to ``use`` for one step. Returns whether that was all."""
    end = time.perf_counter() + STEP
    while True:
        some: list[_Item] = []
        for item in items:
            some.append(item)
            if len(some) == _TOGETHER or time.perf_counter() >= end:
                break
        else:
            use(some)
            return True
        use(some)
        if time.perf_counter() >= end:
            return False
