"""What a watch sends, and what it costs on its way: output, losses and ends."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from papa_dbus.service.output.records import Piece, Record

#: Bytes that a record takes on its way beside its payload, about.
RECORD_COST: Final = 64
#: And an event, with its process's name and the client's.
EVENT_COST: Final = 512


@dataclass(frozen=True, slots=True)
class Output:
    """Records of one process, in order."""

    process: str
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Unread:
    """Records of one process, in order, whose bytes are in the log only, until something leaves it."""

    process: str
    piece: Piece

    def read(self) -> Output:
        """Return them with their bytes."""
        return Output(self.process, self.piece.read())


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
UnreadEvent = Unread | Dropped | Exited


def kept(events: Iterable[UnreadEvent]) -> list[UnreadEvent]:
    """Return the same with their bytes, whatever becomes of the log."""
    return [
        Unread(event.process, replace(event.piece, data=event.piece.payload())) if isinstance(event, Unread) else event
        for event in events
    ]


def size_of(event: Event | UnreadEvent) -> int:
    """Return how many bytes of payload are in an event; 1 if it is not output."""
    if isinstance(event, Unread):
        return event.piece.size
    return sum(len(record.data) for record in event.records) if isinstance(event, Output) else 1


def cost_of(event: Event) -> int:
    """Return about the bytes that an event takes on its way: not less than it does on the bus."""
    records = event.records if isinstance(event, Output) else []
    return EVENT_COST + sum(len(record.data) + RECORD_COST for record in records)
