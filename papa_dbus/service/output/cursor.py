"""How far a watch has come in one log: what it is sent next, and what it has acknowledged."""

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from papa_dbus.errors import InvalidArgs
from papa_dbus.service.output.events import Dropped, Exited, Unread, UnreadEvent
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.readers import Absent
from papa_dbus.service.output.records import Exit
from papa_dbus.state_table import follow

if TYPE_CHECKING:
    from papa_dbus.service.output.watches import Watch


class Stage(Enum):
    """How far a cursor is with its process's end."""

    READING = auto()  # the end has not been sent
    END_SENT = auto()  # the end has been sent, and a consumer has not acknowledged it
    LATE = auto()  # it came after the end was acknowledged: it reads what descendants write
    FINISHED = auto()  # all that it is there for has been read


class StageEvent(Enum):
    """What happens to a cursor."""

    SEND_END = auto()
    FINISH = auto()


STAGE: Final = {
    Stage.READING: {StageEvent.SEND_END: Stage.END_SENT},  # no watch finishes without having told the end
    Stage.END_SENT: {StageEvent.FINISH: Stage.FINISHED},  # nor tells it twice
    Stage.LATE: {StageEvent.FINISH: Stage.FINISHED},
    Stage.FINISHED: {},
}


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
        "_offset",
        "_sent",
        "_stage",
        "acknowledged",
        "acknowledged_offset",
        "consumes",
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
        self._stage = Stage.LATE if log.exit_acknowledged else Stage.READING
        # What waits for an acknowledgement: sequence number, bytes, and the offset after it.
        self._sent = _NOTHING
        watch.share.take()

    def resume(self, absent: Absent) -> None:
        """Go on where the same client's watch was before papad, or the bus, went away."""
        self.acknowledged, self.acknowledged_offset = absent.acknowledged, absent.acknowledged_offset
        self.next_seq, self._offset = self.acknowledged + 1, self.acknowledged_offset

    def _happen(self, event: StageEvent) -> None:
        self._stage = follow(STAGE, self._stage, event)

    @property
    def late(self) -> bool:
        """Return whether it came after the process's end was acknowledged, and has not read all yet."""
        return self._stage is Stage.LATE

    @property
    def finished(self) -> bool:
        """Return whether everything has been read that it is there for."""
        return self._stage is Stage.FINISHED

    @property
    def present(self) -> bool:
        """Return whether somebody reads by it."""
        return True

    def wake(self) -> None:
        """Note that the log has got something new."""
        self.watch.mark_ready(self)

    def has_more(self) -> bool:
        """Return whether there is something that has not been sent."""
        return self.next_seq <= self.log.records.last_seq

    def take(self, room: int, at_least_one: bool) -> tuple[list[UnreadEvent], int]:
        """Return the next events, of at most ``room`` bytes of payload (or one record), and that payload's size."""
        events: list[UnreadEvent] = []
        self._take_gap(events)
        if not self.has_more():
            return events, 0
        piece, exit_ = self.log.find(self.next_seq, room, at_least_one)
        size = 0
        if piece is not None:
            events.append(Unread(self.name, piece))
            size = piece.size
            for _, _, end in piece.spans:
                self._note_sent(self.next_seq, end - self._offset, end)
                self.next_seq += 1
                self._offset = end
        if exit_ is not None and self.next_seq == exit_.seq:
            self._take_exit(events, exit_)
        return events, size

    def _take_gap(self, events: list[UnreadEvent]) -> None:
        """Say what has left the log unsent. The process's end never leaves it so."""
        first, exit_ = self.log.records.first_seq, self.log.exit
        if self.next_seq >= first:
            return
        if exit_ is not None and self._stage is Stage.READING and self.next_seq <= exit_.seq < first:
            self._drop_to(events, exit_.seq, exit_.offset)
            self._take_exit(events, exit_)
        self._drop_to(events, first, self.log.records.first_offset)

    def _drop_to(self, events: list[UnreadEvent], seq: int, offset: int) -> None:
        if self.next_seq < seq:
            events.append(Dropped(self.name, self.next_seq, seq - 1, offset - self._offset))
            self._note_sent(seq - 1, 0, offset)
            self.next_seq = seq
        self._offset = offset

    def _take_exit(self, events: list[UnreadEvent], exit_: Exit) -> None:
        known = exit_.code is not None
        events.append(Exited(self.name, exit_.seq, exit_.timestamp, exit_.code or 0, known))
        self._note_sent(exit_.seq, 0, exit_.offset)
        self._happen(StageEvent.SEND_END)
        self.next_seq = exit_.seq + 1

    def _note_sent(self, seq: int, size: int, offset: int) -> None:
        if self._sent is _NOTHING:
            self._sent = deque()
        self._sent.append((seq, size, offset))

    def check_sent(self, seq: int) -> None:
        """Raise InvalidArgs if a consumer cannot have dealt with this number yet."""
        if self.consumes and seq >= self.next_seq:
            raise InvalidArgs(
                f"process '{self.name}': {seq} cannot be acknowledged, the last that was sent is {self.next_seq - 1}"
            )

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

    def leave(self, away: bool = False) -> None:
        """Read no more. ``away``: what other consumers acknowledge is kept until its client comes back."""
        if self.consumes and self.finished:
            self.log.leave_read(self)
        elif self.consumes and away:
            self.log.leave_behind(self)
        self.log.detach(self)

    @property
    def in_flight(self) -> int:
        """Return how many bytes were sent and not acknowledged."""
        return sum(size for _, size, _ in self._sent)

    @property
    def unacknowledged(self) -> int:
        """Return how many records were sent and not acknowledged."""
        return len(self._sent)

    @property
    def position(self) -> Position:
        """Return where it stands. What is in flight is one piece there: acknowledged all at once or not at all."""
        return Position(
            self.acknowledged,
            self.acknowledged_offset,
            self.next_seq,
            self._offset,
            self.in_flight,
            self._stage in (Stage.END_SENT, Stage.LATE),
            self._stage is Stage.LATE,
        )

    @position.setter
    def position(self, to: Position) -> None:
        self.acknowledged, self.acknowledged_offset = to.acknowledged, to.acknowledged_offset
        self.next_seq, self._offset = to.next_seq, to.offset
        self._stage = Stage.LATE if to.late else Stage.END_SENT if to.exit_sent else Stage.READING
        if to.acknowledged < to.next_seq - 1:
            self._note_sent(to.next_seq - 1, to.in_flight, to.offset)

    def look_for_the_end(self) -> None:
        """Note whether everything has been read that this cursor is there for."""
        if self._has_read_all():
            self._happen(StageEvent.FINISH)

    def _has_read_all(self) -> bool:
        match self._stage:
            case Stage.LATE:
                nothing_waits = not self.has_more() and not (self.consumes and self._sent)
                return self.removed or (self.log.completed and nothing_waits)
            case Stage.END_SENT if self.log.exit is not None:
                # An observer holds nothing back, so it need not acknowledge the end either.
                return self.acknowledged >= self.log.exit.seq or not self.consumes
        return False

    @property
    def removed(self) -> bool:
        """Return whether its process was removed. One that came after the end is told nothing more then."""
        return not self.log.capacity
