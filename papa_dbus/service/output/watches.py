"""A client's subscription to output: who is sent what, and how far ahead of its acknowledgements.

A watch has a cursor for each process incarnation it reads. It knows logs and sequence numbers; it knows no protocol.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

from papa_dbus.errors import NotFound
from papa_dbus.service import limits
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.output.cursor import Cursor, Position
from papa_dbus.service.output.events import EVENT_COST, RECORD_COST, Event, Unread, UnreadEvent, kept
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.shares import Share
from papa_dbus.service.steps import begin

#: Events that are taken at a time.
MAX_EVENTS: Final = 256

#: Why a watch has ended by itself, as the contract has it.
End = Literal["finished", "removed", "failed"]


class Watch:
    """One subscription, of the client ``who`` if that is known.

    ``on_ready`` is called when there is something to take, ``on_done`` when the watch has ended by itself, and why; for
    an observing watch that is within take(), whose events are its last. A front end takes events whenever it can pass
    them on; what it took counts against the window until acknowledged.
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
        self._dealt_with: dict[Cursor, int] = {}  # up to where; each is still to be told
        self._earlier: dict[str, deque[Cursor]] = {}  # by name; read as soon as nothing of that name is in flight
        self.expected: set[str] = set()  # names whose processes are still to be attached, each with a place
        self._last_end: End = "finished"  # of those that came to their end meanwhile
        self.in_flight = 0  # bytes of payload that were sent and not acknowledged
        self.unacknowledged = 0  # and records

    @property
    def consumes(self) -> bool:
        """Return whether records wait in the log for this watch."""
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

    def expect(self, names: Iterable[str]) -> None:
        """Keep a place for each of these, whose processes are to be attached; the watch does not end before."""
        self.expected = set(names)
        self.share.take(len(self.expected))

    def attach_expected(self, name: str, logs: Iterable[tuple[OutputLog, Position | None]]) -> None:
        """Begin to read a name that was expected: its processes, the earlier first; none if they have gone."""
        self.share.give()
        for log, position in logs:
            self.attach(name, log, position)
        self.expected.remove(name)
        self._look_for_the_end(self._last_end)

    def attach(self, name: str, log: OutputLog, position: Position | None = None) -> None:
        """Begin to read a process, after the name's earlier one where that is still being read."""
        cursor = Cursor(self, name, log)
        absent = None
        if position is not None:
            cursor.position = position
            self.in_flight += position.in_flight
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
        if cursor.has_more() or (position is not None and cursor.late):  # it may be at its end by now
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
            return  # the front end knows, or is told once something has been acknowledged
        self._ready[cursor] = None
        if self.in_flight < self.spec.window:
            self._on_ready()

    @property
    def ready(self) -> bool:
        """Return whether take() may have something."""
        return bool(self._ready) and self.in_flight < self.spec.window and not self.closed

    def take(self, most: int, most_events: int = MAX_EVENTS) -> list[Event]:
        """Up to ``most`` bytes of what is to be sent next, from one process after the other; empty: nothing now.

        Records count as the bytes that they take on their way; the window counts their payload.
        """
        return [event.read() if isinstance(event, Unread) else event for event in self.take_unread(most, most_events)]

    def take_unread(self, most: int, most_events: int = MAX_EVENTS) -> list[UnreadEvent]:
        """The same for one who passes the bytes on from the log, and does so at once."""
        events: list[UnreadEvent] = []
        while (room := min(most, self.spec.window - self.in_flight)) > 0 and self._ready and len(events) < most_events:
            cursor = next(iter(self._ready))
            del self._ready[cursor]
            if cursor is not self._cursors[cursor.name][0] or cursor.name in self._earlier:
                continue  # its namesake goes first; acknowledging what that one has makes this one ready
            before = cursor.unacknowledged
            taken, size = cursor.take(room, at_least_one=not self.in_flight)
            events += taken
            self._taken[cursor] = None
            self.in_flight += size
            self.unacknowledged += cursor.unacknowledged - before
            most -= size + RECORD_COST * (cursor.unacknowledged - before) + EVENT_COST * len(taken)
            if not self.consumes:
                cursor.look_for_the_end()
                if cursor.finished:
                    events[len(events) - len(taken) :] = kept(taken)  # its log may go with its last reader
                    self._detach(cursor)
                    continue
            if cursor.has_more():
                self._ready[cursor] = None
                if not taken:
                    break  # its next record is larger than the room that is left
        if not self.consumes:
            self._look_for_the_end("finished")
        return events

    def acknowledge(self, up_to: Mapping[str, int]) -> Iterator[None] | None:
        """Note what has been dealt with, all of it or, after an error, nothing.

        Return what is left to be done of that, in steps, None if nothing is; it counts even if the watch is closed
        before. Raises NotFound for a process that is not watched, InvalidArgs for a number that was not sent yet.
        """
        dealt_with = {}
        for name, seq in up_to.items():
            if cursors := self._cursors.get(name):
                cursors[0].check_sent(seq)
                dealt_with[cursors[0]] = seq
            elif self.consumes:  # else it is an observer's process that has ended
                raise NotFound(f"watch {self.number} has no process '{name}'")
        self._dealt_with |= dealt_with
        return begin(self._acknowledging())

    def acknowledge_taken(self) -> Iterator[None] | None:
        """Do so with all that was taken."""
        taken, self._taken = self._taken, {}
        self._dealt_with |= {cursor: cursor.next_seq - 1 for cursor in taken}
        return begin(self._acknowledging())

    def _acknowledging(self) -> Iterator[None]:
        for cursor in list(self._dealt_with):
            if cursor in self._dealt_with and not self.closed:
                self._acknowledge(cursor)
                if cursor.finished:
                    self._detach(cursor)
                elif not cursor.unacknowledged and cursor.name in self._earlier:
                    self._begin_earlier(cursor.name)
            yield
        self._resume()

    def _acknowledge(self, cursor: Cursor) -> None:
        before = cursor.unacknowledged
        self.in_flight -= cursor.acknowledge(self._dealt_with.pop(cursor))
        self.unacknowledged -= before - cursor.unacknowledged
        if self.consumes:
            cursor.log.consumed()

    def _detach(self, cursor: Cursor) -> None:
        cursors = self._cursors[cursor.name]
        cursors.remove(cursor)
        self.in_flight -= cursor.in_flight
        self.unacknowledged -= cursor.unacknowledged
        self._ready.pop(cursor, None)
        self._taken.pop(cursor, None)
        self._dealt_with.pop(cursor, None)
        if cursor.name in self._earlier:
            self._begin_earlier(cursor.name)
        elif not cursors:
            del self._cursors[cursor.name]
        elif cursors[0].has_more():
            self._ready[cursors[0]] = None
        cursor.leave()
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

    def giving_up(self) -> Iterator[None]:
        """End the watch, since it cannot read all that it should, as closing() does."""
        on_done, closing = self._on_done, self.closing()
        next(closing, None)
        on_done("failed")
        yield from closing

    def _look_for_the_end(self, end: End) -> bool:
        if self._cursors or self.closed or self.spec.follow:
            return False
        if self.expected:
            self._last_end = end
            return False
        on_done = self._on_done
        self.close()
        on_done(end)
        return True

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
        self.share.give(len(left) + len(self.expected))
        self.expected.clear()
        self._earlier.clear()
        self._on_closed(self)
        # They know this watch: without them it goes at once, and is no work for the garbage collector.
        self._on_ready, self._on_done = lambda: None, lambda end: None
        for cursor in left:
            if cursor in self._dealt_with:
                self._acknowledge(cursor)
            cursor.leave(away)
            yield
