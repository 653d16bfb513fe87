"""Output and the ends of watches as signals to one client alone, counted until it has shown that it has read them."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from papa_dbus import names
from papa_dbus.bus import Bus, Message, MessageType
from papa_dbus.service import limits
from papa_dbus.service.dbus.broker_queues import Queues
from papa_dbus.service.dbus.in_flight import KEPT_COST, Flights, Subject
from papa_dbus.service.dbus.watch_turns import Client, Reason, Subscription
from papa_dbus.service.output.events import EVENT_COST, RECORD_COST, Dropped, Event, Exited, cost_of, size_of
from papa_dbus.service.output.watches import Watch
from papa_dbus.service.steps import Chores

#: In the place of a process's name: what is on its way is the watch's end.
END = ""


class OutputSignals:
    """Those to all clients of one bus, within the bounds of in_flight.py.

    ``on_counted`` is told what has come of each counting of a client: whether less is on its way to it now.
    """

    def __init__(self, bus: Bus, queues: Queues, chores: Chores, on_counted: Callable[[Client, bool], None]) -> None:
        self._bus = bus
        self._queues = queues
        self._on_counted = on_counted
        self._flights = Flights()
        self._by_serial: dict[int, Client] = {}  # of what is on its way
        self._chores = chores
        self._reading: dict[Client, int] = {}  # the last signal that each has shown to have read, still to be noted

    def room(self, subscription: Subscription, most: int) -> int:
        """Return how many bytes of at most ``most`` a watch may send now."""
        return self._flights.room(subscription.client.flight, most, _has_share(subscription))

    def waits_for_others(self, subscription: Subscription) -> bool:
        """Return whether a watch that has no room now would have some if others had less on their way."""
        return self._flights.waits_for_others(subscription.client.flight, _has_share(subscription))

    def send_all(self, subscription: Subscription, events: Sequence[Event]) -> int:
        """Send what a client's watch has; return how many bytes of payload that was."""
        client, number = subscription.client, subscription.watch.number
        for event in events:
            member, signature, first, body = _body(event)
            serial = self._emit(client, member, "ts" + signature, [number, event.process, *body])
            self._note_sent(client, serial, cost_of(event), (number, event.process), first)
        return sum(map(size_of, events))

    def send_end(self, client: Client, number: int, reason: Reason) -> None:
        """Tell a client that its watch has ended."""
        client.ends[number] = reason
        serial = self._emit(client, "WatchEnded", "ts", [number, reason])
        self._note_sent(client, serial, EVENT_COST, (number, END), 0)

    def _emit(self, client: Client, member: str, signature: str, body: list[Any]) -> int:
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

    def _note_sent(self, client: Client, serial: int, size: int, subject: Subject, seq: int) -> None:
        if serial:  # else the bus has gone, and all its watches with it
            client.flight.add(serial, size, subject, seq)
            self._by_serial[serial] = client
            self._flights.count(client.flight)

    def note_acknowledged(self, client: Client, number: int, up_to: Mapping[str, int]) -> None:
        """Note that a client has read what it acknowledges, and all that was sent before."""
        self.note_read(client, max((client.flight.shown_by(number, *one) for one in up_to.items()), default=0))

    def note_read(self, client: Client, serial: int) -> None:
        """Note that a client has shown that it has read everything up to a signal, in steps if that is much."""
        begun = client in self._reading
        self._reading[client] = max(serial, self._reading.get(client, 0))
        if not begun:
            self._chores.begin(self._note_read(client))

    def _note_read(self, client: Client) -> Iterator[None]:
        while self.forget_one(client, self._reading.get(client, 0)):
            yield
        if self._reading.pop(client, None) is not None:  # else it has left, or the bus has gone
            self.count(client)

    def forget_one(self, client: Client, up_to: int = sys.maxsize) -> bool:
        """Forget the oldest signal on its way to a client, if its number is no higher; return whether there was one."""
        read = client.flight.read_one(up_to)
        if read is None:
            return False
        serial, (number, process) = read
        self._by_serial.pop(serial, None)
        if process == END:
            client.ends.pop(number, None)
        return True

    def count_kept(self, subscription: Subscription) -> None:
        """Count what papad keeps for what was not acknowledged, and what lies in the watch's socket."""
        watch, flight = subscription.watch, subscription.client.flight
        unacknowledged = 0 if watch.closed else watch.unacknowledged
        kept = unacknowledged * KEPT_COST
        in_socket = _on_its_way(watch) if subscription.socket is not None and not watch.closed else 0
        flight.kept += kept - subscription.kept
        flight.in_sockets += in_socket - subscription.in_socket
        subscription.kept, subscription.in_socket = kept, in_socket
        self.count(subscription.client)

    def count(self, client: Client) -> None:
        """Count what is on its way to a client, and kept for it."""
        self._on_counted(client, self._flights.count(client.flight))

    def client_of_undelivered(self, serial: int) -> Client | None:
        """Return to whom a signal was sent that the bus did not deliver; None if nobody waits for it any more."""
        return self._by_serial.pop(serial, None)

    def drop(self, client: Client) -> None:
        """Forget a client that has left the bus, and to which nothing is on its way any more."""
        self._reading.pop(client, None)
        self._flights.drop(client.flight)

    def clear(self) -> None:
        """Forget everything: the bus has gone."""
        self._by_serial.clear()
        self._reading.clear()
        self._flights = Flights()


def _has_share(subscription: Subscription) -> bool:
    """Return whether so little of a watch is on its way that it may go on although others have all the room."""
    return _on_its_way(subscription.watch) < limits.FLIGHT_SHARE


def _on_its_way(watch: Watch) -> int:
    return watch.in_flight + RECORD_COST * watch.unacknowledged


def _body(event: Event) -> tuple[str, str, int, list[Any]]:
    """Return a signal's member, signature, body after watch and process, and the first number that acknowledges it."""
    if isinstance(event, Exited):
        return "Exited", "ttib", event.seq, [event.seq, event.timestamp, event.exit_code, event.known]
    if isinstance(event, Dropped):
        return "Dropped", "ttt", event.last_seq, [event.first_seq, event.last_seq, event.bytes]
    return "Output", "a(ttsay)", event.records[0].seq, [[list(record) for record in event.records]]
