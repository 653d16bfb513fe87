"""How far the reader of a watch has come, process by process: what it has in hand, what papad knows of that, and what
comes a second time after a restart. No I/O.
"""

from array import array
from collections import deque
from enum import Enum, auto
from typing import Final

from papa_dbus.client.records import Dropped, Event, Exited, Record
from papa_dbus.state_table import follow

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

    It begins at ``begin``, and has timestamps from ``first`` on: what is before was dropped, or is too long ago.
    """

    __slots__ = ("_first", "_stamps", "begin")

    def __init__(self, begin: int, first: int) -> None:
        self.begin = begin
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
        return self.begin <= seq <= self.next


class Stage(Enum):
    """What has become of an event that has come."""

    DELIVERED = auto()  # the reader has it in hand
    HANDLED = auto()  # the reader has dealt with it, and papad has not confirmed the acknowledgement yet
    DELIVERED_BEFORE = auto()  # as DELIVERED, on a watch that was lost: it is expected to come again
    HANDLED_BEFORE = auto()  # as HANDLED, likewise
    CONFIRMED = auto()  # papad has the acknowledgement, or needs none


class StageEvent(Enum):
    """What happens to an event that has come."""

    HANDLE = auto()  # the reader says that it has dealt with it
    CONFIRM = auto()  # papad has taken the acknowledgement
    LOSE = auto()  # a consumer's watch is lost
    STOP = auto()  # an observer's watch is lost
    PASS = auto()  # a later one has come again, or a new one
    REPLAY = auto()  # it comes again


_S, _E = Stage, StageEvent
STAGE: Final = {
    _S.DELIVERED: {_E.HANDLE: _S.HANDLED, _E.LOSE: _S.DELIVERED_BEFORE, _E.STOP: _S.CONFIRMED},
    _S.HANDLED: {
        _E.HANDLE: _S.HANDLED,
        _E.CONFIRM: _S.CONFIRMED,
        _E.LOSE: _S.HANDLED_BEFORE,
        _E.STOP: _S.CONFIRMED,
    },
    _S.DELIVERED_BEFORE: {
        _E.HANDLE: _S.HANDLED_BEFORE,
        _E.LOSE: _S.DELIVERED_BEFORE,
        _E.PASS: _S.CONFIRMED,
        _E.REPLAY: _S.DELIVERED,
    },
    _S.HANDLED_BEFORE: {
        _E.HANDLE: _S.HANDLED_BEFORE,
        _E.LOSE: _S.HANDLED_BEFORE,
        _E.PASS: _S.CONFIRMED,
        _E.REPLAY: _S.HANDLED,
    },
    _S.CONFIRMED: {**dict.fromkeys(StageEvent, _S.CONFIRMED), _E.REPLAY: _S.HANDLED},
}


class Progress:
    """How far the reader has come with the processes of one name, and how much of that papad knows.

    No gap: an event is only taken if it follows, which ``next`` tells. Nothing twice: only an event without a stage is
    new to the reader, and it is *delivered* then. What may happen to it afterwards, as ``STAGE`` has it:

    ================  ==============  =========  ================  =========  =========  =========
    stage             handle          confirm    lose              stop       pass       replay
    ================  ==============  =========  ================  =========  =========  =========
    delivered         handled         -          delivered before  confirmed  -          -
    handled           handled         confirmed  handled before    confirmed  -          -
    delivered before  handled before  -          delivered before  -          confirmed  delivered
    handled before    handled before  -          handled before    -          confirmed  handled
    confirmed         confirmed       confirmed  confirmed         confirmed  confirmed  handled
    ================  ==============  =========  ================  =========  =========  =========

    An event's stage is the place where it is kept: the deques ``delivered`` and ``handled``; ``expected_replay``, in
    order and with its stage; a confirmed one only in ``trails``. What is before another in ``expected_replay`` does not
    come any more if that one does: papad has had its acknowledgement. A consumer gets a confirmed one again if another
    consumer has not acknowledged it; an observer acknowledges only to get more, and papad may send it anything again.

    ``next`` is the number that must come next. It is None if any may: at the beginning of a watch, and after an end,
    which another process of that name may follow. ``begin`` is the number with which the watch must begin then, as
    papad lists it; None if that is not known, or was.
    """

    __slots__ = ("begin", "delivered", "ended", "expected_replay", "gap", "handled", "last", "next", "trails")

    def __init__(self) -> None:
        self.delivered: deque[Mark] = deque()
        self.handled: deque[Mark] = deque()
        self.expected_replay: dict[Mark, Stage] = {}
        self.trails: deque[_Trail] = deque(maxlen=_PROCESSES_OF_A_NAME)
        self.last: Mark | None = None  # of what was given
        self.next: int | None = None
        self.begin: int | None = None
        self.gap = 0  # where a watch has begun, if not there
        self.ended = False

    @property
    def settled(self) -> bool:
        """Return whether it has ended, and papad knows that the reader knows."""
        return self.ended and not (self.delivered or self.handled or self.expected_replay)

    def lose(self, observer: bool) -> None:
        """Note that the watch is lost."""
        if not observer:
            handled = dict.fromkeys(self.handled, follow(STAGE, Stage.HANDLED, StageEvent.LOSE))
            delivered = dict.fromkeys(self.delivered, follow(STAGE, Stage.DELIVERED, StageEvent.LOSE))
            self.expected_replay = handled | delivered | self.expected_replay
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
        if isinstance(event, Dropped):  # undelivered_part() has looked already
            follows = self.trails and self.trails[-1].next == event.first_seq
            self.trails.append(_Trail(self.trails[-1].begin if follows else event.first_seq, event.last_seq + 1))
        elif self._is_replay(event):
            stage = follow(STAGE, self._pop_expected(mark), StageEvent.REPLAY)
            (self.delivered if stage is Stage.DELIVERED else self.handled).append(mark)
            return False
        else:
            self.expected_replay.clear()
            self._trail_for(mark[0]).add(mark[1])
        self.delivered.append(mark)
        self.last = mark
        return True

    def _trail_for(self, seq: int) -> _Trail:
        if not self.trails or self.trails[-1].next != seq:
            self.trails.append(_Trail(seq, seq))
        return self.trails[-1]

    def _pop_expected(self, mark: Mark) -> Stage:
        """Return the stage of an event that comes again. Those before it are passed."""
        if mark not in self.expected_replay:
            return Stage.CONFIRMED
        while (first := next(iter(self.expected_replay))) != mark:
            del self.expected_replay[first]
        return self.expected_replay.pop(mark)

    def undelivered_part(self, dropped: Dropped) -> Dropped | None:
        """Return what of the dropped records the reader has not had.

        Sizes are known only of what was expected to come again, so ``bytes`` may count some that the reader has had.
        """
        first, size = dropped.first_seq, dropped.bytes
        while self.expected_replay and (mark := next(iter(self.expected_replay)))[0] <= dropped.last_seq:
            del self.expected_replay[mark]
            if mark[0] >= first:  # else papad has had its acknowledgement
                first, size = mark[0] + 1, size - mark[2]
        if self.trails and self.trails[-1].covers(first):
            first = self.trails[-1].next
        return dropped._replace(first_seq=first, bytes=max(size, 0)) if first <= dropped.last_seq else None

    def mark_handled(self, mark: Mark) -> bool:
        """Note that the reader has dealt with this, and what was given before; returns whether to tell papad now."""
        if mark in self.expected_replay:  # papad will be told once it has sent it again
            for earlier, stage in self.expected_replay.items():
                self.expected_replay[earlier] = follow(STAGE, stage, StageEvent.HANDLE)
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
        """Note that papad has taken the acknowledgement. It may have been told twice, and then nothing follows."""
        if any(mark[0] == seq for mark in self.handled):
            while self.handled.popleft()[0] != seq:
                pass
