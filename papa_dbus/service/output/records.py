"""The records of a log, as far as they are known without their bytes: two arrays, the time of each and its end.

files.py keeps the same in a file, from which recover() makes them anew.
"""

import os
from array import array
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from papa_dbus.service import limits
from papa_dbus.service.output.files import Header, pages_stay

Stream = Literal["out", "err"]

#: Records read at a time: what a front end can put into one message without making others wait.
MAX_BATCH = 512

#: In the order of the numbers that they have in an index.
KINDS: tuple[Stream, Stream] = ("out", "err")
#: The number of what is no output, but the process's end.
EXIT = 2


class Record(NamedTuple):
    """One piece of output: ``timestamp`` in µs of CLOCK_REALTIME, when papad read it."""

    seq: int
    timestamp: int
    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records, and where their bytes are: at ``begin`` in a file. ``spans``: time, stream and end of each."""

    file: int
    begin: int
    first_seq: int
    spans: list[tuple[int, Stream, int]]
    data: bytes | None = None  # their bytes, where they have been read

    @property
    def size(self) -> int:
        """Return how many bytes they have."""
        return self.spans[-1][2] - self.begin

    @property
    def pages_stay(self) -> bool:
        """Return whether a socket may get the file's own pages: they stay as they are when this leaves the log."""
        return self.data is None and pages_stay(self.file)

    def table(self) -> list[tuple[int, int, int]]:
        """Return each record's time, bytes, and its stream's place in KINDS."""
        table, begin = [], self.begin
        for timestamp, stream, end in self.spans:
            table.append((timestamp, end - begin, KINDS.index(stream)))
            begin = end
        return table

    def payload(self) -> bytes:
        """Return their bytes."""
        return os.pread(self.file, self.size, self.begin) if self.data is None else self.data

    def read(self) -> list[Record]:
        """Return them with the bytes of each."""
        payload, at = self.payload(), 0
        records: list[Record] = []
        for number, (timestamp, stream, end) in enumerate(self.spans, self.first_seq):
            records.append(Record(number, timestamp, stream, payload[at : end - self.begin]))
            at = end - self.begin
        return records


@dataclass(frozen=True, slots=True)
class Exit:
    """The process's end, numbered like a record. ``code`` None: nobody saw it."""

    seq: int
    timestamp: int
    code: int | None
    offset: int


class Records:
    """Those that are still there, the process's end among them. Offsets count in the process's whole output."""

    __slots__ = ("_base", "_ends", "_head", "_times", "first_offset", "written")

    def __init__(self, first_seq: int = 1, first_offset: int = 0) -> None:
        self._times = array("Q")
        self._ends = array("Q")  # offset of the record's end, times four, plus its kind
        self._base = first_seq  # the sequence number of the arrays' first place
        self._head = 0  # the place of the first record that is still there
        self.first_offset = first_offset  # at which that record begins
        self.written = first_offset  # bytes of payload that have come in all

    @classmethod
    def recover(cls, header: Header, entries: list[tuple[int, int, int]], size: int) -> Self:
        """Make those anew that another papad has left: time, beginning and kind of each, and the bytes in all.

        Raises ValueError if they make no sense.
        """
        if entries and entries[-1][2] != EXIT and entries[-1][1] >= size:
            entries.pop()  # announced, and papad was killed before anything came
        records = cls(header.first_seq, header.first_offset)
        for place, (timestamp, begin, kind) in enumerate(entries):
            if kind == EXIT and not header.exit_seq:
                break  # its code was not noted any more; the pidfd tells it again, and the end is noted anew
            following = entries[place + 1 : place + 2]
            end = following[0][1] if following else size
            if not header.first_offset <= begin <= end or kind > EXIT:
                raise ValueError(f"the index's entry {header.first_seq + place} makes no sense")
            records._times.append(timestamp)
            records._ends.append(end << 2 | kind)
        records.written = size
        return records

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ends) - self._head

    @property
    def first_seq(self) -> int:
        """Return the oldest that is there, or the next that will be."""
        return self._base + self._head

    @property
    def last_seq(self) -> int:
        """Return the newest one's number, 0 if there was none yet."""
        return self._base + len(self._ends) - 1

    @property
    def last_time(self) -> int:
        """Return when the newest one was read, in µs; 0 if there is none."""
        return self._times[-1] if self._times else 0

    def append(self, timestamp: int, size: int, kind: int) -> None:
        """Add one of so many bytes."""
        self.written += size
        self._times.append(timestamp)
        self._ends.append(self.written << 2 | kind)

    def end_of(self, seq: int) -> int:
        """Return the offset at which one ends that is there."""
        return self._ends[seq - self._base] >> 2

    def offset_of(self, seq: int) -> int:
        """Return the offset at which one begins that is there, or the next that will be."""
        place = seq - self._base
        return self._ends[place - 1] >> 2 if place > self._head else self.first_offset

    def stream_of(self, seq: int) -> Stream | None:
        """Return the stream of one that is there; None: it is the process's end."""
        kind = self._ends[seq - self._base] & 3
        return None if kind == EXIT else KINDS[kind]

    def surplus(self, capacity: int) -> int | None:
        """Return the last of those that are too many for so many bytes, or for their bound; None if none is."""
        if self.written - self.first_offset <= capacity and len(self) <= limits.MAX_RECORDS:
            return None
        place = self._head
        while self.written - (self._ends[place] >> 2) > capacity:
            place += 1
        return self._base + max(place, len(self._ends) - 1 - limits.MAX_RECORDS)

    def release_through(self, seq: int) -> None:
        """Forget everything up to one."""
        place = min(seq - self._base, len(self._ends) - 1)
        if place >= self._head:
            self.first_offset = self._ends[place] >> 2
            self._head = place + 1
        if self._head > 1024 and self._head * 2 > len(self._ends):
            del self._times[: self._head], self._ends[: self._head]
            self._base += self._head
            self._head = 0

    def spans(self, seq: int, room: int, at_least_one: bool) -> tuple[list[tuple[int, Stream, int]], bool]:
        """Find what can be read together, from ``seq`` on: at most ``room`` bytes, or one record.

        Returns the time, stream and end of each, and whether the process's end follows at once.
        """
        place, begin = seq - self._base, self.offset_of(seq)
        spans: list[tuple[int, Stream, int]] = []
        for each in range(place, min(len(self._ends), place + MAX_BATCH)):
            end, kind = self._ends[each] >> 2, self._ends[each] & 3
            if kind == EXIT:
                return spans, True
            if end - begin > room and (spans or not at_least_one):
                break
            spans.append((self._times[each], KINDS[kind], end))
        return spans, False
