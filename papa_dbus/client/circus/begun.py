"""Partial lines in a watcher's streams: passed on as they come, and stamped once.

Circus's file streams stamp and end whatever they are given. So a part of a line is written to them as it is to be in
the file: a stamp before the first part, no end after it, nothing before the others. Whose line is open in a file is
known here, and which of a process's are in Papa, for the next circusd.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from papa_dbus.client import papa
from papa_dbus.client.lines import Piece

#: By file: the process and its stream whose line has no end yet.
_open_lines: dict[str, tuple["BegunLines", str]] = {}


class BegunLines:
    """Those of one process. ``recall``: it was there before this circusd."""

    def __init__(self, process: Any, *, recall: bool) -> None:
        self._process = process
        said = process.kernel.get(self._value) if recall else None
        self._begun = set((said or "").split())  # as Papa has it
        self._recalled = set(self._begun)

    @property
    def _value(self) -> str:
        return f"{self._process.papa_name}.begun"

    def write(self, stream: Any, name: str, piece: Piece, *, last: bool) -> None:
        """Give a stream a piece of output. Raises whatever the stream does."""
        whole = piece.data.endswith(b"\n")
        said = {"data": piece.data, "pid": self._process.pid, "name": name, "timestamp": piece.timestamp}
        if getattr(stream, "_time_format", None) is None:
            if piece.data:
                stream(said if whole or last else said | {"begun": True})
            return
        file = stream._filename
        self._take_over(stream, file, piece.stream)
        if whole and file not in _open_lines:
            stream(said)
            self._note(file, piece.stream, begun=False)
            return
        if not piece.data and _open_lines.get(file) != (self, piece.stream):
            return  # somebody else's line has ended this one
        data = self._continued(stream, file, piece)
        if last and not data.endswith(b"\n"):
            data += b"\n"
        with _unstamped(stream):
            stream(said | {"data": data, "begun": not data.endswith(b"\n")})
        self._note(file, piece.stream, begun=not data.endswith(b"\n"))

    def end(self, rest: list[Piece], timestamp: float) -> list[Piece]:
        """Return the last pieces of a process that has ended: what is left, and ends for lines that have none."""
        streams = {piece.stream for piece in rest}
        return rest + [Piece(stream, timestamp, b"") for stream in sorted(self._begun - streams)]

    def forget(self) -> None:
        """The process has ended."""
        if self._begun:
            self._begun.clear()
            self._remember()

    def _take_over(self, stream: Any, file: str, name: str) -> None:
        """A line that the last circusd has begun in this file goes on there, if nobody has ended it."""
        if name in self._recalled:
            self._recalled.discard(name)
            if file not in _open_lines and not _ends_whole(stream):
                _open_lines[file] = self, name

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

    def _note(self, file: str, name: str, *, begun: bool) -> None:
        if begun:
            _open_lines[file] = self, name
        else:
            _open_lines.pop(file, None)
        if begun != (name in self._begun):
            self._begun ^= {name}
            self._remember()

    def _remember(self) -> None:
        with contextlib.suppress(papa.Error):  # at worst the rest of the line is stamped as well
            self._process.kernel.set(self._value, " ".join(sorted(self._begun)) or None)


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
