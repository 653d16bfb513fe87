"""Output put together into whole lines, so that each can be stamped as one. No I/O.

What has come of a line is kept until the rest comes, or somebody asks for it after a pause; how many of the events that
makes is told, since they may not be acknowledged yet, and how much of those has been given out all the same.
"""

import time
from collections import Counter, deque
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from papa_dbus.text import whole_characters

#: Bytes that are kept for the end of a line; more is passed on in pieces.
MAX_KEPT = 64 * 1024
#: Seconds for the end of a line that has begun; then `LineAssembler.pass_on` gives out what has come of it.
PAUSE: Final = 0.5
_BOTH: Final = ("out", "err")


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines, or a part of one. ``timestamp`` is the one of the first byte's writing, of the whole line's.

    ``continued``: the beginning of its first line was given out before.
    """

    stream: str
    timestamp: float
    data: bytes
    continued: bool = False


class _Chunk(NamedTuple):
    """Part of a line without an end."""

    event: int  # the number of the event that brought it
    before: int  # bytes that had come, of both streams, before it
    came: float  # by time.monotonic()
    data: bytes


@dataclass(slots=True)
class _Begun:
    """A line without an end: its chunks that have not been given out."""

    timestamp: float
    chunks: list[_Chunk] = field(default_factory=list)
    continued: bool = False  # its beginning has been given out

    @property
    def data(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    def keep_last(self, size: int) -> None:
        """Keep the last bytes only."""
        kept: list[_Chunk] = []
        for chunk in reversed(self.chunks):
            if not size:
                break
            part = chunk.data[-size:]
            before = chunk.before + len(chunk.data) - len(part)
            kept.insert(0, chunk._replace(before=before, came=time.monotonic(), data=part))
            size -= len(part)
        self.chunks = kept


class LineAssembler:
    """Takes pieces in order and gives whole lines.

    ``passed``: of the first bytes of each stream, how many another assembler has given out. ``begun``: the timestamps
    of the lines of which it has given out the beginning alone, by stream.
    """

    def __init__(self, passed: Mapping[str, int] | None = None, begun: Mapping[str, float] | None = None) -> None:
        self._skip = Counter(passed or {})
        self._kept: deque[tuple[str, int]] = deque()  # of the last events: stream and bytes
        self._begun = {stream: _Begun(timestamp, continued=True) for stream, timestamp in (begun or {}).items()}
        self._events = 0
        self._bytes = 0

    def take(self, stream: str, timestamp: float, data: bytes) -> list[Piece]:
        """Take the next event; return what has become whole with it."""
        size = len(data)
        skipped = min(size, self._skip[stream])
        self._skip[stream] -= skipped
        pieces = self._take(stream, timestamp, data[skipped:])
        self._keep(stream, size)
        return pieces

    def _take(self, stream: str, timestamp: float, data: bytes) -> list[Piece]:
        number, before = self._events, self._bytes
        self._events += 1
        self._bytes += len(data)
        pieces = []
        end = 0
        if (begun := self._begun.get(stream)) is not None and (end := data.find(b"\n") + 1):
            pieces.append(Piece(stream, begun.timestamp, begun.data + data[:end], begun.continued))
            del self._begun[stream]
        if (last := data.rfind(b"\n") + 1) > end:
            pieces.append(Piece(stream, timestamp, data[end:last]))
            end = last
        if left := data[end:]:
            line = self._begun.setdefault(stream, _Begun(timestamp))
            line.chunks.append(_Chunk(number, before + end, time.monotonic(), left))
        return pieces + self._too_long()

    def _too_long(self) -> list[Piece]:
        """Lines whose end is waited for no more: so much cannot stay unacknowledged."""
        return [
            self._give_begun(stream, begun)
            for stream, begun in self._begun.items()
            if begun.chunks and self._bytes - begun.chunks[0].before > MAX_KEPT
        ]

    def due(self, streams: Container[str] = _BOTH) -> float | None:
        """Return when `pass_on` will have something to give out, by time.monotonic(); None: no line waits."""
        return min((at for _, _, at in self._waiting(streams)), default=None)

    def pass_on(self, now: float, streams: Container[str] = _BOTH) -> list[Piece]:
        """Give out what has come of these streams' lines without an end, if the first of it has waited for so long."""
        return [self._give_begun(stream, begun) for stream, begun, at in self._waiting(streams) if at <= now]

    def _waiting(self, streams: Container[str]) -> Iterator[tuple[str, _Begun, float]]:
        for stream, begun in self._begun.items():
            if begun.chunks and stream in streams:
                yield stream, begun, begun.chunks[0].came + PAUSE

    def _give_begun(self, stream: str, begun: _Begun) -> Piece:
        """Give out what has come of a line: up to a character's end, if there is more than that character."""
        data = begun.data
        size = whole_characters(data) or len(data)
        piece = Piece(stream, begun.timestamp, data[:size], begun.continued)
        begun.keep_last(len(data) - size)
        begun.continued = True
        return piece

    def lose(self) -> None:
        """Count an event that says that older output is lost: what was given out of it does not come again."""
        self._events += 1
        self._skip.clear()
        self._keep("", 0)

    def _keep(self, stream: str, size: int) -> None:
        self._kept.append((stream, size))
        self._let_go()

    def _let_go(self) -> None:
        while len(self._kept) > self.kept:
            self._kept.popleft()

    @property
    def passed(self) -> dict[str, int]:
        """Bytes of each stream that have been given out, of the events that are not to be acknowledged yet."""
        self._let_go()
        passed: Counter[str] = Counter()
        for stream, size in self._kept:
            passed[stream] += size
        for stream, begun in self._begun.items():
            passed[stream] -= len(begun.data)
        return dict(+passed)

    @property
    def begun(self) -> dict[str, float]:
        """The timestamps of the lines of which only the beginning has been given out, by stream."""
        return {stream: begun.timestamp for stream, begun in self._begun.items() if begun.continued}

    @property
    def kept(self) -> int:
        """Return how many of the last events are not to be acknowledged yet."""
        return self._events - min(
            (begun.chunks[0].event for begun in self._begun.values() if begun.chunks), default=self._events
        )

    def rest(self) -> list[Piece]:
        """Return what is left of lines that have no end, because the process has ended."""
        left, self._begun = self._begun, {}
        self._kept.clear()
        return [
            Piece(stream, begun.timestamp, begun.data, begun.continued)
            for stream, begun in left.items()
            if begun.chunks
        ]
