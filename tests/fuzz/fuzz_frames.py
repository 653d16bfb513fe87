"""Coverage-guided: whatever bytes come, in whatever pieces, they are the same frames or BadFrame, in bounded memory.

Run by test_fuzz.py, or by hand: python -m tests.fuzz.fuzz_frames -max_total_time=600
"""

import sys

import atheris

with atheris.instrument_imports():
    from papa_dbus import output_frames as frames

_MOST = 256
_READERS = {
    frames.Kind.GREETING: frames.check_version,
    frames.Kind.OUTPUT: frames.read_output,
    frames.Kind.DROPPED: frames.read_dropped,
    frames.Kind.EXITED: frames.read_exited,
    frames.Kind.ENDED: frames.read_ended,
    frames.Kind.ANSWER: frames.read_answer,
    frames.Kind.ACKNOWLEDGE: frames.read_acknowledge,
}


def frames_of(data: bytes, size: int) -> tuple[list[tuple[int, bytes]], bool]:
    """What is read of it in pieces of such a size, and whether nonsense followed."""
    reader, read = frames.FrameReader(_MOST), []
    left = memoryview(data)
    try:
        while left:
            room = reader.buffer()
            assert 0 < len(room) <= max(frames._ROOM, 2 * (_MOST + 8)), data
            count = min(len(room), len(left), size)
            room[:count] = left[:count]
            left = left[count:]
            for kind, body in reader.read(count):
                read.append((kind, bytes(body)))
    except frames.BadFrame:
        return read, True
    return read, False


def try_bytes(data: bytes) -> None:
    """One input: its first byte says how it is cut."""
    size = data[0] + 1 if data else 1
    whole, cut = frames_of(data[1:], len(data)), frames_of(data[1:], size)
    assert whole == cut, data
    for kind, body in whole[0]:
        try_body(kind, body, data)


def try_body(kind: int, body: bytes, data: bytes) -> None:
    """It is understood, and an acknowledgement is written as it was read; or it is nonsense."""
    if kind not in _READERS:
        return
    try:
        read = _READERS[frames.Kind(kind)](memoryview(body))
    except frames.BadFrame:
        return
    if kind == frames.Kind.ACKNOWLEDGE:
        assert isinstance(read, dict)
        assert frames.read_acknowledge(memoryview(frames.acknowledge(read))[8:]) == read, data
    elif kind == frames.Kind.OUTPUT:
        _, records = frames.read_output(memoryview(body))
        assert sum(len(record[3]) for record in records) <= len(body), data


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()
