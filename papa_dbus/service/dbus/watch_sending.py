"""What a watch may send now, and its sending: by signals of the bus, or on the watch's socket."""

from collections.abc import Callable

from papa_dbus.bus import Bus
from papa_dbus.service.dbus.broker_queues import Queues
from papa_dbus.service.dbus.output_signals import OutputSignals
from papa_dbus.service.dbus.watch_ends import Ends
from papa_dbus.service.dbus.watch_turns import Subscription, Turns

#: Bytes that one watch sends before it is seen whose turn it is: enough to be cheap, few enough to wait for.
_BYTES = 256 * 1024
#: Events, each of one process and a signal of its own, that one watch sends before it is seen whose turn it is.
_EVENTS = 16


class Sending:
    """That of all watches of one bus, by turns. ``may_hear`` says whether output may go to a client now.

    ``tell_end`` is called with a watch that has sent all.
    """

    def __init__(
        self,
        bus: Bus,
        may_hear: Callable[[str], bool],
        queues: Queues,
        signals: OutputSignals,
        ends: Ends,
        tell_end: Callable[[Subscription], None],
    ) -> None:
        self.turns = Turns(self._send_to, bus.flush)
        self._bus = bus
        self._may_hear = may_hear
        self._queues = queues
        self._signals = signals
        self._ends = ends
        self._tell_end = tell_end

    def _send_to(self, subscription: Subscription) -> int:
        """Send the next of a watch; returns how many bytes of payload the bus got."""
        watch, client = subscription.watch, subscription.client
        if not subscription.begun or client.left or not watch.ready or not (room := self._room(subscription)):
            return 0
        subscription.sending = True
        if subscription.socket is None:
            sent = self._signals.send_all(subscription, watch.take(room, _EVENTS))
        else:
            sent = subscription.socket.send_all(watch.take_unread(room, _EVENTS))
        subscription.sending = False
        self._signals.count_kept(subscription)
        if subscription.end is not None:
            self._ends.once_delivered(subscription, self._tell_end)
        elif sent and watch.ready:
            client.ready[subscription] = None
        self.turns.wake(client)
        return sent if subscription.socket is None else 0

    def _room(self, subscription: Subscription) -> int:
        """Return how many bytes a watch may send now; it waits for what it lacks if there are none."""
        client, socket = subscription.client, subscription.socket
        if not self._may_hear(client.name) or (socket is None and not self._bus.has_room):
            self.turns.wait_for_bus(subscription)
            return 0
        queue_room = self._queues.room(client.name, client.flight.uid) if socket is None else socket.room
        if not (most := min(_BYTES, queue_room)):
            client.unread[subscription] = None
            return 0
        if not (room := self._signals.room(subscription, most)):
            self.turns.wait_for_room(subscription, self._signals.waits_for_others(subscription))
        return room
