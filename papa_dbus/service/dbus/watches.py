"""The watches of clients on the bus: output as unicast signals, to the client and to no one else.

Signals go out only as fast as the bus takes them, as far as a watch's window allows, and as much as may be on its way
(output_signals.py). Clients and watches take turns (watch_turns.py). A client that leaves the bus takes its watches
with it. A signal that the bus could not deliver ends its watch: nothing after it may be acknowledged. Each end is told.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from papa_dbus.bus import Bus, Message
from papa_dbus.bus.bus import DRIVER
from papa_dbus.errors import Limit, NotFound, PapaError
from papa_dbus.service import limits
from papa_dbus.service.background import BackgroundTasks
from papa_dbus.service.caller import acting_user
from papa_dbus.service.dbus.broker_queues import Queues
from papa_dbus.service.dbus.output_signals import END, OutputSignals
from papa_dbus.service.dbus.watch_turns import Client, Reason, Subscription, Turns
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.events import size_of
from papa_dbus.service.output.watches import Watch
from papa_dbus.service.steps import Chores

#: The receiver is not there any more.
_GONE = frozenset(f"org.freedesktop.DBus.Error.{name}" for name in ("ServiceUnknown", "NameHasNoOwner"))
#: Bytes in one signal: large enough to be cheap, small enough that others do not wait for it.
_SIGNAL_BYTES = 256 * 1024
#: Events, each of one process and a signal of its own, that one watch sends before it is seen whose turn it is.
_EVENTS = 16


class Subscriptions:
    """All watches of one bus, by number and by client. ``may_hear`` says whether output may go to a client now."""

    def __init__(self, kernel: Kernel, bus: Bus, may_hear: Callable[[str], bool], queues: Queues) -> None:
        self._may_hear = may_hear
        self._queues = queues
        self._kernel = kernel
        self._bus = bus
        self._bus_id = ""
        self._by_number: dict[int, Subscription] = {}
        self._clients: dict[str, Client] = {}
        self._turns = Turns(self._send_to, bus.flush)
        self._chores = Chores()
        self._signals = OutputSignals(bus, queues, self._chores, self._counted)
        self._tasks = BackgroundTasks()
        self._closed: asyncio.Future[None] | None = None
        bus.on_signal.append(self._hear)
        bus.on_connected.append(self._listen)
        bus.on_undelivered = self._undelivered
        bus.on_room = self.pump_all

    async def _listen(self) -> None:
        """Hear when a client leaves the bus, and know which bus it is: another one gives the same names to others."""
        # One rule for the departures of all clients: a bus bounds how many there may be.
        await self._bus.add_match(sender=DRIVER[0], interface=DRIVER[2], member="NameOwnerChanged", arg2="")
        self._bus_id = (await self._bus.call(*DRIVER, "GetId")).body[0]

    def open(self, client: str, patterns: Sequence[str], spec: WatchSpec) -> Watch:
        """Begin a watch for a client; nothing is sent before begin()."""
        known = self._clients.get(client)
        if known is not None and len(known.watches) >= limits.MAX_WATCHES_PER_CLIENT:
            raise Limit(f"a client may have {limits.MAX_WATCHES_PER_CLIENT} watches at a time; end one first")
        subscription = Subscription(known or Client(client, acting_user()))
        subscription.watch = watch = self._kernel.watch(
            patterns,
            spec,
            lambda: self._turns.ask(subscription),
            lambda end: self._ended(subscription, end),
            f"{self._bus_id}{client}",
        )
        self._by_number[watch.number] = subscription
        subscription.client.watches.add(watch.number)
        if known is None:
            self._clients[client] = subscription.client
            self._tasks.start(self._check_presence(client))
        return watch

    def begin(self, number: int) -> None:
        """The client knows its watch's number."""
        if (subscription := self._by_number.get(number)) is not None:
            subscription.begun = True
            subscription.before = subscription.client.flight.last
            if subscription.end is not None:
                self._tell_end(subscription)
            else:
                self._turns.ask(subscription)

    def _find(self, client: str, number: int) -> Subscription:
        """Return a client's own watch. Raises NotFound."""
        subscription = self._by_number.get(number)
        if subscription is None or subscription.client.name != client:
            raise NotFound(f"watch {number} is not there: it has ended, or is another client's; begin a new one")
        self._signals.note_read(subscription.client, subscription.before)  # else it would not know the number
        return subscription

    def acknowledge(self, client: str, number: int, up_to: Mapping[str, int]) -> "asyncio.Future[None] | None":
        """Note what a client has dealt with of its own watch; return what tells when all is, None if it is.

        Raises NotFound and InvalidArgs.
        """
        known = self._clients.get(client)
        try:
            subscription = self._find(client, number)
            rest = subscription.watch.acknowledge(up_to)
        except NotFound:
            if known is not None:
                self._signals.note_acknowledged(known, number, up_to)  # all the same, of a watch that has ended
            raise
        self._signals.note_acknowledged(subscription.client, number, up_to)
        if rest is not None:
            return asyncio.shield(self._chores.add(self._acknowledging(subscription, rest)))
        self._signals.count_kept(subscription)
        return None

    def _acknowledging(self, subscription: Subscription, rest: Iterator[None]) -> Iterator[None]:
        yield from rest
        if self._by_number.get(subscription.watch.number) is subscription:  # the bus may have gone
            self._signals.count_kept(subscription)

    def end(self, client: str, number: int) -> "asyncio.Future[None] | None":
        """End a client's own watch; return what tells when all is let go, None if it is. Raises NotFound."""
        subscription = self._find(client, number)
        closed = self._kernel.close_watch(subscription.watch)
        self._forget(subscription)
        return closed

    # ------------------------------------------------------------------ output

    def _send_to(self, subscription: Subscription) -> int:
        """Send the next of a watch; returns how many bytes of payload that was."""
        watch, client = subscription.watch, subscription.client
        if not subscription.begun or client.left or not watch.ready:
            return 0
        if not self._bus.has_room or not self._may_hear(client.name):
            self._turns.wait_for_bus(subscription)
            return 0
        most = min(_SIGNAL_BYTES, self._queues.room(client.name, client.flight.uid))
        if not most:
            client.unread[subscription] = None
            return 0
        room = self._signals.room(subscription, most)
        if not room:
            self._turns.wait_for_room(subscription, self._signals.waits_for_others(subscription))
            return 0
        subscription.sending = True
        events = watch.take(room, _EVENTS)
        for event in events:
            self._signals.send(client, watch.number, event)
        subscription.sending = False
        self._signals.count_kept(subscription)
        if subscription.end is not None:
            self._tasks.start(self._tell_once_delivered(subscription))
        elif events and watch.ready:
            client.ready[subscription] = None
        self._turns.wake(client)
        return sum(map(size_of, events))

    def pump_all(self) -> None:
        """Send again: the bus takes messages, or somebody may hear them now."""
        self._turns.wake_all()

    def read_more(self, name: str) -> None:
        """Send again to a client that has read what the bus had for it."""
        client = self._clients.get(name)
        for subscription in list(client.unread) if client is not None else ():
            self._turns.ask(subscription)

    def _counted(self, client: Client, less: bool) -> None:
        """Note what a client has on its way, or papad for it: it has become ``less``, or not."""
        if less:
            self._turns.wake(client)
        if not client.watches and client.flight.empty and not client.untold:
            self._drop(client)

    def _undelivered(self, serial: int, error: str) -> None:
        """End the watch whose signal the bus did not deliver: the client must not acknowledge what comes after it."""
        client = self._signals.client_of_undelivered(serial)
        if client is None:
            return
        if error in _GONE:
            self._leave(client)
            return
        number, process = client.flight.remove(serial)
        client.warn_once(error)
        if process == END:
            self._signals.send_end_again(client, number)
        elif (subscription := self._by_number.get(number)) is not None:
            self._kernel.close_watch(subscription.watch)
            self._ended(subscription, "failed")
        self._signals.count(client)

    # -------------------------------------------------------------------- ends

    def _ended(self, subscription: Subscription, reason: Reason) -> None:
        """Tell a client, after what is being sent, that a watch has ended without its doing."""
        subscription.end = reason
        if subscription.begun and not subscription.sending:
            self._tell_end(subscription)

    async def _tell_once_delivered(self, subscription: Subscription) -> None:
        """Tell the end of an observing watch, after what the bus may say of signals that it has not delivered."""
        with contextlib.suppress(PapaError):  # if the bus has gone, so have all its watches
            await self._bus.call(*DRIVER, "GetId")
        self._tell_end(subscription)

    def _tell_end(self, subscription: Subscription) -> None:
        number, reason = subscription.watch.number, subscription.end
        if reason is not None and self._by_number.get(number) is subscription:
            self._signals.send_end(subscription.client, number, reason)
            self._forget(subscription)

    def _forget(self, subscription: Subscription) -> None:
        client, number = subscription.client, subscription.watch.number
        self._by_number.pop(number, None)
        self._turns.forget(subscription)
        client.watches.discard(number)
        self._signals.count_kept(subscription)

    # ----------------------------------------------------------------- clients

    async def _check_presence(self, client: str) -> None:
        """Look whether a client is there: it may have left before its call was served."""
        try:
            reply = await self._bus.call(*DRIVER, "NameHasOwner", "s", [client])
        except PapaError:
            return  # the bus has gone, and all its watches with it
        if not reply.body[0] and client in self._clients:
            self._leave(self._clients[client])

    def _hear(self, signal: Message) -> None:
        if signal.sender == DRIVER[0] and signal.member == "NameOwnerChanged" and not signal.body[2]:
            self._queues.forget(signal.body[0])
            if (client := self._clients.get(signal.body[0])) is not None:
                self._leave(client)

    def revoke(self, name: str) -> None:
        """End the watches of a client that may hear no more, in steps: nothing is sent meanwhile."""
        if (client := self._clients.get(name)) is not None:
            self._chores.add(self._revoking([self._by_number[number] for number in client.watches]))

    def _revoking(self, subscriptions: Sequence[Subscription]) -> Iterator[None]:
        for subscription in subscriptions:
            if subscription.end is None and self._by_number.get(subscription.watch.number) is subscription:
                yield from subscription.watch.closing()
                self._ended(subscription, "revoked")

    def _leave(self, client: Client) -> None:
        """Forget a client that has left the bus, and what it had, in steps."""
        if not client.left:
            client.left = True
            self._chores.add(self._leaving(client))

    def _leaving(self, client: Client) -> Iterator[None]:
        while client.watches and self._clients.get(client.name) is client:
            subscription = self._by_number[next(iter(client.watches))]
            yield from subscription.watch.closing()
            if self._clients.get(client.name) is client:
                self._forget(subscription)
        while self._clients.get(client.name) is client and self._signals.forget_one(client):
            yield
        client.untold.clear()
        self._drop(client)

    def _drop(self, client: Client) -> None:
        if self._clients.get(client.name) is not client:  # another bus may have given its name to another
            return
        del self._clients[client.name]
        if client.retry is not None:
            client.retry.cancel()
        self._turns.drop(client)
        self._signals.drop(client)
        self._turns.wake(client)

    def close_all(self) -> None:
        """Close all watches when the bus has gone, and with it every client's name; the clients will come back.

        Nothing comes from them any more; closed() is awaited before a client may be served again.
        """
        left = list(self._by_number.values())
        for subscription in left:
            subscription.begun = False
        for client in self._clients.values():
            if client.retry is not None:
                client.retry.cancel()
        self._tasks.cancel()
        self._by_number.clear()
        self._clients.clear()
        self._turns.clear()
        self._signals.clear()
        if left:
            self._closed = self._kernel.close_watches([subscription.watch for subscription in left])

    async def closed(self) -> None:
        """Wait until those watches are closed."""
        if self._closed is not None:
            await asyncio.shield(self._closed)
