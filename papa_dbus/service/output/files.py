"""The two memory files behind an output log, and how they are read again by a papad that did not write them.

``output`` holds the bytes, each at its offset in the process's whole output. ``index`` holds a header and an entry for
each record: its time, the offset at which it begins, its kind. An entry is written *before* its bytes are spliced in:
whatever instant papad is killed at, the file's length says how much there is, and the entry says what it is.
"""

import contextlib
import ctypes
import logging
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Self

log = logging.getLogger(__name__)

#: The names that the files have in /proc/PID/fd: by them they are told apart when they come back.
OUTPUT_NAME, INDEX_NAME = "papa-output", "papa-index"

_HEADER_BYTES = 128
_ENTRY = struct.Struct("=QQ")  # µs of CLOCK_REALTIME; offset of the beginning, times four, plus the kind
_PUNCH_BYTES = 32 * 1024  # pages are given back in pieces of this size at least: one system call for many records
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2  # linux/falloc.h
_SIZES = Path("/sys/kernel/mm/transparent_hugepage")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Header:
    """What must be known beside the records. Numbers and offsets count from the process's start."""

    first_seq: int = 1
    first_offset: int = 0
    acknowledged: int = 0
    acknowledged_offset: int = 0
    dropped: int = 0
    exit_seq: int = 0  # 0: it has not ended
    exit_time: int = 0
    exit_code: int = 0
    exit_known: int = 0
    exit_acknowledged: int = 0


class JournalPosition(NamedTuple):
    """How far the journal has come: the next record, and the offset up to which it has all.

    ``begun_out`` and ``begun_err``: bytes before that offset, the last of their stream, of a line without an end.
    ``left_out``: bytes that it will not get, and that it has not been told of.
    """

    next_seq: int = 1
    offset: int = 0
    begun_out: int = 0
    begun_err: int = 0
    left_out: int = 0


_HEADER = struct.Struct(f"={len(fields(Header))}q")
_POSITION = struct.Struct(f"={len(JournalPosition._fields)}q")
_POSITION_AT = _HEADER_BYTES - _POSITION.size
_header_values = attrgetter(*(field.name for field in fields(Header)))


class LogFiles:
    """The files of one log. They are open as long as the process is listed, and are closed with close()."""

    __slots__ = (
        "_punched",
        "_punched_index",
        "index",
        "output",
    )

    def __init__(self, output: int, index: int) -> None:
        self.output = output
        self.index = index
        self._punched = 0
        self._punched_index = 0

    @classmethod
    def create(cls) -> Self:
        """Empty files."""
        output = os.memfd_create(OUTPUT_NAME, os.MFD_CLOEXEC)
        try:
            files = cls(output, os.memfd_create(INDEX_NAME, os.MFD_CLOEXEC))
        except OSError:
            os.close(output)
            raise
        files.write_header(Header())
        return files

    def write_header(self, header: Header) -> None:
        """Note what has changed, in one system call."""
        os.pwrite(self.index, _HEADER.pack(*_header_values(header)), 0)

    def read_header(self) -> Header:
        """Return what was noted last. Raises ValueError if the file is damaged."""
        data = os.pread(self.index, _HEADER.size, 0)
        if len(data) < _HEADER.size:
            raise ValueError("the index has no header")
        header = Header(*_HEADER.unpack(data))
        if header.first_seq < 1 or min(header.first_offset, header.acknowledged, header.acknowledged_offset) < 0:
            raise ValueError("the index's header makes no sense")
        return header

    def write_journal_position(self, position: JournalPosition) -> None:
        """Note how far the journal has come."""
        os.pwrite(self.index, _POSITION.pack(*position), _POSITION_AT)

    def read_journal_position(self) -> JournalPosition:
        """Return what was noted last; the beginning, if nothing was."""
        data = os.pread(self.index, _POSITION.size, _POSITION_AT)
        position = JournalPosition(*_POSITION.unpack(data)) if len(data) == _POSITION.size else JournalPosition()
        return position if position.next_seq else JournalPosition()

    def write_entry(self, seq: int, timestamp: int, begin: int, kind: int) -> None:
        """Say what will be spliced in next, or that the process has ended."""
        os.pwrite(self.index, _ENTRY.pack(timestamp, begin << 2 | kind), _place(seq))

    def read_entries(self, first_seq: int) -> Iterator[tuple[int, int, int]]:
        """Give time, beginning and kind of each record from ``first_seq`` on."""
        end = os.fstat(self.index).st_size
        data = os.pread(self.index, max(0, end - _place(first_seq)), _place(first_seq))
        for timestamp, packed in _ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]):
            yield timestamp, packed >> 2, packed & 3

    def size(self) -> int:
        """Return how many bytes of output there were in all."""
        return os.fstat(self.output).st_size

    def skip(self, size: int) -> None:
        """Count bytes that could not be kept."""
        with contextlib.suppress(OSError):  # not even for nothing (EFBIG): then the header alone knows
            os.ftruncate(self.output, self.size() + size)

    def give_back(self, offset: int, seq: int, everything: bool = False) -> None:
        """Give back the memory of what lies before an offset, and of the entries before a sequence number."""
        offset -= offset % mmap.PAGESIZE  # a page's rest would be zeroed, and may be on its way in a socket
        if offset - self._punched >= (1 if everything else _PUNCH_BYTES):
            _punch(self.output, self._punched, offset)
            self._punched = offset
        before = _place(seq)
        if before - self._punched_index >= _PUNCH_BYTES:
            _punch(self.index, max(_HEADER_BYTES, self._punched_index), before)
            self._punched_index = before

    def close(self) -> None:
        """Let the files go."""
        os.close(self.output)
        os.close(self.index)


def pages_stay(output: int) -> bool:
    """Return whether pages that a socket got from a file stay as they are there, whatever is given back.

    Of a page larger than others Linux zeroes what is given back, for whoever has that page: transparent huge pages.
    """
    return os.fstat(output).st_blksize <= mmap.PAGESIZE and not _has_larger_pages(_SIZES)


@cache
def _has_larger_pages(sizes: Path) -> bool:
    """Return whether memory files get pages of a size that fstat(2) does not tell."""
    for setting in sizes.glob("hugepages-*/shmem_enabled"):
        with contextlib.suppress(OSError):
            if not {"[never]", "[inherit]", "[advise]"} & set(setting.read_text().split()):
                return True
    return False


def _place(seq: int) -> int:
    return _HEADER_BYTES + (seq - 1) * _ENTRY.size


def _punch(fd: int, begin: int, end: int) -> None:
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    if _libc.fallocate(fd, mode, ctypes.c_int64(begin), ctypes.c_int64(end - begin)):
        log.warning("cannot give memory of read output back: %s", os.strerror(ctypes.get_errno()))
