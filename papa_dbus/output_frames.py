"""The frames on the socket that OpenOutput gives: what papad sends there, and what comes back.

A frame is a size (u32, of what follows the first eight bytes), a kind (u8), three bytes of nothing, and the body. All
numbers are little-endian; ``docs/reference/output-socket.md`` has the layout of each. Who gets a kind that it does not
know reads over it, if it came from papad. No I/O.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

#: The version of this framing, which papad's first frame tells.
VERSION: Final = 1
#: Bytes of the largest frame from papad, and of the largest from a client, the first eight not counted.
MAX_FRAME: Final = 1024 * 1024
MAX_REQUEST: Final = 32 * 1024
#: Processes in one acknowledgement.
MAX_ACKNOWLEDGED: Final = 64
STREAMS: Final = ("out", "err")
_ROOM: Final = 16 * 1024  # bytes of a reader's buffer at first

_HEADER = struct.Struct("<IB3x")
_GREETING = struct.Struct("<I")
_OUTPUT = struct.Struct("<QHH")  # first sequence number, records, bytes of the name
_RECORD = struct.Struct("<QIB3x")  # µs of CLOCK_REALTIME, bytes, number of the stream
_DROPPED = struct.Struct("<QQQ")  # first and last sequence number, bytes
_EXITED = struct.Struct("<QQiB3x")  # sequence number, µs of CLOCK_REALTIME, exit code, whether that is known
_COUNT = struct.Struct("<H")
_ACKNOWLEDGED = struct.Struct("<QH")  # sequence number, bytes of the name


class Kind(IntEnum):
    """The kind of a frame: below 16 from papad, 16 and above from the client."""

    GREETING = 1  # first: the version
    OUTPUT = 2
    DROPPED = 3
    EXITED = 4
    ENDED = 5  # last: the reason, as in WatchEnded
    ANSWER = 6  # to each ACKNOWLEDGE, in their order: nothing, or an error's name, a NUL byte and a text
    ACKNOWLEDGE = 16


class BadFrame(ValueError):
    """A frame that cannot be understood: another version, or garbage."""


# ------------------------------------------------------------------------------------------------ frames to bytes


def _frame(kind: Kind, *parts: bytes) -> bytes:
    return b"".join([_HEADER.pack(sum(map(len, parts)), kind), *parts])


def greeting() -> bytes:
    """Return papad's first frame."""
    return _frame(Kind.GREETING, _GREETING.pack(VERSION))


def begin_output(process: str, first_seq: int, records: Sequence[tuple[int, int, int]], payload: int) -> bytes:
    """Return an Output's beginning: times, sizes and streams (0 out, 1 err). ``payload`` bytes follow it."""
    name = process.encode()
    table = b"".join([_RECORD.pack(*record) for record in records])
    size = _OUTPUT.size + len(name) + len(table) + payload
    return b"".join([_HEADER.pack(size, Kind.OUTPUT), _OUTPUT.pack(first_seq, len(records), len(name)), name, table])


def dropped(process: str, first_seq: int, last_seq: int, size: int) -> bytes:
    """Return what tells that these have left the log unsent."""
    return _frame(Kind.DROPPED, _DROPPED.pack(first_seq, last_seq, size), process.encode())


def exited(process: str, seq: int, timestamp: int, exit_code: int, known: bool) -> bytes:
    """Return what tells a process's end."""
    return _frame(Kind.EXITED, _EXITED.pack(seq, timestamp, exit_code, known), process.encode())


def ended(reason: str) -> bytes:
    """Return papad's last frame."""
    return _frame(Kind.ENDED, reason.encode())


def answer(error: str = "", text: str = "") -> bytes:
    """Return the answer to an acknowledgement: nothing, or an error's name on the bus, and its text."""
    return _frame(Kind.ANSWER, f"{error}\0{text}".encode() if error else b"")


def acknowledge(up_to: Mapping[str, int]) -> bytes:
    """Return an acknowledgement, of MAX_ACKNOWLEDGED processes at most."""
    parts = [_COUNT.pack(len(up_to))]
    for name, seq in up_to.items():
        encoded = name.encode()
        parts += [_ACKNOWLEDGED.pack(seq, len(encoded)), encoded]
    return _frame(Kind.ACKNOWLEDGE, *parts)


# ------------------------------------------------------------------------------------------------ bytes to frames


class FrameReader:
    """Frames from bytes. ``buffer`` gives room to read into, ``read`` the frames of what was read there."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = bytearray(_ROOM)  # it grows with what comes
        self._begin = 0
        self._end = 0

    def buffer(self) -> memoryview:
        """Return where the next bytes go: there is always room for one at least."""
        return memoryview(self._bytes)[self._end :]

    def read(self, count: int) -> Iterator[tuple[int, memoryview]]:
        """Give kind and body of each frame that is whole with ``count`` bytes more; a body is there until the next.

        Raises BadFrame.
        """
        self._end += count
        while (frame := self._next()) is not None:
            yield frame
        self._make_room()

    def _next(self) -> tuple[int, memoryview] | None:
        there = self._end - self._begin
        if there < _HEADER.size:
            return None
        size, kind = _HEADER.unpack_from(self._bytes, self._begin)
        if size > self._most:
            raise BadFrame(f"a frame of {size} bytes, where {self._most} are possible")
        if there < _HEADER.size + size:
            return None
        begin = self._begin + _HEADER.size
        self._begin = begin + size
        return kind, memoryview(self._bytes)[begin : self._begin]

    def _make_room(self) -> None:
        """Have the whole of the frame that has begun find room, and the beginning of the next one."""
        if self._begin == self._end:
            self._begin = self._end = 0
            return
        there = self._end - self._begin
        size = _HEADER.unpack_from(self._bytes, self._begin)[0] if there >= _HEADER.size else 0
        if self._begin + size + 2 * _HEADER.size <= len(self._bytes):
            return
        left = self._bytes[self._begin : self._end]
        if size + 2 * _HEADER.size > len(self._bytes):
            self._bytes = bytearray(2 * (size + _HEADER.size))
        self._bytes[:there] = left
        self._begin, self._end = 0, there


def check_version(body: memoryview) -> None:
    """Check a GREETING. As all that read a body, raises BadFrame if it is not to be understood."""
    (version,) = _unpack(_GREETING, body)
    if version != VERSION:
        raise BadFrame(f"version {version} of the framing, where {VERSION} is known")


def read_output(body: memoryview) -> tuple[str, list[tuple[int, int, str, bytes]]]:
    """Return an OUTPUT's process, and its records: sequence number, time, stream and bytes of each."""
    first, count, size = _unpack(_OUTPUT, body)
    at = _OUTPUT.size + size
    name = _text(body[_OUTPUT.size : at])
    data = at + count * _RECORD.size
    if data > len(body):
        raise BadFrame("an output of fewer bytes than its records have")
    records = []
    for seq, (timestamp, length, stream) in enumerate(_RECORD.iter_unpack(body[at:data]), first):
        if stream >= len(STREAMS) or data + length > len(body):
            raise BadFrame("a record of no known stream, or of more bytes than there are")
        records.append((seq, timestamp, STREAMS[stream], bytes(body[data : data + length])))
        data += length
    if data != len(body):
        raise BadFrame("an output of more bytes than its records have")
    return name, records


def read_dropped(body: memoryview) -> tuple[str, int, int, int]:
    """Return a DROPPED's process, first and last sequence number and bytes."""
    first, last, size = _unpack(_DROPPED, body)
    return _text(body[_DROPPED.size :]), first, last, size


def read_exited(body: memoryview) -> tuple[str, int, int, int, bool]:
    """Return an EXITED's process, sequence number, time, exit code, and whether that is known."""
    seq, timestamp, code, known = _unpack(_EXITED, body)
    return _text(body[_EXITED.size :]), seq, timestamp, code, bool(known)


def read_ended(body: memoryview) -> str:
    """Return an ENDED's reason."""
    return _text(body)


def read_answer(body: memoryview) -> tuple[str, str]:
    """Return an ANSWER's error and text, both empty if there is none."""
    error, _, text = _text(body).partition("\0")
    return error, text


def read_request(kind: int, body: memoryview) -> dict[str, int]:
    """Return what a frame from a client acknowledges."""
    if kind != Kind.ACKNOWLEDGE:
        raise BadFrame(f"a frame of kind {kind} comes from papad alone")
    return read_acknowledge(body)


def read_acknowledge(body: memoryview) -> dict[str, int]:
    """Return the processes of an ACKNOWLEDGE, each with its sequence number."""
    (count,) = _unpack(_COUNT, body)
    if count > MAX_ACKNOWLEDGED:
        raise BadFrame(f"{count} processes in one acknowledgement, where {MAX_ACKNOWLEDGED} are possible")
    up_to, at = {}, _COUNT.size
    for _ in range(count):
        seq, size = _unpack(_ACKNOWLEDGED, body[at:])
        begin, at = at + _ACKNOWLEDGED.size, at + _ACKNOWLEDGED.size + size
        if at > len(body):
            raise BadFrame("a name of more bytes than there are")
        up_to[_text(body[begin:at])] = seq
    if at != len(body):
        raise BadFrame("an acknowledgement of more bytes than its processes have")
    return up_to


def _unpack(layout: struct.Struct, body: memoryview) -> tuple[Any, ...]:
    if len(body) < layout.size:
        raise BadFrame("a frame that ends too soon")
    return layout.unpack_from(body)


def _text(body: memoryview) -> str:
    try:
        return str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise BadFrame(f"a text that is not UTF-8: {error}") from None
