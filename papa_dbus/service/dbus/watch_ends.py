"""The ends of watches, as their clients hear of them: after all that was sent, and again if the bus has lost it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from papa_dbus.bus import Bus
from papa_dbus.bus.bus import DRIVER
from papa_dbus.errors import PapaError
from papa_dbus.service.background import BackgroundTasks
from papa_dbus.service.dbus.output_signals import OutputSignals
from papa_dbus.service.dbus.watch_turns import Client, Subscription

#: Seconds before a client is told again that a watch has ended, while the bus has no room for that.
_TELL_AGAIN: Final = 1.0


class Ends:
    """Those of all watches of one bus."""

    def __init__(self, bus: Bus, signals: OutputSignals, tasks: BackgroundTasks) -> None:
        self._bus = bus
        self._signals = signals
        self._tasks = tasks

    def tell(self, subscription: Subscription) -> None:
        """Tell a client that its watch has ended."""
        if (reason := subscription.end) is None:
            return
        if subscription.socket is not None:
            subscription.socket.end(reason)
        else:
            self._signals.send_end(subscription.client, subscription.watch.number, reason)

    def once_delivered(self, subscription: Subscription, tell: Callable[[Subscription], None]) -> None:
        """Have the end of an observing watch told after what the bus may say of signals that it has not delivered."""
        if subscription.socket is not None:
            tell(subscription)
        else:
            self._tasks.start(self._once_delivered(subscription, tell))

    async def _once_delivered(self, subscription: Subscription, tell: Callable[[Subscription], None]) -> None:
        with contextlib.suppress(PapaError):  # if the bus has gone, so have all its watches
            await self._bus.call(*DRIVER, "GetId")
        tell(subscription)

    def tell_again_soon(self, client: Client, number: int) -> None:
        """Tell an end again that the bus did not deliver."""
        client.untold[number] = client.ends.pop(number)
        if client.retry is None:
            client.retry = asyncio.get_running_loop().call_later(_TELL_AGAIN, self._tell_again, client)

    def _tell_again(self, client: Client) -> None:
        client.retry = None
        untold, client.untold = client.untold, {}
        for number, reason in untold.items():
            self._signals.send_end(client, number, reason)

    def drop(self, client: Client) -> None:
        """Tell a client nothing more: it has left."""
        if client.retry is not None:
            client.retry.cancel()
