"""Long work in steps of a few milliseconds, so that everybody else has a turn in between."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Final, TypeVar

from papa_dbus.service import audit

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Seconds that one step takes.
STEP: Final = 0.003
_LOOK_AT_THE_CLOCK: Final = 4  # after so many items


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
        self._waiting.setdefault(audit.user(), deque()).append(given)
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
            user = next(iter(self._waiting))
            queue = self._waiting.pop(user)
            given = queue.popleft()
            if queue:
                self._waiting[user] = queue
            if not given.cancelled():
                given.set_result(None)
                return
        self._held = False


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
        return result() if _step(items, use) else self._take_rest(items, use, result)

    async def _take_rest(
        self, items: Iterator[_Item], use: Callable[[list[_Item]], object], result: Callable[[], _Result]
    ) -> _Result:
        async with self.turn:
            await take_all(items, use)
            return result()


async def take_all(items: Iterator[_Item], use: Callable[[list[_Item]], object]) -> None:
    """Give all items to ``use``, some at a time: a step at each turn of the loop."""
    done = False
    while not done:
        await asyncio.sleep(0)
        done = _step(items, use)


def _step(items: Iterator[_Item], use: Callable[[list[_Item]], object]) -> bool:
    """Return whether that was all."""
    end = time.perf_counter() + STEP
    while True:
        some: list[_Item] = []
        for item in items:
            some.append(item)
            if len(some) == _LOOK_AT_THE_CLOCK:
                break
        use(some)
        if len(some) < _LOOK_AT_THE_CLOCK:
            return True
        if time.perf_counter() >= end:
            return False
