"""How much output is on its way to each client of the bus, and how much more may be.

A bus queues for a client that does not read, until its own limits are reached: then dbus-daemon stops reading papad,
and dbus-broker throws signals away. So papad bounds what a client, a user and all together have on their way. What a
client says shows how far it has read: signals reach it in the order of their serial numbers.
"""

from collections import Counter, OrderedDict, deque

from papa_dbus.service import limits

#: A watch's number and a process's name: what a signal is about.
Subject = tuple[int, str]
#: Bytes of papad's own for each record that was sent and not acknowledged, about.
KEPT_COST = 128


class Flight:
    """What is on its way to one client, the oldest first."""

    def __init__(self, uid: int | None) -> None:
        self.uid = uid
        self.bytes = 0
        self.kept = 0  # papad's own bytes for what was not acknowledged, read or not
        self.in_sockets = 0  # bytes that were sent on sockets of its own, and not acknowledged
        # Bytes and subject, by serial number. The first of a plain dict is looked for behind all that have gone.
        self._sent: OrderedDict[int, tuple[int, Subject]] = OrderedDict()
        self._marks: dict[Subject, deque[tuple[int, int]]] = {}  # of what was not read: sequence and serial number

    @property
    def empty(self) -> bool:
        """Return whether all was read."""
        return not (self._sent or self.in_sockets)

    @property
    def all(self) -> int:
        """Return what is counted."""
        return self.bytes + self.kept + self.in_sockets

    @property
    def last(self) -> int:
        """Return the serial number of what was sent last, 0 if all was read."""
        return next(reversed(self._sent), 0)

    def shown_by(self, number: int, process: str, seq: int) -> int:
        """Return the newest signal that a client has read who acknowledges this, 0 if it had been read before."""
        newest = before = 0
        for first, serial in self._marks.get((number, process), ()):
            if first <= before and newest:
                break  # the name's next process: its numbers begin anew
            if first <= seq:
                newest = serial
            elif newest:
                break
            before = first
        return newest

    def add(self, serial: int, size: int, subject: Subject, seq: int) -> None:
        """Note a signal that was sent. It has been read if ``seq`` or what follows it is acknowledged."""
        self._sent[serial] = size, subject
        self._marks.setdefault(subject, deque()).append((seq, serial))
        self.bytes += size

    def read_one(self, up_to: int) -> tuple[int, Subject] | None:
        """Note that the oldest was read, if its serial number is no higher; return that number and its subject."""
        serial = next(iter(self._sent), None)
        return None if serial is None or serial > up_to else (serial, self.remove(serial))

    def remove(self, serial: int) -> Subject:
        """Forget one that was on its way and was read, or was not delivered; returns its subject."""
        size, subject = self._sent.pop(serial)
        self.bytes -= size
        marks = self._marks[subject]
        if marks[0][1] == serial:
            marks.popleft()
        else:
            self._marks[subject] = marks = deque(mark for mark in marks if mark[1] != serial)
        if not marks:
            del self._marks[subject]
        return subject


class Flights:
    """The flights of all clients of one bus, and what more may be sent."""

    def __init__(self) -> None:
        self._by_user: Counter[int | None] = Counter()
        self._total = 0
        self._counted: dict[Flight, int] = {}

    def count(self, flight: Flight) -> bool:
        """Note what has become of a flight; returns whether it has become less."""
        return self._set(flight, flight.all)

    def drop(self, flight: Flight) -> None:
        """Forget the flight of a client that has left the bus."""
        self._set(flight, 0)

    def _set(self, flight: Flight, now: int) -> bool:
        change = now - self._counted.pop(flight, 0)
        if now:
            self._counted[flight] = now
        self._by_user[flight.uid] += change
        self._total += change
        if not self._by_user[flight.uid]:
            del self._by_user[flight.uid]
        return change < 0

    def room(self, flight: Flight, most: int, share: bool) -> int:
        """Return the bytes that may be sent to a client now: 0, or at least limits.FLIGHT_SHARE.

        ``share``: little of the watch is on its way, so it may go on although the client's others have all the room.
        """
        own = limits.MAX_FLIGHT_OF_CLIENT - flight.all
        of_user, total = self._by_user.get(flight.uid, 0), self._total
        others = min(limits.MAX_FLIGHT_OF_USER - of_user, limits.MAX_FLIGHT - total)
        if others > 0 and (own > 0 or share):
            return max(limits.FLIGHT_SHARE, min(most, own, others))
        if flight.empty and of_user < limits.MAX_FLIGHT_OF_USER + limits.MAX_SHARES_OF_USER:
            return limits.FLIGHT_SHARE if total < limits.MAX_FLIGHT + limits.MAX_SHARES else 0
        return 0

    def waits_for_others(self, flight: Flight, share: bool) -> bool:
        """Return whether a client that has no room now would have some if others had less on their way."""
        return share or flight.empty or flight.all < limits.MAX_FLIGHT_OF_CLIENT
