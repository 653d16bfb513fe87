"""Lines without an end yet in a watcher's files: passed on as they come, and stamped once.

Circus's file streams stamp and end whatever they are given. So a part of a line is written to them as it is to be in
the file: a stamp before the first part, no end after it, nothing before the others. Which process's line is open in a
file is known here.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from papa_dbus.client.line_assembler import Piece

#: By file: the process and its stream whose line has no end yet.
_open_lines: dict[str, tuple["OpenLines", str]] = {}


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
        if piece.continued and file not in _open_lines and not _ends_whole(stream):
            _open_lines[file] = self, piece.stream  # the last circusd has begun it
        if whole and file not in _open_lines:
            stream(said)
            return
        if not piece.data and _open_lines.get(file) != (self, piece.stream):
            return  # somebody else's line has ended this one
        data = self._continued(stream, file, piece)
        if last and not data.endswith(b"\n"):
            data += b"\n"
        with _unstamped(stream):
            stream(said | {"data": data, "begun": not data.endswith(b"\n")})
        if data.endswith(b"\n"):
            _open_lines.pop(file, None)
        else:
            _open_lines[file] = self, piece.stream

    def _continued(self, stream: Any, file: str, piece: Piece) -> bytes:
        """What is to be written, with its stamps."""
        data, before = piece.data, b""
        if file in _open_lines:
            if _open_lines[file] == (self, piece.stream):
                head, end, data = data.partition(b"\n")
                before = head + end
            elif data:
                before = b"\n"  # another's line is open there
        if not data:
            return before
        time = stream.fromtimestamp(piece.timestamp).strftime(stream._time_format)
        stamp = f"{time} [{self._process.pid}] | ".encode()
        end = b"\n" if data.endswith(b"\n") else b""
        return before + stamp + data.removesuffix(b"\n").replace(b"\n", b"\n" + stamp) + end


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
