"""A process's output log: its records that nobody has acknowledged yet, in a memory file.

The bytes go from the pipe to the file in one splice(2) and are read back only to be sent: the file is their only home.
A record's place in it is its offset in the process's whole output. records.py knows which there are; files.py keeps
the same in a file, from which recover() makes the log anew.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Self

from papa_dbus.service.clock import now
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.output.files import Header, LogFiles
from papa_dbus.service.output.readers import Absent, Reader
from papa_dbus.service.output.records import EXIT, KINDS, Exit, Piece, Record, Records, Stream

log = logging.getLogger(__name__)

#: Bytes read at a time: a pipe's usual capacity (pipe(7)), so that what was written whole is one record.
CHUNK = 65536


class OutputLog:
    """At most ``capacity`` bytes of payload, the oldest dropped first and counted.

    ``on_room`` is called when something has left a log that was full, ``on_shared`` when a consumer, which it is
    given, has come to a log that has several of them, or whose process is ``superseded`` by a namesake, and
    ``on_moved`` when one has acknowledged something there, or has gone.
    """

    __slots__ = (
        "_last",
        "_on_room",
        "_out_of_memory",
        "acknowledged",
        "acknowledged_offset",
        "capacity",
        "completed",
        "consumers",
        "dropped",
        "exit",
        "exit_acknowledged",
        "files",
        "listener",
        "on_moved",
        "on_shared",
        "readers",
        "records",
        "superseded",
    )

    def __init__(self, capacity: int, on_room: Callable[[], None], files: LogFiles) -> None:
        self.capacity = capacity
        self.files = files
        self.records = Records()
        self.dropped = 0
        self.exit: Exit | None = None
        self.exit_acknowledged = False
        self.completed = False
        self.readers: dict[Reader, None] = {}
        self.consumers: dict[Reader, None] = {}  # those of them that consume
        self.listener: Callable[[], None] | None = None  # reads along as well, and for it nothing is kept
        self.acknowledged = 0  # up to here; a watch that begins is told what was dropped after it
        self.acknowledged_offset = 0
        self.on_shared: Callable[[Reader], None] = lambda newcomer: None
        self.on_moved: Callable[[], None] = lambda: None
        self.superseded = False
        self._on_room = on_room
        self._last: Reader | None = None  # a consumer that holds back all that is there, as one of many does mostly
        self._out_of_memory = False  # of memory: what comes is lost

    @classmethod
    def recover(cls, capacity: int, on_room: Callable[[], None], files: LogFiles) -> Self:
        """Return the log that another papad has left in its files, complete to the last byte that was spliced in.

        Raises ValueError where the files are damaged.
        """
        log_ = cls(capacity, on_room, files)
        header = files.read_header()
        size = max(files.size(), header.first_offset)  # less, where the file could not even be made longer
        log_.dropped = header.dropped
        log_.acknowledged, log_.acknowledged_offset = header.acknowledged, header.acknowledged_offset
        log_.records = Records.recover(header, list(files.read_entries(header.first_seq)), size)
        if header.exit_seq:
            code = header.exit_code if header.exit_known else None
            offset = log_.records.offset_of(header.exit_seq) if header.exit_seq >= header.first_seq else 0
            log_.exit = Exit(header.exit_seq, header.exit_time, code, offset)
            log_.exit_acknowledged = bool(header.exit_acknowledged)
        return log_

    def complete(self) -> None:
        """Note that nothing will be written any more: all ends of its pipes are closed."""
        self.completed = True
        self._wake()

    def _wake(self) -> None:
        for reader in tuple(self.readers):  # one that has come to its end leaves
            reader.wake()
        if self.listener is not None:
            self.listener()

    @property
    def buffered(self) -> int:
        """Return how many bytes of payload wait for an acknowledgement."""
        return self.records.written - self.records.first_offset

    @property
    def written(self) -> int:
        """Return how many bytes of payload have come in all."""
        return self.records.written

    @property
    def has_present_consumers(self) -> bool:
        """Return whether the client of a consumer is there."""
        return any(reader.present for reader in self.consumers)

    def splice_from(self, pipe: int, stream: Stream, most: int = CHUNK) -> int | None:
        """Move what is in the pipe to the log as one record of at most ``most`` bytes.

        Returns its size, 0 at the end of the stream, None where nothing is there now.
        """
        if not self.capacity:
            return discard(pipe)
        most = min(most, CHUNK, self.capacity)
        timestamp, begin = now(), self.records.written
        try:
            self.files.write_entry(self.records.last_seq + 1, timestamp, begin, KINDS.index(stream))
            crash_point("record announced")
            size = os.splice(pipe, self.files.output, most, offset_dst=begin, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._fill_without_memory(pipe, stream, error)
        if size:
            crash_point("record spliced")
            self._out_of_memory = False
            self._append(stream, size, timestamp)
        return size

    def _fill_without_memory(self, pipe: int, stream: Stream, error: OSError) -> int | None:
        """Let the child go on where there is no memory for its output: lose it, and say so."""
        if not self._out_of_memory:  # once, not for each piece
            log.error("no room for output, what is written now is lost: %s", error.strerror)
        self._out_of_memory = True
        size = discard(pipe)
        if size:
            self.files.skip(size)
            self._append(stream, size, now())
            self._drop_through(self.records.last_seq)
        return size

    def _append(self, stream: Stream, size: int, timestamp: int) -> None:
        self.records.append(timestamp, size, KINDS.index(stream))
        if (surplus := self.records.surplus(self.capacity)) is not None:
            self._drop_through(surplus)
        self._wake()

    def end(self, code: int | None, timestamp: int) -> None:
        """Note the process's end, after its last output."""
        with contextlib.suppress(OSError):  # no room: the pidfd tells the next papad
            self.files.write_entry(self.records.last_seq + 1, timestamp, self.written, EXIT)
        self.records.append(timestamp, 0, EXIT)
        self.exit = Exit(self.records.last_seq, timestamp, code, self.written)
        crash_point("end announced")
        self._write_header()
        self._wake()

    def _drop_through(self, seq: int) -> None:
        self.dropped += self.records.end_of(seq) - self.records.first_offset
        self._release_through(seq)

    def _release_through(self, seq: int) -> None:
        """Let everything up to ``seq`` go, and give its memory back."""
        self.records.release_through(seq)
        self._write_header()
        self.files.give_back(self.records.first_offset, self.records.first_seq)

    def _write_header(self) -> None:
        first = self.records.first_seq, self.records.first_offset
        header = Header(*first, self.acknowledged, self.acknowledged_offset, self.dropped)
        if self.exit is not None:
            header.exit_seq, header.exit_time = self.exit.seq, self.exit.timestamp
            header.exit_code, header.exit_known = self.exit.code or 0, self.exit.code is not None
            header.exit_acknowledged = self.exit_acknowledged
        self.files.write_header(header)

    def find(self, seq: int, room: int, at_least_one: bool) -> tuple[Piece | None, Exit | None]:
        """Return the records from ``seq`` on, of at most ``room`` bytes together, and the end if it follows at once."""
        spans, ended = self.records.spans(seq, room, at_least_one)
        piece = Piece(self.files.output, self.records.offset_of(seq), seq, spans) if spans else None
        return piece, self.exit if ended else None

    def read(self, seq: int, room: int, at_least_one: bool) -> tuple[list[Record], Exit | None]:
        """Return the same with their bytes."""
        piece, exit_ = self.find(seq, room, at_least_one)
        return piece.read() if piece is not None else [], exit_

    def attach(self, reader: Reader) -> None:
        """Note that a watch begins to read."""
        self._add(reader)
        if reader.consumes and self._is_shared():
            self.on_shared(reader)

    def _add(self, reader: Reader) -> None:
        self.readers[reader] = None
        if reader.consumes:
            self.consumers[reader] = None

    def absent(self, who: str) -> list[Absent]:
        """Return the absent consumers of that client, first the one that has come least far."""
        found = [reader for reader in self.consumers if isinstance(reader, Absent) and reader.who == who]
        return sorted(found, key=lambda reader: reader.acknowledged)

    def leave_behind(self, reader: Reader) -> None:
        """Keep for a consumer, whose client will come back, what others may acknowledge meanwhile."""
        if self._is_shared():
            self._add(Absent(reader.who, reader.acknowledged, reader.acknowledged_offset))
            self.on_moved()

    def leave_read(self, reader: Reader) -> None:
        """Note how far one has come that has read all: it counts once those that are away are given up."""
        away = [each.acknowledged for each in self.consumers if not each.present]
        if away and max(away) < reader.acknowledged:
            # Nobody's: its client need not come back for anything.
            self._add(Absent("", reader.acknowledged, reader.acknowledged_offset))

    def _is_shared(self) -> bool:
        return self.superseded or len(self.consumers) > 1

    def detach(self, reader: Reader) -> None:
        """Note that a watch has read to the end, or ends: the others may have acknowledged more than it had."""
        del self.readers[reader]
        if reader.consumes:
            if self._is_shared():
                self.on_moved()
            del self.consumers[reader]
            if self._last is reader:
                self._last = None
            self._let_go()
        self._on_room()

    def consumed(self) -> None:
        """Let go what every consuming watch has acknowledged."""
        if self._is_shared():
            self.on_moved()
        self._let_go()

    def _let_go(self) -> None:
        if self._last in self.consumers and self._last.acknowledged <= self.acknowledged:
            return
        last: Reader | None = None
        for reader in self.consumers:
            if reader.acknowledged <= self.acknowledged:
                self._last = reader
                return
            if last is None or reader.acknowledged < last.acknowledged:
                last = reader
        if last is None:
            return
        self.acknowledged, self.acknowledged_offset = last.acknowledged, last.acknowledged_offset
        if self.exit is not None and self.acknowledged >= self.exit.seq:
            self.exit_acknowledged = True
        self._release_through(self.acknowledged)
        crash_point("acknowledged")
        self._on_room()

    def discard_all(self) -> None:
        """Drop everything and keep nothing from now on."""
        self.acknowledged, self.acknowledged_offset = self.records.last_seq, self.written
        self._release_through(self.records.last_seq)
        self.files.give_back(self.records.first_offset, self.records.first_seq, everything=True)
        self.capacity = 0
        self._wake()

    def resume(self, capacity: int) -> None:
        """Keep records again, after discard_all()."""
        self.capacity = capacity

    def close(self) -> None:
        """Give the memory back; nothing can be read any more."""
        self.capacity = 0
        self.files.close()


def discard(pipe: int) -> int | None:
    """Read what is in a pipe and keep nothing of it. Returns its size as splice_from() does."""
    try:
        return len(os.read(pipe, CHUNK))
    except BlockingIOError:
        return None
