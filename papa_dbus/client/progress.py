"""How far the reader of a watch has come, process by process: what it has in hand, what papad knows of that, and what
comes a second time after a restart. No I/O.
"""

from array import array
from collections import deque

from papa_dbus.client.records import Dropped, Event, Exited, Record

#: Records of one process that papad keeps, at most (its MAX_RECORDS): only these can come again.
_KEPT = 131_072
_STAMP = 0xFFFFFFFF
#: Processes of one name whose output can come again: the present one, and earlier ones (papad's
#: MAX_UNREAD_PREDECESSORS).
_PROCESSES_OF_A_NAME = 5

#: Identity of an event when it comes again, sequence number and timestamp; and its size in bytes.
Mark = tuple[int, int, int]


def mark_of(event: Event) -> Mark:
    match event:
        case Record():
            return event.seq, event.timestamp, len(event.data)
        case Exited():
            return event.seq, event.timestamp, 0
        case Dropped():
            return event.last_seq, 0, event.bytes


class _Trail:
    """The timestamps of what the reader has had of one process, by sequence number, as far as it can come again.

    A number and its timestamp tell a record from one of another process of that name. They are compared for being the
    same, never for which is later: a clock may be set back. Of a timestamp its last 32 bits are kept.
    """

    __slots__ = ("_first", "_stamps")

    def __init__(self, first: int) -> None:
        self._first = first
        self._stamps = array("I")

    @property
    def next(self) -> int:
        """The number that follows."""
        return self._first + len(self._stamps)

    def add(self, timestamp: int) -> None:
        """Note the next one."""
        self._stamps.append(timestamp & _STAMP)
        if len(self._stamps) > _KEPT + _KEPT // 4:
            del self._stamps[: _KEPT // 4]
            self._first += _KEPT // 4

    def has(self, mark: Mark) -> bool:
        """Return whether it was noted."""
        return self._first <= mark[0] < self.next and self._stamps[mark[0] - self._first] == mark[1] & _STAMP

    def covers(self, seq: int) -> bool:
        """Return whether a number lies in it."""
        return self._first <= seq <= self.next


class Progress:
    """How far the reader has come with the processes of one name, and how much of that papad knows.

    Each event that comes goes through these states:

    - *delivered*: the reader has it in hand;
    - *handled*: the reader has dealt with it, and papad has not confirmed the acknowledgement yet;
    - confirmed, and forgotten here.

    If the watch is lost, what is given or done may come again. A consumer's is *expected_replay* then, in its order,
    with a note whether it was done. Of what comes on the next watch,

    - an event that is in *expected_replay* is given or done as before, and the reader does not get it a second time.
      Those before it in *expected_replay* do not come any more: papad has had their acknowledgement;
    - another that the reader has had, which *trails* tells, is done. An observer acknowledges only to get more, so that
      papad may send anything again; a consumer gets again what another one has not acknowledged, unless papad knows
      where it was;
    - any other is new.

    ``next`` is the number that must come next. It is None if any may: at the beginning of a watch, and after an end,
    which another process of that name may follow. ``begin`` is the number with which the watch must begin then, as
    papad lists it; None if that is not known, or was.
    """

    __slots__ = ("begin", "delivered", "ended", "expected_replay", "gap", "handled", "last", "next", "trails")

    def __init__(self) -> None:
        self.delivered: deque[Mark] = deque()
        self.handled: deque[Mark] = deque()
        self.expected_replay: dict[Mark, bool] = {}
        self.trails: deque[_Trail] = deque(maxlen=_PROCESSES_OF_A_NAME)
        self.last: Mark | None = None  # of what was given
        self.next: int | None = None
        self.begin: int | None = None
        self.gap = 0  # where a watch has begun, if not there
        self.ended = False

    @property
    def settled(self) -> bool:
        """Return whether it has ended, and the kernel knows that the reader knows."""
        return self.ended and not (self.delivered or self.handled or self.expected_replay)

    def lose(self, observer: bool) -> None:
        """Note that the watch is lost."""
        if not observer:
            expected_replay = dict.fromkeys(self.handled, True) | dict.fromkeys(self.delivered, False)
            self.expected_replay = expected_replay | self.expected_replay
        self.delivered.clear()
        self.handled.clear()
        self.next = self.begin = None

    def follows(self, event: Event, observer: bool) -> bool:
        """Return whether nothing is missing before this event, and expect the one after it if so."""
        first, last = (event.first_seq, event.last_seq) if isinstance(event, Dropped) else (event.seq, event.seq)
        if self.next is not None:
            # Another process of the name begins anew. papad turns to it once all of the earlier one is acknowledged.
            whole = first == self.next or (first < self.next and not self.delivered)
        else:
            # A watch that begins elsewhere may read an earlier process of the name first, or another consumer has
            # acknowledged something. If the bus has lost it, the next watch does not begin in the same place.
            whole = self._begins_with(first, event, observer) or self.gap == first
            self.gap = first
        if whole:
            self.next = None if isinstance(event, Exited) else last + 1
        return whole

    def _begins_with(self, first: int, event: Event, observer: bool) -> bool:
        if self.begin is None:
            return observer or self.last is None or self.ended or first <= self.last[0] + 1
        # papad lists where the consumer is that has come least far. This one goes on where it was itself.
        goes_on = self.last is not None and (first == self.last[0] + 1 or self._is_replay(event))
        if first == self.begin or (first < self.begin if observer else first > self.begin and goes_on):
            self.begin = None
            return True
        return False

    def _is_replay(self, event: Event) -> bool:
        mark = mark_of(event)
        return any(trail.has(mark) for trail in self.trails)

    def take(self, event: Event) -> bool:
        """Note an event that has come; returns whether it is new to the reader."""
        mark = mark_of(event)
        self.ended = isinstance(event, Exited)
        if isinstance(event, Dropped):
            pass  # undelivered_part() has looked already
        elif self._is_replay(event):
            (self.handled if self._was_handled(mark) else self.delivered).append(mark)
            return False
        else:
            self.expected_replay.clear()
            self._trail_for(mark[0]).add(mark[1])
        self.delivered.append(mark)
        self.last = mark
        return True

    def _trail_for(self, seq: int) -> _Trail:
        if not self.trails or self.trails[-1].next != seq:
            self.trails.append(_Trail(seq))
        return self.trails[-1]

    def _was_handled(self, mark: Mark) -> bool:
        """Return whether the reader has dealt with what comes again; what it has in hand it has not."""
        if mark not in self.expected_replay:
            return True
        while (first := next(iter(self.expected_replay))) != mark:
            del self.expected_replay[first]
        return self.expected_replay.pop(mark)

    def undelivered_part(self, dropped: Dropped) -> Dropped | None:
        """Return what of the dropped records the reader has not had."""
        first, size = dropped.first_seq, dropped.bytes
        while self.expected_replay and (mark := next(iter(self.expected_replay)))[0] <= dropped.last_seq:
            del self.expected_replay[mark]
            first, size = mark[0] + 1, size - mark[2]
        if self.trails and self.trails[-1].covers(first):
            first = self.trails[-1].next
        return dropped._replace(first_seq=first, bytes=size) if first <= dropped.last_seq else None

    def mark_handled(self, mark: Mark) -> bool:
        """Note that the reader has dealt with this, and what was given before; returns whether to tell papad now."""
        if mark in self.expected_replay:  # the kernel will be told once it has sent it again
            for earlier in self.expected_replay:
                self.expected_replay[earlier] = True
                if earlier == mark:
                    break
            return False
        if not self.delivered or (self.delivered[0] != mark and mark not in self.delivered):
            return False
        self.handled.append(self.delivered.popleft())
        while self.handled[-1] != mark:
            self.handled.append(self.delivered.popleft())
        return True

    def confirm(self, seq: int) -> None:
        """Note that papad has taken the acknowledgement."""
        while self.handled and self.handled.popleft()[0] != seq:
            pass
