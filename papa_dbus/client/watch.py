"""A watch as its reader has it: an asynchronous iterator of events, which acknowledges what the loop is done with."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from papa_dbus.client.records import Event
from papa_dbus.client.subscription import Subscription


class Watch:
    """The events of a watch, in order: ``async for event in watch``.

    What the loop body is done with is acknowledged, many at a time. Inside of ``async with watch`` that holds for a
    body that breaks out, too; a body that raises is not done with its event, which comes again for the next watch.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._in_hand: Event | None = None
        self.names: list[str] | None = None  # of the watched processes, once it has begun

    async def open(self) -> None:
        """Begin, where the iteration has not. Raises NotFound where a process is not there."""
        if self.names is None:
            self.names = await self._subscription.open()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        await self._subscription.close()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """All that has come, list after list; a list that the loop body is done with is acknowledged as a whole.

        What the body takes out of the list is not: it is acknowledged with what follows of the same process.
        Observing, the first empty list says that all has come that was there when the watch began.
        """
        await self.open()
        caught_up = not self._subscription.observes
        try:
            while True:
                events = await self._subscription.take(or_caught_up=not caught_up)
                if self._subscription.over and not events:
                    return
                caught_up = caught_up or not events
                yield events
                self._subscription.acknowledge(events)
        finally:
            await self._subscription.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        await self.open()
        try:
            while events := await self._subscription.take():
                for event in events:
                    self._in_hand = event
                    yield event
                    self._finish()
        except GeneratorExit:
            # Left without async with: nothing says whether the body was done with its event, so it comes again.
            self._in_hand = None
            raise
        finally:
            await self._subscription.close()

    def _finish(self) -> None:
        event, self._in_hand = self._in_hand, None
        if event is not None:
            self._subscription.acknowledge((event,))
