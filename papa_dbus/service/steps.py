"""Long work in steps of a few milliseconds, so that everybody else has a turn in between."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Seconds that one step takes.
STEP: Final = 0.003
_LOOK_AT_THE_CLOCK: Final = 4  # after so many items


class Steps:
    """Those who work in steps, one after the other: what they put together is in memory once.

    ``turn`` is held by the one who does.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()

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
