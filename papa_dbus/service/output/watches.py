"""A client's subscription to output: who is sent what, and how far ahead of its acknowledgements.

A watch has a cursor for each process incarnation it reads. It knows logs and sequence numbers; it knows no protocol.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from papa_dbus.errors import InvalidArgs, NotFound
from papa_dbus.service import limits
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.output.log import Absent, Exit, OutputLog, Record
from papa_dbus.service.shares import Share

#: Seconds that a door rests after a sending with little in it, and the bytes that are not little. A line after silence
#: goes at once, and many cost less together; what is more would fill up the log meanwhile.
REST: Final = 0.002
MUCH: Final = 32 * 1024
#: Bytes that a record takes on its way beside its payload, about.
RECORD_COST: Final = 64
#: And an event, with its process's name and the client's.
EVENT_COST: Final = 512

#: Events that are taken at a time.
MAX_EVENTS: Final = 256

#: Why a watch has ended by itself, as the contract has it.
End = Literal["finished", "removed", "failed"]


@dataclass(frozen=True, slots=True)
class Output:
    """Records of one process, in order."""

    process: str
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Records that were gone before they could be sent; ``bytes`` is their payload."""

    process: str
    first_seq: int
    last_seq: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A process's end: ``timestamp`` in µs of CLOCK_REALTIME; ``known`` is false where nobody saw the exit code."""

    process: str
    seq: int
    timestamp: int
    exit_code: int
    known: bool


Event = Output | Dropped | Exited


def size_of(event: Event) -> int:
    """The bytes of payload that are in an event; 1 where it is no output."""
    return sum(len(record.data) for record in event.records) if isinstance(event, Output) else 1


def cost_of(event: Event) -> int:
    """Return about the bytes that an event takes on its way: not less than it does on the bus."""
    records = event.records if isinstance(event, Output) else []
    return EVENT_COST + sum(len(record.data) + RECORD_COST for record in records)


class Position(NamedTuple):
    """Where a cursor stands, for the cursor of another papad. Numbers, offsets and bytes as the cursor has them."""

    acknowledged: int
    acknowledged_offset: int
    next_seq: int
    offset: int
    in_flight: int
    exit_sent: bool
    late: bool


#: Of a cursor that waits for no acknowledgement, as most do: a deque of its own takes more than the cursor.
_NOTHING: Final[deque[tuple[int, int, int]]] = deque()


class Cursor:
    """How far one watch has come in one process's log."""

    __slots__ = (
        "_exit_sent",
        "_offset",
        "_sent",
        "acknowledged",
        "acknowledged_offset",
        "consumes",
        "finished",
        "late",
        "log",
        "name",
        "next_seq",
        "watch",
        "who",
    )

    def __init__(self, watch: "Watch", name: str, log: OutputLog) -> None:
        self.watch = watch
        self.who = watch.who  # the client, "" if that cannot be known again
        self.consumes = watch.consumes  # whether records wait in the log for this watch
        self.name = name
        self.log = log
        self.acknowledged, self.acknowledged_offset = log.acknowledged, log.acknowledged_offset
        self.next_seq = self.acknowledged + 1
        self._offset = self.acknowledged_offset
        self.finished = False
        # Whoever comes after the end was acknowledged reads what descendants write, until they have closed the pipes.
        self._exit_sent = self.late = log.exit_acknowledged
        # What waits for an acknowledgement: sequence number, bytes, and the offset after it.
        self._sent = _NOTHING
        watch.share.take()

    def resume(self, absent: Absent) -> None:
        """Go on where the same client's watch was before papad, or the bus, went away."""
        self.acknowledged, self.acknowledged_offset = absent.acknowledged, absent.acknowledged_offset
        self.next_seq, self._offset = self.acknowledged + 1, self.acknowledged_offset

    @property
    def present(self) -> bool:
        """Return whether somebody reads by it."""
        return True

    def wake(self) -> None:
        """The log has got something new."""
        self.watch.mark_ready(self)

    def has_more(self) -> bool:
        """Whether there is something that has not been sent."""
        return self.next_seq <= self.log.last_seq

    def take(self, room: int, at_least_one: bool) -> tuple[list[Event], int]:
        """The next events, of at most ``room`` bytes of payload (or one record), and that payload's size."""
        events: list[Event] = []
        self._take_gap(events)
        if not self.has_more():
            return events, 0
        records, exit_ = self.log.read(self.next_seq, room, at_least_one)
        size = 0
        if records:
            events.append(Output(self.name, records))
            for record in records:
                size += len(record.data)
                self._note_sent(record.seq, len(record.data), self._offset + size)
            self.next_seq = records[-1].seq + 1
            self._offset += size
        if exit_ is not None and self.next_seq == exit_.seq:
            self._take_exit(events, exit_)
        return events, size

    def _take_gap(self, events: list[Event]) -> None:
        """Say what has left the log unsent. The process's end never leaves it so."""
        first, exit_ = self.log.first_seq, self.log.exit
        if self.next_seq >= first:
            return
        if exit_ is not None and not self._exit_sent and self.next_seq <= exit_.seq < first:
            self._drop_to(events, exit_.seq, exit_.offset)
            self._take_exit(events, exit_)
        self._drop_to(events, first, self.log.first_offset)

    def _drop_to(self, events: list[Event], seq: int, offset: int) -> None:
        if self.next_seq < seq:
            events.append(Dropped(self.name, self.next_seq, seq - 1, offset - self._offset))
            self._note_sent(seq - 1, 0, offset)
            self.next_seq = seq
        self._offset = offset

    def _take_exit(self, events: list[Event], exit_: Exit) -> None:
        known = exit_.code is not None
        events.append(Exited(self.name, exit_.seq, exit_.timestamp, exit_.code or 0, known))
        self._note_sent(exit_.seq, 0, exit_.offset)
        self._exit_sent = True
        self.next_seq = exit_.seq + 1

    def _note_sent(self, seq: int, size: int, offset: int) -> None:
        if self._sent is _NOTHING:
            self._sent = deque()
        self._sent.append((seq, size, offset))

    def acknowledge(self, seq: int) -> int:
        """Note that everything up to ``seq`` has been dealt with; returns the bytes this frees in the window."""
        freed = 0
        while self._sent and self._sent[0][0] <= seq:
            self.acknowledged, size, self.acknowledged_offset = self._sent.popleft()
            freed += size
        if not self._sent:
            self._sent = _NOTHING
        self.look_for_the_end()
        return freed

    @property
    def in_flight(self) -> int:
        """Bytes that were sent and not acknowledged."""
        return sum(size for _, size, _ in self._sent)

    @property
    def unacknowledged(self) -> int:
        """Records that were sent and not acknowledged."""
        return len(self._sent)

    @property
    def position(self) -> Position:
        """Where it stands. What is in flight is one piece there: it is acknowledged all at once or not at all."""
        return Position(
            self.acknowledged,
            self.acknowledged_offset,
            self.next_seq,
            self._offset,
            self.in_flight,
            self._exit_sent,
            self.late,
        )

    @position.setter
    def position(self, to: Position) -> None:
        self.acknowledged, self.acknowledged_offset = to.acknowledged, to.acknowledged_offset
        self.next_seq, self._offset = to.next_seq, to.offset
        self._exit_sent, self.late = to.exit_sent, to.late
        if to.acknowledged < to.next_seq - 1:
            self._note_sent(to.next_seq - 1, to.in_flight, to.offset)

    def look_for_the_end(self) -> None:
        """Note whether everything has been read that this cursor is there for."""
        exit_ = self.log.exit
        if self.late:
            nothing_waits = not self.has_more() and not (self.consumes and self._sent)
            self.finished = self.removed or (self.log.completed and nothing_waits)
        elif exit_ is not None and self._exit_sent:
            # An observer holds nothing back, so it need not acknowledge the end either.
            self.finished = self.acknowledged >= exit_.seq or not self.consumes

    @property
    def removed(self) -> bool:
        """Return whether its process was removed after its end was acknowledged: of such a one nothing more is told."""
        return self.late and not self.log.capacity


def _do_nothing(*_: object) -> None:
    """Take a callback's place."""


class Watch:
    """One subscription, of the client ``who`` if that is known.

    ``on_ready`` is called when there is something to take, ``on_done`` when the watch has ended by itself, and why; for
    an observing watch that is within take(), whose events are its last. A door takes events whenever it can pass them
    on; what it took counts against the window until acknowledged.
    """

    def __init__(
        self,
        number: int,
        spec: WatchSpec,
        on_ready: Callable[[], None],
        on_done: Callable[[End], None],
        on_closed: Callable[["Watch"], None],
        share: Share | None = None,
        who: str = "",
    ) -> None:
        self.share = share or Share(limits.MAX_CURSORS)  # of cursors, its client's
        self.number = number
        self.spec = spec
        self.who = who
        self.closed = False
        self._on_ready = on_ready
        self._on_done = on_done
        self._on_closed = on_closed
        self._cursors: dict[str, deque[Cursor]] = {}  # by name; a name's earlier process first
        self._ready: dict[Cursor, None] = {}  # in the order in which they are served
        self._taken: dict[Cursor, None] = {}  # those from which something was taken since acknowledge_taken()
        self._earlier: dict[str, deque[Cursor]] = {}  # by name; read as soon as nothing of that name is in flight
        self._in_flight = 0
        self.unacknowledged = 0  # records that were sent and not acknowledged

    @property
    def in_flight(self) -> int:
        """Bytes of payload that were sent and not acknowledged."""
        return self._in_flight

    @property
    def consumes(self) -> bool:
        """Whether records wait in the log for this watch."""
        return self.spec.mode == "consume"

    def reads(self, name: str) -> bool:
        """Return whether a process of that name is being read."""
        return name in self._cursors

    @property
    def names(self) -> list[str]:
        """The names of the processes that are being read."""
        return list(self._cursors)

    @property
    def cursors(self) -> list[Cursor]:
        """One for each process that is being read, a name's earlier one first."""
        waiting = [cursor for cursors in self._earlier.values() for cursor in cursors]
        return [*waiting, *(cursor for cursors in self._cursors.values() for cursor in cursors)]

    def attach(self, name: str, log: OutputLog, position: Position | None = None) -> None:
        """Begin to read a process, after the name's earlier one where that is still being read."""
        cursor = Cursor(self, name, log)
        absent = None
        if position is not None:
            cursor.position = position
            self._in_flight += position.in_flight
            self.unacknowledged += cursor.unacknowledged
            self._taken[cursor] = None
            absent = next((each for each in log.absent(self.who) if each.acknowledged == position.acknowledged), None)
        elif self.consumes and self.who and (left := log.absent(self.who)):
            # Which of its client's this was is not known: so each begins where the one was that had come least far.
            cursor.resume(left[0])
            absent = left[-1]
        log.attach(cursor)
        if absent is not None:
            log.detach(absent)
        self._cursors.setdefault(name, deque()).append(cursor)
        if cursor.has_more():
            self.mark_ready(cursor)

    def attach_earlier(self, name: str, log: OutputLog) -> None:
        """Begin to read a name's earlier process before the one that is being read, as soon as that can be."""
        cursor = Cursor(self, name, log)
        log.attach(cursor)
        cursors = self._cursors.setdefault(name, deque())
        if cursors and cursors[0].unacknowledged:
            self._earlier.setdefault(name, deque()).append(cursor)
        else:
            cursors.appendleft(cursor)
            self.mark_ready(cursor)

    def mark_ready(self, cursor: Cursor) -> None:
        """Called by a log that has got something new."""
        if self.closed:
            return
        if cursor.late:
            cursor.look_for_the_end()
            if cursor.finished:
                end: End = "removed" if cursor.removed else "finished"
                self._detach(cursor)
                self._resume(end)
                return
        if cursor in self._ready:
            return  # the door knows, or is told once something has been acknowledged
        self._ready[cursor] = None
        if self._in_flight < self.spec.window:
            self._on_ready()

    @property
    def ready(self) -> bool:
        """Whether take() may have something."""
        return bool(self._ready) and self._in_flight < self.spec.window and not self.closed

    def take(self, most: int, most_events: int = MAX_EVENTS) -> list[Event]:
        """Up to ``most`` bytes of what is to be sent next, from one process after the other; empty: nothing now.

        Records count as the bytes that they take on their way; the window counts their payload.
        """
        events: list[Event] = []
        while (room := min(most, self.spec.window - self._in_flight)) > 0 and self._ready and len(events) < most_events:
            cursor = next(iter(self._ready))
            del self._ready[cursor]
            if cursor is not self._cursors[cursor.name][0]:
                continue  # its namesake goes first; acknowledging that one's end makes this one ready
            if cursor.name in self._earlier:
                continue  # so does that one, as soon as it can
            before = cursor.unacknowledged
            taken, size = cursor.take(room, at_least_one=not self._in_flight)
            events += taken
            self._taken[cursor] = None
            self._in_flight += size
            self.unacknowledged += cursor.unacknowledged - before
            most -= size + RECORD_COST * (cursor.unacknowledged - before) + EVENT_COST * len(taken)
            if not self.consumes:
                cursor.look_for_the_end()
                if cursor.finished:
                    self._detach(cursor)
                    continue
            if cursor.has_more():
                self._ready[cursor] = None
                if not taken:
                    break  # its next record is larger than the room that is left
        if not self.consumes:
            self._look_for_the_end("finished")
        return events

    def acknowledge(self, up_to: Mapping[str, int]) -> None:
        """Note what has been dealt with, all of it or, after an error, nothing.

        Raises NotFound for a process that is not watched, InvalidArgs for a number that was not sent yet.
        """
        for name, seq in up_to.items():
            cursors = self._cursors.get(name)
            if not cursors and not self.consumes:
                continue  # an observer's process that has ended
            if not cursors:
                raise NotFound(f"watch {self.number} has no process '{name}'")
            if seq >= cursors[0].next_seq and self.consumes:
                sent = cursors[0].next_seq - 1
                raise InvalidArgs(f"process '{name}': {seq} cannot be acknowledged, the last that was sent is {sent}")
        for name, seq in up_to.items():
            if name in self._cursors:
                self._acknowledge(self._cursors[name][0], seq)
        self._resume()

    def acknowledge_taken(self) -> None:
        """Note that all that was taken has been dealt with."""
        taken, self._taken = self._taken, {}
        for cursor in taken:
            self._acknowledge(cursor, cursor.next_seq - 1)
        self._resume()

    def _acknowledge(self, cursor: Cursor, seq: int) -> None:
        before = cursor.unacknowledged
        self._in_flight -= cursor.acknowledge(seq)
        self.unacknowledged -= before - cursor.unacknowledged
        if self.consumes:
            cursor.log.consumed()
        if cursor.finished:
            self._detach(cursor)
        elif not cursor.unacknowledged and cursor.name in self._earlier:
            self._begin_earlier(cursor.name)

    def _detach(self, cursor: Cursor) -> None:
        cursors = self._cursors[cursor.name]
        cursors.remove(cursor)
        self._in_flight -= cursor.in_flight
        self.unacknowledged -= cursor.unacknowledged
        self._ready.pop(cursor, None)
        self._taken.pop(cursor, None)
        if cursor.name in self._earlier:
            self._begin_earlier(cursor.name)
        elif not cursors:
            del self._cursors[cursor.name]
        elif cursors[0].has_more():
            self._ready[cursors[0]] = None
        cursor.log.detach(cursor)
        self.share.give()

    def _begin_earlier(self, name: str) -> None:
        cursors = self._cursors[name]
        if cursors and cursors[0].has_more():
            self._ready[cursors[0]] = None
        cursors.extendleft(reversed(self._earlier.pop(name)))
        self._ready[cursors[0]] = None

    def _resume(self, end: End = "finished") -> None:
        """Go on after an acknowledgement: with what was held back, or to the end."""
        if not self._look_for_the_end(end) and self.ready:
            self._on_ready()

    def give_up(self) -> None:
        """End the watch, since it cannot read all that it should."""
        self._finish("failed")

    def _look_for_the_end(self, end: End) -> bool:
        if self._cursors or self.closed or self.spec.follow:
            return False
        self._finish(end)
        return True

    def _finish(self, end: End) -> None:
        on_done = self._on_done
        self.close()
        on_done(end)

    def close(self, away: bool = False) -> None:
        """End the watch. What it had not acknowledged is there for the next one.

        ``away``: its client has not gone, and is waited for: what other consumers acknowledge meanwhile is kept for it.
        """
        for _ in self.closing(away):
            pass

    def closing(self, away: bool = False) -> Iterator[None]:
        """Do as close() does, process by process; nothing more comes from it once that has begun."""
        if self.closed:
            return
        self.closed = True
        self._ready.clear()
        self._taken.clear()
        left = self.cursors
        self._cursors.clear()
        self.share.give(len(left))
        self._earlier.clear()
        self._on_closed(self)
        # They know this watch: without them it goes at once, and is no work for the garbage collector.
        self._on_ready, self._on_done = _do_nothing, _do_nothing
        for cursor in left:
            if away and self.consumes:
                cursor.log.leave_behind(cursor)
            cursor.log.detach(cursor)
            yield
