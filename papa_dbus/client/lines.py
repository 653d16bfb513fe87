"""Output put together into whole lines, so that each can be stamped as one. No I/O.

What has come of a line is kept until the rest comes; how many of the events that makes is told, since they may not be
acknowledged yet, and how much of those has been given out all the same.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

#: Bytes that are kept for the end of a line; more is passed on in pieces.
MAX_KEPT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines, or the rest of one at the end; ``timestamp`` is the one of the first byte's writing."""

    stream: str
    timestamp: float
    data: bytes


@dataclass(slots=True)
class _Begun:
    timestamp: float
    data: bytes
    event: int  # the number of the event with its first byte
    before: int  # bytes that had come, of both streams, before it


class LineAssembler:
    """Takes pieces in order and gives whole lines.

    ``passed``: of the first bytes of each stream, how many another assembler has given out.
    """

    def __init__(self, passed: Mapping[str, int] | None = None) -> None:
        self._skip = Counter(passed or {})
        self._kept: deque[tuple[str, int]] = deque()  # of the last events: stream and bytes
        self._begun: dict[str, _Begun] = {}
        self._events = 0
        self._bytes = 0

    def take(self, stream: str, timestamp: float, data: bytes) -> list[Piece]:
        """What has become whole with this piece, which is the next event."""
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
        begun = self._begun.pop(stream, None)
        if begun is not None:
            end = data.find(b"\n") + 1
            if not end:
                self._begun[stream] = _Begun(begun.timestamp, begun.data + data, begun.event, begun.before)
                return self._too_long()
            pieces.append(Piece(stream, begun.timestamp, begun.data + data[:end]))
            data = data[end:]
        if end := data.rfind(b"\n") + 1:
            pieces.append(Piece(stream, timestamp, data[:end]))
        if data[end:]:
            self._begun[stream] = _Begun(timestamp, data[end:], number, before)
        return pieces + self._too_long()

    def _too_long(self) -> list[Piece]:
        """Lines whose end is waited for no more: so much cannot stay unacknowledged."""
        late = [stream for stream, begun in self._begun.items() if self._bytes - begun.before > MAX_KEPT]
        return [Piece(stream, begun.timestamp, begun.data) for stream in late for begun in [self._begun.pop(stream)]]

    def lose(self) -> None:
        """Count an event that says that older output is lost: what was given out of it does not come again."""
        self._events += 1
        self._skip.clear()
        self._keep("", 0)

    def _keep(self, stream: str, size: int) -> None:
        self._kept.append((stream, size))
        while len(self._kept) > self.kept:
            self._kept.popleft()

    @property
    def passed(self) -> dict[str, int]:
        """Bytes of each stream that have been given out, of the events that are not to be acknowledged yet."""
        passed: Counter[str] = Counter()
        for stream, size in self._kept:
            passed[stream] += size
        for stream, begun in self._begun.items():
            passed[stream] -= len(begun.data)
        return dict(+passed)

    @property
    def kept(self) -> int:
        """How many of the last events are not to be acknowledged yet."""
        return self._events - min((begun.event for begun in self._begun.values()), default=self._events)

    def rest(self) -> list[Piece]:
        """What is left of lines that have no end, because the process has ended."""
        begun, self._begun = self._begun, {}
        self._kept.clear()
        return [Piece(stream, left.timestamp, left.data) for stream, left in begun.items()]
