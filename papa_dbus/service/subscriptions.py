"""The watches of clients on the bus: output as unicast signals, to the client and to no one else.

Signals go out only as fast as the bus takes them and as far as a watch's window allows. A client that leaves the bus
takes its watches with it.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from papa_dbus import names
from papa_dbus.bus import Bus, Message, MessageType
from papa_dbus.errors import Limit, NotFound, PapaError
from papa_dbus.service import limits
from papa_dbus.service.kernel import Kernel
from papa_dbus.service.specs import WatchSpec
from papa_dbus.service.watches import MUCH, REST, Dropped, Event, Exited, Watch, size_of

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
#: Bytes of payload in one signal: large enough to be cheap, small enough that others do not wait for it.
_SIGNAL_BYTES = 256 * 1024
#: Watches that are sent something before others have their turn.
_WATCHES_A_TURN = 32


class _Subscription:
    """One client's watch."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.begun = False  # the client must know its number before the first signal
        self.watch: Watch | None = None


class Subscriptions:
    """All watches of one bus, by number and by client. ``may_hear`` says whether output may go to a client now."""

    def __init__(self, kernel: Kernel, bus: Bus, may_hear: Callable[[str], bool]) -> None:
        self._may_hear = may_hear
        self._kernel = kernel
        self._bus = bus
        self._by_number: dict[int, _Subscription] = {}
        self._by_client: dict[str, set[int]] = {}
        self._held_up: dict[_Subscription, None] = {}
        self._ready: dict[_Subscription, None] = {}  # in the order in which they are served
        self._turn: asyncio.Handle | None = None
        self._rested_at = 0.0  # the loop's time from which the next turn may be
        self._tasks: set[asyncio.Task[None]] = set()
        bus.on_signal.append(self._hear)

    def open(self, client: str, patterns: Sequence[str], spec: WatchSpec) -> tuple[int, list[str]]:
        """Begin a watch for a client; nothing is sent before begin()."""
        if len(self._by_client.get(client, ())) >= limits.MAX_WATCHES_PER_CLIENT:
            raise Limit(f"a client may have {limits.MAX_WATCHES_PER_CLIENT} watches at a time")
        subscription = _Subscription(client)
        watch = self._kernel.watch(patterns, spec, lambda: self._pump(subscription), lambda: self._forget(subscription))
        subscription.watch = watch
        self._by_number[watch.number] = subscription
        if client not in self._by_client:
            self._by_client[client] = set()
            self._look_after(client)
        self._by_client[client].add(watch.number)
        return watch.number, watch.names

    def begin(self, number: int) -> None:
        """The client knows its watch's number."""
        subscription = self._by_number.get(number)
        if subscription is not None:
            subscription.begun = True
            self._pump(subscription)

    def find(self, client: str, number: int) -> Watch:
        """A client's own watch. Raises NotFound."""
        subscription = self._by_number.get(number)
        if subscription is None or subscription.client != client or subscription.watch is None:
            raise NotFound(f"watch {number} is not there")
        return subscription.watch

    def end(self, client: str, number: int) -> None:
        """End a client's own watch. Raises NotFound."""
        self.find(client, number)
        self._close(self._by_number[number])

    def _forget(self, subscription: _Subscription) -> None:
        if subscription.watch is None:
            return
        number = subscription.watch.number
        self._by_number.pop(number, None)
        self._held_up.pop(subscription, None)
        self._ready.pop(subscription, None)
        left = self._by_client.get(subscription.client)
        if left is not None:
            left.discard(number)
            if not left:
                del self._by_client[subscription.client]
                self._match("RemoveMatch", subscription.client)

    # ------------------------------------------------------------------ output

    def _pump(self, subscription: _Subscription) -> None:
        """There may be something to send. It goes out with the next turn: what comes until then goes along."""
        self._ready[subscription] = None
        if self._turn is None:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._rested_at:
                self._turn = loop.call_soon(self._send_some)
            else:
                self._turn = loop.call_at(self._rested_at, self._send_some)

    def _send_some(self) -> None:
        """Send to a few, so that who has a thousand watches does not hold up everybody else."""
        sent = 0
        for subscription in list(islice(self._ready, _WATCHES_A_TURN)):
            del self._ready[subscription]
            sent += self._send_to(subscription)
        self._bus.flush()
        loop = asyncio.get_running_loop()
        if 0 < sent < MUCH and not self._ready:
            self._rested_at = loop.time() + REST
        self._turn = loop.call_soon(self._send_some) if self._ready else None

    def _send_to(self, subscription: _Subscription) -> int:
        """Returns how many bytes of payload it were."""
        watch = subscription.watch
        if watch is None or not subscription.begun or not watch.ready:
            return 0
        if self._bus.congested or not self._may_hear(subscription.client):
            self._held_up[subscription] = None
            return 0
        events = watch.take(_SIGNAL_BYTES)
        for event in events:
            self._bus.send(_signal(subscription.client, watch.number, event), urgent=False)
        if events and watch.ready:
            self._ready[subscription] = None
        return sum(map(size_of, events))

    def pump_all(self) -> None:
        """The bus takes messages again."""
        held_up, self._held_up = self._held_up, {}
        for subscription in held_up:
            self._pump(subscription)

    # ----------------------------------------------------------------- clients

    def _look_after(self, client: str) -> None:
        """Hear when a client leaves the bus; it may have left already."""
        self._match("AddMatch", client)
        task = asyncio.ensure_future(self._check_presence(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _match(self, method: str, client: str) -> None:
        rule = f"type='signal',sender='{_BUS[0]}',interface='{_BUS[2]}',member='NameOwnerChanged',arg0='{client}'"
        self._bus.send(
            Message(destination=_BUS[0], path=_BUS[1], interface=_BUS[2], member=method, signature="s", body=[rule])
        )

    async def _check_presence(self, client: str) -> None:
        try:
            reply = await self._bus.call(*_BUS, "NameHasOwner", "s", [client])
        except PapaError:
            return  # the bus has gone, and all its watches with it
        if not reply.body[0]:
            self.close_of(client)

    def _hear(self, signal: Message) -> None:
        if signal.sender == _BUS[0] and signal.member == "NameOwnerChanged" and not signal.body[2]:
            self.close_of(signal.body[0])

    def close_of(self, client: str) -> None:
        """A client has left the bus, or may hear no more."""
        for number in list(self._by_client.get(client, ())):
            self._close(self._by_number[number])

    def _close(self, subscription: _Subscription) -> None:
        self._forget(subscription)
        if subscription.watch is not None:
            subscription.watch.close()

    def close_all(self) -> None:
        """The bus has gone, and with it every client's name."""
        for subscription in list(self._by_number.values()):
            self._close(subscription)


def _signal(client: str, number: int, event: Event) -> Message:
    member, signature, body = _body(event)
    return Message(
        message_type=MessageType.SIGNAL,
        destination=client,
        path=names.OBJECT_PATH,
        interface=names.BUS_NAME,
        member=member,
        signature="ts" + signature,
        body=[number, event.process, *body],
    )


def _body(event: Event) -> tuple[str, str, list[Any]]:
    if isinstance(event, Exited):
        return "Exited", "ttib", [event.seq, event.timestamp, event.exit_code, event.known]
    if isinstance(event, Dropped):
        return "Dropped", "ttt", [event.first_seq, event.last_seq, event.bytes]
    return "Output", "a(ttsay)", [[list(record) for record in event.records]]
