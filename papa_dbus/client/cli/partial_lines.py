"""Events as they come, and a word in between when a line has begun and its end does not come."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from papa_dbus.client.aio import Event, Watch

#: Seconds for what is on its way already: a reader that was slow must not find a begun line late for that.
_MOMENT = 0.05


@asynccontextmanager
async def paced(watch: Watch, due: Callable[[], float | None]) -> AsyncIterator[AsyncIterator[list[Event] | None]]:
    """Give the batches of a watch, and None when something is ``due`` by time.monotonic()."""
    batches = watch.batches()
    coming: list[asyncio.Task[list[Event] | None]] = []
    try:
        yield _take_turns(batches, due, coming)
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)


async def _take_turns(
    batches: AsyncIterator[list[Event]], due: Callable[[], float | None], coming: list[asyncio.Task[list[Event] | None]]
) -> AsyncIterator[list[Event] | None]:
    late: float | None = None  # was due already when the last batch came, which may have had the line's end
    while True:
        if not coming:
            coming.append(asyncio.ensure_future(_next(batches)))
        at = due()
        if at is not None and at == late:
            late = None
            yield None
            continue
        timeout = None if at is None else max(at - time.monotonic(), _MOMENT)
        await asyncio.wait(coming, timeout=timeout)
        if not coming[0].done():
            yield None
            continue
        late = at if at is not None and at <= time.monotonic() else None
        events = coming.pop().result()
        if events is None:
            return
        yield events


async def _next(batches: AsyncIterator[list[Event]]) -> list[Event] | None:
    """Return the next batch; None at the end of the watch."""
    return await anext(batches, None)
