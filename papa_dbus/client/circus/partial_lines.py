"""Lines without an end yet in a watcher's files: passed on as they come, and stamped once.

Circus's file streams stamp and end whatever they are given. So a part of a line is written to them as it is to be in
the file: a stamp before the first part, no end after it, nothing before the others. Which process's line is open in a
file is known here.
"""

import contextlib
import mmap
import os
from collections.abc import Iterator
from typing import Any

from papa_dbus.client.line_assembler import Piece

#: Whose line is open in a file: a process and its stream. None: the file ends with a whole line.
_Owner = tuple["OpenLines", str] | None
_open_lines: dict[str, _Owner] = {}  # by file; of files that this circusd has written to
#: The files that ended with a part of a line when this circusd began.
_left: set[str] = set()


class OpenLines:
    """Those of one process."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def write(self, stream: Any, name: str, piece: Piece, *, last: bool) -> None:
        """Give a stream a piece of output. Raises whatever the stream does."""
        whole = piece.data.endswith(b"\n")
        said = {"data": piece.data, "pid": self._process.pid, "name": name, "timestamp": piece.timestamp}
        if getattr(stream, "_time_format", None) is None:
            if piece.data:
                stream(said if whole or last else said | {"begun": True})
            return
        file = stream._filename
        self._find_owner(stream, file, piece)
        if whole and not _is_open(file):
            stream(said)
            return
        if not piece.data and _open_lines[file] != (self, piece.stream):
            return  # somebody else's line has ended this one
        data = self._continued(stream, file, piece)
        if last and not data.endswith(b"\n"):
            data += b"\n"
        with _unstamped(stream):
            stream(said | {"data": data, "begun": not data.endswith(b"\n")})
        _open_lines[file] = None if data.endswith(b"\n") else (self, piece.stream)
        _left.discard(file)

    def _find_owner(self, stream: Any, file: str, piece: Piece) -> None:
        """Find out what the last circusd has left in a file, and whether that is a part of this line."""
        if file not in _open_lines:
            _open_lines[file] = None
            if not _ends_whole(stream):
                _left.add(file)
        if piece.continued and file in _left and _begins_last_line(stream, self._stamp(stream, piece)):
            _left.remove(file)
            _open_lines[file] = self, piece.stream

    def _stamp(self, stream: Any, piece: Piece) -> bytes:
        """Return what Circus puts before each line."""
        time = stream.fromtimestamp(piece.timestamp).strftime(stream._time_format)
        return f"{time} [{self._process.pid}] | ".encode()

    def _continued(self, stream: Any, file: str, piece: Piece) -> bytes:
        """Return what is to be written, with its stamps."""
        data, before = piece.data, b""
        if _open_lines[file] == (self, piece.stream):
            head, end, data = data.partition(b"\n")
            before = head + end
        elif data and _is_open(file):
            before = b"\n"  # another's line
        if not data:
            return before
        stamp = self._stamp(stream, piece)
        end = b"\n" if data.endswith(b"\n") else b""
        return before + stamp + data.removesuffix(b"\n").replace(b"\n", b"\n" + stamp) + end


def _is_open(file: str) -> bool:
    return _open_lines[file] is not None or file in _left


@contextlib.contextmanager
def _unstamped(stream: Any) -> Iterator[None]:
    """Have a file stream write what it is given."""
    stamp, stream._time_format = stream._time_format, None
    try:
        yield
    finally:
        stream._time_format = stamp


def _ends_whole(stream: Any) -> bool:
    """Return whether a file stream's file ends with a whole line, or is empty."""
    try:
        descriptor = stream._file.fileno()
        size = os.fstat(descriptor).st_size
        return not size or os.pread(descriptor, 1, size - 1) == b"\n"
    except (AttributeError, OSError, ValueError):
        return True


def _begins_last_line(stream: Any, text: bytes) -> bool:
    """Return whether the last line of a file begins so."""
    try:
        with mmap.mmap(stream._file.fileno(), 0, prot=mmap.PROT_READ) as content:
            begin = content.rfind(b"\n") + 1
            return content[begin : begin + len(text)] == text
    except (AttributeError, OSError, ValueError):
        return False
