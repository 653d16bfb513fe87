"""Waiting for something to come, a bounded time and again and again: one timer serves all of these waits."""

import asyncio


class Stirring:
    """One task waits at a time. ``set`` ends its wait."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end = 0.0  # the loop's time at which the present wait ends

    def set(self) -> None:
        """Note that something has come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def within(self, seconds: float) -> bool:
        """Wait for something to come; return whether it did in so many seconds."""
        loop = asyncio.get_running_loop()
        self._end = loop.time() + seconds
        if self._timer is None or self._timer.when() > self._end:
            self.close()
            self._timer = loop.call_at(self._end, self._ring)
        self._waiter = loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._waiter is None or self._waiter.done():
            return
        if loop.time() < self._end:  # it was set for an earlier wait
            self._timer = loop.call_at(self._end, self._ring)
        else:
            self._waiter.set_result(False)
