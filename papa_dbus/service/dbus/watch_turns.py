"""The order in which output is sent: clients take turns, and so do the watches of each.

A watch that cannot send now waits for what it lacks: room at the bus, room among what its client or others have on
their way, or that its client reads.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from papa_dbus.service.dbus.in_flight import Flight
from papa_dbus.service.output.watches import End, Watch
from papa_dbus.service.pacing import COALESCE_BYTES, COALESCE_DELAY

if TYPE_CHECKING:
    from papa_dbus.service.dbus.output_socket import OutputSocket

log = logging.getLogger(__name__)

#: Seconds after which others have their turn.
_TURN = 0.005

Reason = End | Literal["revoked", "failed"]


class Client:
    """A client that has watches, or has not shown yet that it has read all that was sent to it."""

    def __init__(self, name: str, uid: int | None) -> None:
        self.name = name
        self.flight = Flight(uid)
        self.watches: set[int] = set()
        self.ready: dict[Subscription, None] = {}  # in the order in which they are served
        self.waiting: dict[Subscription, None] = {}  # until this client has less on its way
        self.short: dict[Subscription, None] = {}  # until others have
        self.unread: dict[Subscription, None] = {}  # until the bus has less for it
        self.ends: dict[int, Reason] = {}  # that were told, and that it has not shown to have read
        self.untold: dict[int, Reason] = {}  # that the bus did not deliver
        self.retry: asyncio.TimerHandle | None = None
        self.warned = False
        self.left = False

    def warn_once(self, error: str) -> None:
        """Log that the bus does not deliver to this client, the first time."""
        if not self.warned:
            self.warned = True
            log.warning("the bus does not deliver output to %s, whose watches are ended so far: %s", self.name, error)


class Subscription:
    """One client's watch."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.begun = False  # the client must know its number before the first signal
        self.kept = 0  # bytes of papad's own that are counted with its client's
        self.in_socket = 0  # and those of what is on its way in its socket
        self.before = 0  # the last signal before the client was told the number
        self.sending = False
        self.end: Reason | None = None
        self.socket: OutputSocket | None = None  # that its output goes to, instead of the bus
        self.watch: Watch


class Turns:
    """Those of all watches of one bus.

    ``send`` sends the next of one watch and returns the bytes of payload that the bus got, which rests after few: the
    reading of what processes write has rests of its own (pipe_poller.py). ``flush`` is called when others have a turn.
    """

    def __init__(self, send: Callable[[Subscription], int], flush: Callable[[], None]) -> None:
        self._send = send
        self._flush = flush
        self._ready: dict[Client, None] = {}  # in the order in which they are served
        # Those that wait until others have less on their way; by user, and whether they have nothing on theirs.
        self._short: dict[tuple[int | None, bool], dict[Client, None]] = {}
        self._held_up: dict[Subscription, None] = {}  # until the bus takes messages
        self._turn: asyncio.Handle | None = None
        self._rested_at = 0.0  # the loop's time from which the next turn may be

    def ask(self, subscription: Subscription) -> None:
        """Have a watch send, if it has something, with the next turn: what comes until then goes along."""
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

    def send_now(self) -> None:
        """Have those send that have something, unless it is time to rest: the loop has much to do between two turns."""
        if self._turn is not None and asyncio.get_running_loop().time() >= self._rested_at:
            self._turn.cancel()
            self._send_some()

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
                sent += self._send(subscription)
            if client.ready:
                self._ready[client] = None
        self._flush()
        if 0 < sent < COALESCE_BYTES and not self._ready:
            self._rested_at = loop.time() + COALESCE_DELAY
        self._turn = loop.call_soon(self._send_some) if self._ready else None

    def wait_for_bus(self, subscription: Subscription) -> None:
        """Have a watch wait until the bus takes messages again, and its client may hear them."""
        self._held_up[subscription] = None

    def wait_for_room(self, subscription: Subscription, for_others: bool) -> None:
        """Have a watch wait until its client, or the others, have less on their way."""
        client = subscription.client
        if for_others:
            client.short[subscription] = None
            self._short.setdefault((client.flight.uid, client.flight.empty), {})[client] = None
        else:
            client.waiting[subscription] = None

    def wake(self, client: Client) -> None:
        """Let the first of those that wait for room continue, which will wake the next."""
        if client.waiting:
            self.ask(next(iter(client.waiting)))
        for key, queue in list(self._short.items()):
            if (first := next(iter(queue), None)) is None:
                del self._short[key]
                continue
            del queue[first]
            if first.short:
                self.ask(next(iter(first.short)))
            if first.short:
                queue[first] = None

    def wake_all(self) -> None:
        """Let all continue that wait for the bus."""
        held_up, self._held_up = self._held_up, {}
        for subscription in held_up:
            self.ask(subscription)

    def forget(self, subscription: Subscription) -> None:
        """Forget a watch that has ended."""
        client = subscription.client
        for queue in (self._held_up, client.ready, client.waiting, client.short, client.unread):
            queue.pop(subscription, None)

    def drop(self, client: Client) -> None:
        """Forget a client that has left."""
        self._ready.pop(client, None)
        for queue in self._short.values():
            queue.pop(client, None)

    def clear(self) -> None:
        """Forget everybody: the bus has gone."""
        self._ready.clear()
        self._short.clear()
        self._held_up.clear()
