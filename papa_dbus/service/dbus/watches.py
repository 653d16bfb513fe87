"""The watches of clients on the bus: output as unicast signals, to the client and to no one else.

Signals go out only as fast as the bus takes them, as far as a watch's window allows, and as much as may be on its way
(in_flight.py). Clients take turns, and so do the watches of each. A client that leaves the bus takes its watches with
it. A signal that the bus could not deliver ends its watch: nothing after it may be acknowledged. Each end is told.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Literal

from papa_dbus import names
from papa_dbus.bus import Bus, Message, MessageType
from papa_dbus.bus.bus import DRIVER
from papa_dbus.errors import Limit, NotFound, PapaError
from papa_dbus.service import limits
from papa_dbus.service.caller import acting_user
from papa_dbus.service.dbus.broker_queues import Queues
from papa_dbus.service.dbus.in_flight import KEPT_COST, Flight, Flights, Subject
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.events import EVENT_COST, RECORD_COST, Dropped, Event, Exited, cost_of, size_of
from papa_dbus.service.output.watches import End, Watch
from papa_dbus.service.pacing import COALESCE_BYTES, COALESCE_DELAY
from papa_dbus.service.steps import Chores

log = logging.getLogger(__name__)

#: The receiver is not there any more.
_GONE = frozenset(f"org.freedesktop.DBus.Error.{name}" for name in ("ServiceUnknown", "NameHasNoOwner"))
#: Bytes in one signal: large enough to be cheap, small enough that others do not wait for it.
_SIGNAL_BYTES = 256 * 1024
#: Events, each of one process and a signal of its own, that one watch sends before it is seen whose turn it is.
_EVENTS = 16
#: Seconds after which others have their turn.
_TURN = 0.005
#: Seconds before a client is told again that a watch has ended, while the bus has no room for that.
_TELL_AGAIN = 1.0

#: In the place of a process's name: what is on its way is the watch's end.
_END = ""
Reason = End | Literal["revoked", "failed"]


class _Client:
    """A client that has watches, or has not shown yet that it has read all that was sent to it."""

    def __init__(self, name: str, uid: int | None) -> None:
        self.name = name
        self.flight = Flight(uid)
        self.watches: set[int] = set()
        self.ready: dict[_Subscription, None] = {}  # in the order in which they are served
        self.waiting: dict[_Subscription, None] = {}  # until this client has less on its way
        self.short: dict[_Subscription, None] = {}  # until others have
        self.unread: dict[_Subscription, None] = {}  # until the bus has less for it
        self.ends: dict[int, Reason] = {}  # that were told, and that it has not shown to have read
        self.untold: dict[int, Reason] = {}  # that the bus did not deliver
        self.retry: asyncio.TimerHandle | None = None
        self.warned = False
        self.left = False


class _Subscription:
    """One client's watch."""

    def __init__(self, client: _Client) -> None:
        self.client = client
        self.begun = False  # the client must know its number before the first signal
        self.kept = 0  # records that are counted with its client's
        self.before = 0  # the last signal before the client was told the number
        self.sending = False
        self.end: Reason | None = None
        self.watch: Watch


class Subscriptions:
    """All watches of one bus, by number and by client. ``may_hear`` says whether output may go to a client now."""

    def __init__(self, kernel: Kernel, bus: Bus, may_hear: Callable[[str], bool], queues: Queues) -> None:
        self._may_hear = may_hear
        self._queues = queues
        self._kernel = kernel
        self._bus = bus
        self._bus_id = ""
        self._by_number: dict[int, _Subscription] = {}
        self._clients: dict[str, _Client] = {}
        self._flights = Flights()
        self._by_serial: dict[int, _Client] = {}  # of what is on its way
        self._ready: dict[_Client, None] = {}  # in the order in which they are served
        # Those that wait until others have less on their way; by user, and whether they have nothing on theirs.
        self._short: dict[tuple[int | None, bool], dict[_Client, None]] = {}
        self._held_up: dict[_Subscription, None] = {}
        self._turn: asyncio.Handle | None = None
        self._rested_at = 0.0  # the loop's time from which the next turn may be
        self._tasks: set[asyncio.Task[None]] = set()
        self._chores = Chores()
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

    def open(self, client: str, patterns: Sequence[str], spec: WatchSpec) -> tuple[int, list[str]]:
        """Begin a watch for a client; nothing is sent before begin()."""
        known = self._clients.get(client)
        if known is not None and len(known.watches) >= limits.MAX_WATCHES_PER_CLIENT:
            raise Limit(f"a client may have {limits.MAX_WATCHES_PER_CLIENT} watches at a time; end one first")
        subscription = _Subscription(known or _Client(client, acting_user()))
        watch = self._kernel.watch(
            patterns,
            spec,
            lambda: self._pump(subscription),
            lambda end: self._ended(subscription, end),
            f"{self._bus_id}{client}",
        )
        subscription.watch = watch
        self._by_number[watch.number] = subscription
        subscription.client.watches.add(watch.number)
        if known is None:
            self._clients[client] = subscription.client
            self._spawn(self._check_presence(client))
        return watch.number, watch.names

    def begin(self, number: int) -> None:
        """The client knows its watch's number."""
        subscription = self._by_number.get(number)
        if subscription is not None:
            subscription.begun = True
            subscription.before = subscription.client.flight.last
            if subscription.end is not None:
                self._tell_end(subscription)
            else:
                self._pump(subscription)

    def find(self, client: str, number: int) -> Watch:
        """A client's own watch. Raises NotFound."""
        subscription = self._by_number.get(number)
        if subscription is None or subscription.client.name != client:
            raise NotFound(f"watch {number} is not there: it has ended, or is another client's; begin a new one")
        self._has_read(subscription.client, subscription.before)  # else it would not know the number
        return subscription.watch

    def acknowledge(self, client: str, number: int, up_to: Mapping[str, int]) -> None:
        """Note what a client has dealt with of what a watch of its own has sent. Raises NotFound and InvalidArgs."""
        known = self._clients.get(client)
        try:
            self.find(client, number).acknowledge(up_to)
        except NotFound:
            if known is not None:
                self._note_read(known, number, up_to)  # all the same, of a watch that has ended
            raise
        if known is not None:
            self._note_read(known, number, up_to)
            if (subscription := self._by_number.get(number)) is not None:
                self._count(subscription)

    def end(self, client: str, number: int) -> None:
        """End a client's own watch. Raises NotFound."""
        self.find(client, number)
        self._close(self._by_number[number])

    # ------------------------------------------------------------------ output

    def _pump(self, subscription: _Subscription) -> None:
        """There may be something to send. It goes out with the next turn: what comes until then goes along."""
        client = subscription.client
        client.waiting.pop(subscription, None)
        client.short.pop(subscription, None)
        client.unread.pop(subscription, None)
        client.ready[subscription] = None
        self._ready[client] = None
        if self._turn is None:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._rested_at:
                self._turn = loop.call_soon(self._send_some)
            else:
                self._turn = loop.call_at(self._rested_at, self._send_some)

    def _send_some(self) -> None:
        """Send for a while, one client after the other, and then let everybody else have a turn."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _TURN
        sent = 0
        while self._ready and loop.time() < until:
            client = next(iter(self._ready))
            del self._ready[client]
            if client.ready:
                subscription = next(iter(client.ready))
                del client.ready[subscription]
                sent += self._send_to(subscription)
            if client.ready:
                self._ready[client] = None
        self._bus.flush()
        if 0 < sent < COALESCE_BYTES and not self._ready:
            self._rested_at = loop.time() + COALESCE_DELAY
        self._turn = loop.call_soon(self._send_some) if self._ready else None

    def _send_to(self, subscription: _Subscription) -> int:
        """Send the next of a watch; returns how many bytes of payload that was."""
        watch, client = subscription.watch, subscription.client
        if not subscription.begun or client.left or not watch.ready:
            return 0
        if not self._bus.has_room or not self._may_hear(client.name):
            self._held_up[subscription] = None
            return 0
        share = watch.in_flight + RECORD_COST * watch.unacknowledged < limits.FLIGHT_SHARE
        most = min(_SIGNAL_BYTES, self._queues.room(client.name, client.flight.uid))
        if not most:
            client.unread[subscription] = None
            return 0
        room = self._flights.room(client.flight, most, share)
        if not room:
            self._wait_for_room(subscription, self._flights.waits_for_others(client.flight, share))
            return 0
        subscription.sending = True
        events = watch.take(room, _EVENTS)
        for event in events:
            self._send_event(client, watch.number, event)
        subscription.sending = False
        self._count(subscription)
        if subscription.end is not None:
            self._spawn(self._tell_once_delivered(subscription))
        elif events and watch.ready:
            client.ready[subscription] = None
        self._wake(client)
        return sum(map(size_of, events))

    def _wait_for_room(self, subscription: _Subscription, for_others: bool) -> None:
        client = subscription.client
        if for_others:
            client.short[subscription] = None
            self._short.setdefault((client.flight.uid, client.flight.empty), {})[client] = None
        else:
            client.waiting[subscription] = None

    def _wake(self, client: _Client) -> None:
        """Let the first of those that wait for room continue, which will wake the next."""
        if client.waiting:
            self._pump(next(iter(client.waiting)))
        for key, queue in list(self._short.items()):
            if (first := next(iter(queue), None)) is None:
                del self._short[key]
                continue
            del queue[first]
            if first.short:
                self._pump(next(iter(first.short)))
            if first.short:
                queue[first] = None

    def pump_all(self) -> None:
        """The bus takes messages again."""
        held_up, self._held_up = self._held_up, {}
        for subscription in held_up:
            self._pump(subscription)

    def read_more(self, name: str) -> None:
        """A client has read what the bus had for it."""
        client = self._clients.get(name)
        for subscription in list(client.unread) if client is not None else ():
            self._pump(subscription)

    # ------------------------------------------------------- what is on its way

    def _send_event(self, client: _Client, number: int, event: Event) -> None:
        member, signature, first, body = _body(event)
        serial = self._signal(client, member, "ts" + signature, [number, event.process, *body])
        self._note_sent(client, serial, cost_of(event), (number, event.process), first)

    def _signal(self, client: _Client, member: str, signature: str, body: list[Any]) -> int:
        message = Message(
            message_type=MessageType.SIGNAL,
            destination=client.name,
            path=names.OBJECT_PATH,
            interface=names.BUS_NAME,
            member=member,
            signature=signature,
            body=body,
        )
        serial = self._bus.send(message, urgent=False)
        if serial:
            self._queues.sent(client.name, client.flight.uid, message.size)
        return serial

    def _note_sent(self, client: _Client, serial: int, size: int, subject: Subject, seq: int) -> None:
        if serial:  # else the bus has gone, and all its watches with it
            client.flight.add(serial, size, subject, seq)
            self._by_serial[serial] = client
            self._flights.count(client.flight)

    def _note_read(self, client: _Client, number: int, up_to: Mapping[str, int]) -> None:
        self._has_read(client, max((client.flight.shown_by(number, *one) for one in up_to.items()), default=0))

    def _has_read(self, client: _Client, serial: int) -> None:
        """Note that a client has shown that it has read everything up to a signal."""
        for each, (number, process) in client.flight.read(serial):
            del self._by_serial[each]
            if process == _END:
                client.ends.pop(number, None)
        self._recount(client)

    def _count(self, subscription: _Subscription) -> None:
        """Count what papad keeps for what was not acknowledged."""
        kept = 0 if subscription.watch.closed else subscription.watch.unacknowledged
        subscription.client.flight.kept += (kept - subscription.kept) * KEPT_COST
        subscription.kept = kept
        self._recount(subscription.client)

    def _recount(self, client: _Client) -> None:
        if self._flights.count(client.flight):
            self._wake(client)
        if not client.watches and client.flight.empty and not client.untold:
            self._drop(client)

    def _undelivered(self, serial: int, error: str) -> None:
        """End the watch whose signal the bus did not deliver: the client must not acknowledge what comes after it."""
        client = self._by_serial.pop(serial, None)
        if client is None:
            return
        if error in _GONE:
            self._leave(client)
            return
        number, process = client.flight.remove(serial)
        if not client.warned:
            client.warned = True
            log.warning("the bus does not deliver output to %s, whose watches are ended so far: %s", client.name, error)
        if process == _END:
            client.untold[number] = client.ends.pop(number)
            if client.retry is None:
                client.retry = asyncio.get_running_loop().call_later(_TELL_AGAIN, self._tell_again, client)
        elif (subscription := self._by_number.get(number)) is not None:
            subscription.watch.close()
            self._ended(subscription, "failed")
        self._recount(client)

    # -------------------------------------------------------------------- ends

    def _ended(self, subscription: _Subscription, reason: Reason) -> None:
        """Tell a client, after what is being sent, that a watch has ended without its doing."""
        subscription.end = reason
        if subscription.begun and not subscription.sending:
            self._tell_end(subscription)

    async def _tell_once_delivered(self, subscription: _Subscription) -> None:
        """Tell the end of an observing watch, after what the bus may say of signals that it has not delivered."""
        with contextlib.suppress(PapaError):  # if the bus has gone, so have all its watches
            await self._bus.call(*DRIVER, "GetId")
        self._tell_end(subscription)

    def _tell_end(self, subscription: _Subscription) -> None:
        number, reason = subscription.watch.number, subscription.end
        if reason is not None and self._by_number.get(number) is subscription:
            self._emit_ended(subscription.client, number, reason)
            self._forget(subscription)

    def _emit_ended(self, client: _Client, number: int, reason: Reason) -> None:
        client.ends[number] = reason
        serial = self._signal(client, "WatchEnded", "ts", [number, reason])
        self._note_sent(client, serial, EVENT_COST, (number, _END), 0)

    def _tell_again(self, client: _Client) -> None:
        client.retry = None
        untold, client.untold = client.untold, {}
        for number, reason in untold.items():
            self._emit_ended(client, number, reason)

    def _close(self, subscription: _Subscription) -> None:
        subscription.watch.close()
        self._forget(subscription)

    def _forget(self, subscription: _Subscription) -> None:
        client, number = subscription.client, subscription.watch.number
        self._by_number.pop(number, None)
        self._held_up.pop(subscription, None)
        for queue in (client.ready, client.waiting, client.short, client.unread):
            queue.pop(subscription, None)
        client.watches.discard(number)
        self._count(subscription)

    # ----------------------------------------------------------------- clients

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
            client = self._clients.get(signal.body[0])
            if client is not None:
                self._leave(client)

    def revoke(self, name: str) -> None:
        """End the watches of a client that may hear no more, in steps: nothing is sent meanwhile."""
        client = self._clients.get(name)
        if client is not None:
            self._chores.add(self._revoking([self._by_number[number] for number in client.watches]))

    def _revoking(self, subscriptions: Sequence[_Subscription]) -> Iterator[None]:
        for subscription in subscriptions:
            if subscription.end is None and self._by_number.get(subscription.watch.number) is subscription:
                yield from subscription.watch.closing()
                self._ended(subscription, "revoked")

    def _leave(self, client: _Client) -> None:
        """Forget a client that has left the bus, and what it had, in steps."""
        if not client.left:
            client.left = True
            self._chores.add(self._leaving(client))

    def _leaving(self, client: _Client) -> Iterator[None]:
        while client.watches and self._clients.get(client.name) is client:
            subscription = self._by_number[next(iter(client.watches))]
            yield from subscription.watch.closing()
            if self._clients.get(client.name) is client:
                self._forget(subscription)
        client.untold.clear()
        self._drop(client)

    def _drop(self, client: _Client) -> None:
        if self._clients.get(client.name) is not client:  # another bus may have given its name to another
            return
        del self._clients[client.name]
        for serial, _ in client.flight.read(2**32):
            self._by_serial.pop(serial, None)
        if client.retry is not None:
            client.retry.cancel()
        self._ready.pop(client, None)
        for queue in self._short.values():
            queue.pop(client, None)
        self._flights.drop(client.flight)
        self._wake(client)

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
        for task in self._tasks:
            task.cancel()
        for everything in (self._by_number, self._clients, self._by_serial, self._ready, self._short, self._held_up):
            everything.clear()
        self._flights = Flights()
        if left:
            self._closed = self._kernel.close_watches([subscription.watch for subscription in left])

    async def closed(self) -> None:
        """Wait until those watches are closed."""
        if self._closed is not None:
            await asyncio.shield(self._closed)


def _body(event: Event) -> tuple[str, str, int, list[Any]]:
    """Return a signal's member, signature, body after watch and process, and the first number that acknowledges it."""
    if isinstance(event, Exited):
        return "Exited", "ttib", event.seq, [event.seq, event.timestamp, event.exit_code, event.known]
    if isinstance(event, Dropped):
        return "Dropped", "ttt", event.last_seq, [event.first_seq, event.last_seq, event.bytes]
    return "Output", "a(ttsay)", event.records[0].seq, [[list(record) for record in event.records]]
