"""One process's output on its way to the journal, line by line: a reader of its log that holds nothing back.

What has left the log before the journal took it is left out there, and the journal says how much that was. How far it
has come is noted in the log's own file after each entry: another papad goes on there.
"""

import enum
import os
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from papa_dbus.service import limits
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.fork.exit_status import how_ended
from papa_dbus.service.output.files import JournalPosition
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.records import KINDS, Exit, Record, Stream

#: Lines without an end that have left the log: stream, the first piece's sequence number and time, and the text.
LastWords = tuple[tuple[str, int, int, str], ...]
Fields = list[tuple[str, str | bytes]]
#: Writes an entry; false: the journal does not take it now.
Send = Callable[[Fields], bool]

# As systemd has it for a service's lines, of stdout and stderr alike: facility daemon, level info, and another level
# where the line begins with <N> (SyslogFacility=, SyslogLevel=, SyslogLevelPrefix= in systemd.exec(5); sd-daemon(3)).
_FACILITY: Final = "3"
_INFO, _NOTICE, _WARNING = "6", "5", "4"
_LEVEL = re.compile(rb"<([0-7])>")
_LONGEST_REST = 3  # bytes of a character after its first one (UTF-8)
_READ = 4096  # bytes of records that are read at a time: about what a turn writes
#: By this field `journalctl -u` and `systemctl status` find what is said of a unit: of root's, and of a user's own.
UNIT_FIELD: Final = "USER_UNIT" if os.geteuid() else "OBJECT_SYSTEMD_UNIT"


class Progress(enum.Enum):
    """How a turn came out."""

    TO_THE_END = enum.auto()
    SO_FAR = enum.auto()  # there is more to be written
    NO_FURTHER = enum.auto()  # the journal is full


class _Begun(NamedTuple):
    """What has come of a line that has no end yet; the number and the time are its first piece's."""

    seq: int
    timestamp: int
    data: bytes


class Forwarder:
    """One process's way to the journal. It begins where the log's files say that an earlier one has come to.

    ``last_words`` are those that the earlier one had in hand when its process had gone.
    """

    def __init__(
        self, name: str, pid: int, unit: str | None, log: OutputLog, last_words: LastWords = (), key: int = 0
    ) -> None:
        self.key = key
        self.name = name
        self.gone = False
        self.paused = False
        self.interval_begins = 0.0
        self.entries = 0  # since then
        self._pid = pid
        self._unit = unit
        self._log = log
        self._loss_told = float("-inf")
        position, records = log.files.read_journal_position(), log.records
        if min(position) < 0 or position.next_seq > records.last_seq + 1 or position.offset > log.written:  # damaged
            position = JournalPosition(records.first_seq, records.first_offset)
        self._next = position.next_seq
        self._offset = position.offset
        self._left_out = position.left_out
        self._within = 0  # bytes of the next record that have been passed on
        if records.first_seq <= self._next <= records.last_seq:
            self._within = max(0, self._offset - records.offset_of(self._next))
        self._torn: set[Stream] = set()  # the next line's beginning may have been left out
        self._begun: dict[Stream, _Begun] = {}
        self._recover_begun(log, "out", position.begun_out, last_words)
        self._recover_begun(log, "err", position.begun_err, last_words)

    def _recover_begun(self, log: OutputLog, stream: Stream, size: int, last_words: LastWords) -> None:
        """Put together again what had come of a line: the stream's last bytes before the next record."""
        for of, seq, timestamp, text in last_words:
            if of == stream and len(text) == size:
                self._begun[stream] = _Begun(seq, timestamp, text.encode("latin-1", "replace"))
                return
        pieces: list[Record] = []
        seq = min(self._next, log.records.last_seq + 1) - 1
        missing = size
        while missing > 0 and seq >= log.records.first_seq:
            if log.records.stream_of(seq) == stream:
                pieces[:0] = log.read(seq, 0, at_least_one=True)[0]
                missing -= len(pieces[0].data)
            seq -= 1
        if pieces:
            data = b"".join(piece.data for piece in pieces)[-size:]
            self._begun[stream] = _Begun(pieces[0].seq, pieces[0].timestamp, data)
        self._left_out += max(0, missing)

    @property
    def over(self) -> bool:
        """Return whether its process has gone, and there is nothing left to be said."""
        return self.gone and self._next > self._log.records.last_seq and not self._begun and not self._left_out

    def leave(self) -> LastWords:
        """Expect nothing more; returns what it has in hand that the log no longer has."""
        self.gone = True
        return tuple(
            (stream, begun.seq, begun.timestamp, begun.data.decode("latin-1")) for stream, begun in self._begun.items()
        )

    def detach(self) -> None:
        """Hear of nothing more."""
        self._log.listener = None

    def finish(self, send: Send) -> None:
        """Write, at papad's end, what has come of a line if the log no longer has it for the next papad."""
        for fields in self._rest("restart", first_seq=self._log.records.first_seq):
            if not send(fields):
                break

    def turn(self, send: Send, most: int, now: float) -> Progress:
        """Write ``most`` entries at most; ``now`` is the loop's time."""
        for fields in self._pending(now):
            if not most:
                return Progress.SO_FAR
            if not send(fields):
                return Progress.NO_FURTHER
            crash_point("journal entry written")
            most -= 1
            self.entries += 1
        return Progress.TO_THE_END

    # ------------------------------------------------- what is to be written
    # Each of these goes on past a yield only once the entry has been written: what it notes then is so.

    def _pending(self, now: float) -> Iterator[Fields]:
        log = self._log
        yield from self._gap(log, now)
        if now - self._loss_told >= limits.JOURNAL_LOSS_INTERVAL:
            yield from self._loss(now)
        while self._next <= log.records.last_seq:
            records, exit_ = log.read(self._next, _READ, at_least_one=True)
            for record in records:
                yield from self._lines(record)
            if exit_ is not None and exit_.seq == self._next:
                yield from self._last_words(exit_, now)
        if log.completed or self.gone:
            yield from self._rest("eof")
        yield from self._loss(now)

    def _gap(self, log: OutputLog, now: float) -> Iterator[Fields]:
        """Go over what has left the log; the process's end never leaves it unsaid."""
        first = log.records.first_seq
        if self._next >= first:
            return
        yield from self._rest("gap" if log.records.first_offset > self._offset else "eof")
        if (exit_ := log.exit) is not None and self._next <= exit_.seq < first:
            self._go_to(exit_.seq, exit_.offset)
            yield from self._last_words(exit_, now)
        self._go_to(first, log.records.first_offset)

    def _go_to(self, seq: int, offset: int) -> None:
        if offset > self._offset:
            self._left_out += offset - self._offset
            self._torn |= set(KINDS)
        self._next, self._within, self._offset = seq, 0, max(offset, self._offset)
        self._note()

    def _lines(self, record: Record) -> Iterator[Fields]:
        data, stream = record.data, record.stream
        while self._within < len(data):
            at = self._within
            begun = self._begun.get(stream, _Begun(record.seq, record.timestamp, b""))
            most = _end_of_character(data, at, at + limits.JOURNAL_LINE - len(begun.data))
            end = data.find(b"\n", at, most + 1)
            if end < 0 and len(data) <= most:
                self._begun[stream] = begun._replace(data=begun.data + data[at:])
                self._pass_on(len(data) - at)
            else:
                until = most if end < 0 else end
                whole = begun._replace(data=begun.data + data[at:until])
                yield self._line(stream, whole, "line-max" if end < 0 else None)
                self._begun.pop(stream, None)
                self._torn.discard(stream)
                self._pass_on(until - at + (end >= 0))
        self._next, self._within = record.seq + 1, 0
        self._note()

    def _pass_on(self, size: int) -> None:
        self._within += size
        self._offset += size
        self._note()

    def _rest(self, why: str, first_seq: float = float("inf")) -> Iterator[Fields]:
        """Give lines that have no end and will get none: those that begin before a number."""
        for stream, begun in list(self._begun.items()):
            if begun.seq < first_seq:
                yield self._line(stream, begun, why)
                del self._begun[stream]
                self._note()

    def _loss(self, now: float) -> Iterator[Fields]:
        if self._left_out:
            text = f"{self._left_out} bytes of output are not in the journal: more came than it takes"
            yield self._entry(text, _WARNING, ("PAPA_LEFT_OUT", str(self._left_out)))
            self._left_out = 0
            self._loss_told = now
            self._note()

    def _last_words(self, exit_: Exit, now: float) -> Iterator[Fields]:
        yield from self._rest("eof")
        yield from self._loss(now)
        yield self._end(exit_)
        self._next, self._within = exit_.seq + 1, 0
        self._note()

    def _note(self) -> None:
        out, err = (len(self._begun[stream].data) if stream in self._begun else 0 for stream in KINDS)
        self._log.files.write_journal_position(JournalPosition(self._next, self._offset, out, err, self._left_out))

    # ---------------------------------------------------------------- entries

    def _line(self, stream: Stream, line: _Begun, cut: str | None) -> Fields:
        if cut is None and stream in self._torn:
            cut = "after-gap"
        level = _LEVEL.match(line.data)
        fields = self._entry(
            line.data[level.end() :] if level else line.data,
            level[1].decode() if level else _INFO,
            ("PAPA_STREAM", stream),
            ("PAPA_SEQ", str(line.seq)),
            ("PAPA_TIMESTAMP", str(line.timestamp)),
        )
        if cut is not None:
            fields.append(("PAPA_LINE_BREAK", cut))
        return fields

    def _end(self, exit_: Exit) -> Fields:
        text, level = how_ended(exit_.code), _level(exit_.code)
        fields = self._entry(text, level, ("PAPA_SEQ", str(exit_.seq)), ("PAPA_TIMESTAMP", str(exit_.timestamp)))
        if exit_.code is not None:
            fields.append(("PAPA_EXIT_CODE", str(exit_.code)))
        return fields

    def _entry(self, message: str | bytes, level: str, *more: tuple[str, str]) -> Fields:
        fields: Fields = [
            ("MESSAGE", message),
            ("PRIORITY", level),
            ("SYSLOG_FACILITY", _FACILITY),
            ("SYSLOG_IDENTIFIER", self.name),
            ("SYSLOG_PID", str(self._pid)),
            ("PAPA_PROCESS", self.name),
            *more,
        ]
        if self._log.exit is None:
            fields.append(("OBJECT_PID", str(self._pid)))  # journald adds what it finds in /proc, where root asks
        if self._unit is not None:
            fields.append((UNIT_FIELD, self._unit))  # journald itself cannot tell once the process has ended
        return fields


def _end_of_character(data: bytes, first: int, most: int) -> int:
    """Return where to cut at or after ``most``, but not before ``first``: where a character of UTF-8 ends."""
    end = min(most + _LONGEST_REST, len(data))
    most = max(first, most)
    while most < end and 0x80 <= data[most] < 0xC0:
        most += 1
    return most


def _level(code: int | None) -> str:
    """Return the level of a process's end, as systemd has it for a unit's main process."""
    if code is not None and code < 0:
        return _WARNING
    return _INFO if code == 0 else _NOTICE
