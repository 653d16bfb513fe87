"""The watches of clients on the bus: output as unicast signals, or on a socket, to the client and to no one else.

It goes out only as fast as the bus or the socket takes it, as far as a watch's window allows, and as much as may be on
its way (output_signals.py, output_socket.py). Clients and watches take turns (watch_turns.py). A client that leaves the
bus takes its watches with it. A signal that the bus could not deliver ends its watch: nothing after it may be
acknowledged. Each end is told (watch_ends.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

from papa_dbus.bus import Bus
from papa_dbus.errors import Limit, NotFound
from papa_dbus.service import limits
from papa_dbus.service.background import BackgroundTasks
from papa_dbus.service.caller import acting_user
from papa_dbus.service.dbus.broker_queues import Queues
from papa_dbus.service.dbus.output_signals import END, OutputSignals
from papa_dbus.service.dbus.output_socket import OutputSockets
from papa_dbus.service.dbus.presence import Presence
from papa_dbus.service.dbus.watch_ends import Ends
from papa_dbus.service.dbus.watch_sending import Sending
from papa_dbus.service.dbus.watch_turns import Client, Reason, Subscription
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.watches import Watch
from papa_dbus.service.steps import Chores

#: The receiver is not there any more.
_GONE = frozenset(f"org.freedesktop.DBus.Error.{name}" for name in ("ServiceUnknown", "NameHasNoOwner"))


class Subscriptions:
    """All watches of one bus, by number and by client. ``may_hear`` says whether output may go to a client now."""

    def __init__(self, kernel: Kernel, bus: Bus, may_hear: Callable[[str], bool], queues: Queues) -> None:
        self._queues = queues
        self._kernel = kernel
        self._bus = bus
        self._by_number: dict[int, Subscription] = {}
        self._clients: dict[str, Client] = {}
        self._chores = Chores()
        self._signals = OutputSignals(bus, queues, self._chores, self._counted)
        self._tasks = BackgroundTasks()
        self._ends = Ends(bus, self._signals, self._tasks)
        self._turns = Sending(bus, may_hear, queues, self._signals, self._ends, self._tell_end).turns
        self._closed: asyncio.Future[None] | None = None
        self._presence, self._sockets = Presence(bus, self._left), OutputSockets(bus.warn)
        kernel.after_reading.append(self._turns.send_now)
        bus.on_undelivered = self._undelivered
        bus.on_room = self.pump_all

    def open(self, client: str, patterns: Sequence[str], spec: WatchSpec) -> Watch:
        """Begin a watch for a client; nothing is sent before begin()."""
        known = self._clients.get(client)
        if known is not None and len(known.watches) >= (most := limits.MAX_WATCHES_PER_CLIENT):
            raise Limit(f"a client may have {most} watches at a time; end one first")
        subscription = Subscription(known or Client(client, acting_user()))
        subscription.watch = watch = self._kernel.watch(
            patterns,
            spec,
            lambda: self._turns.ask(subscription),
            lambda end: self._ended(subscription, end),
            f"{self._presence.bus_id}{client}",
        )
        self._by_number[watch.number] = subscription
        subscription.client.watches.add(watch.number)
        if known is None:
            self._clients[client] = subscription.client
            self._tasks.start(self._presence.check(client))
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

    def give_socket(self, number: int) -> int:
        """Have a watch that has not begun use a socket of its own; return the client's end. Raises Limit, NotFound."""
        if (subscription := self._by_number.get(number)) is None:
            raise NotFound(f"watch {number} has ended: its client has left, or papad the bus")
        try:
            return self._sockets.give(subscription, self._turns.ask, self._acknowledged, self._close)
        except Limit:
            self._close(subscription)
            raise

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

    def _acknowledged(self, subscription: Subscription, up_to: Mapping[str, int]) -> "asyncio.Future[None] | None":
        """Note what a client says on its socket; return what the answer waits for. The end is told after that."""
        subscription.sending = True
        try:
            rest = subscription.watch.acknowledge(up_to)
        finally:
            subscription.sending = False
            self._signals.count_kept(subscription)
        if rest is None:
            noted = self._kernel.noted(up_to)
        else:  # of a call about the same watch
            done = self._chores.add(self._acknowledging(subscription, rest))
            noted = self._tasks.start(self._noted_after(done, up_to))
        if subscription.end is not None and noted is not None:
            noted.add_done_callback(lambda _: self._tell_end(subscription))
        elif subscription.end is not None:
            asyncio.get_running_loop().call_soon(self._tell_end, subscription)
        return noted

    async def _noted_after(self, done: Awaitable[None], processes: Collection[str]) -> None:
        await done
        if (noted := self._kernel.noted(processes)) is not None:
            await noted

    def _close(self, subscription: Subscription) -> None:
        """End a watch whose client has closed its socket."""
        self._kernel.close_watch(subscription.watch)
        self._forget(subscription)

    def end(self, client: str, number: int) -> "asyncio.Future[None] | None":
        """End a client's own watch; return what tells when all is let go, None if it is. Raises NotFound."""
        subscription = self._find(client, number)
        closed = self._kernel.close_watch(subscription.watch)
        self._forget(subscription)
        return closed

    # ------------------------------------------------------------------ output

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
            self._ends.tell_again_soon(client, number)
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

    def _tell_end(self, subscription: Subscription) -> None:
        if subscription.end is not None and self._by_number.get(subscription.watch.number) is subscription:
            self._ends.tell(subscription)
            self._forget(subscription)

    def _forget(self, subscription: Subscription) -> None:
        client, number = subscription.client, subscription.watch.number
        self._by_number.pop(number, None)
        self._turns.forget(subscription)
        client.watches.discard(number)
        if subscription.socket is not None and not subscription.socket.ended:
            subscription.socket.close()
        self._signals.count_kept(subscription)

    # ----------------------------------------------------------------- clients

    def _left(self, name: str) -> None:
        self._queues.forget(name)
        if (client := self._clients.get(name)) is not None:
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
        self._ends.drop(client)
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
            if subscription.socket is not None:
                subscription.socket.close()
        for client in self._clients.values():
            self._ends.drop(client)
        self._tasks.cancel()
        self._by_number.clear()
        self._clients.clear()
        self._turns.clear()
        self._signals.clear()
        self._sockets.remains.clear()
        if left:
            self._closed = self._kernel.close_watches([subscription.watch for subscription in left])

    async def closed(self) -> None:
        """Wait until those watches are closed."""
        if self._closed is not None:
            await asyncio.shield(self._closed)
