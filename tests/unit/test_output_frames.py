"""The frames of OpenOutput: what is written is read again, however it is cut, and nonsense is BadFrame at worst."""

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papa_dbus import output_frames as frames
from papa_dbus.output_frames import BadFrame, FrameReader, Kind

U16, U64 = st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
RECORDS = st.lists(st.tuples(U64, st.binary(max_size=40), st.integers(0, 1)), max_size=20)
ANY = st.binary(max_size=300)
#: What reads the body of each kind.
READERS = {
    Kind.GREETING: frames.check_version,
    Kind.OUTPUT: frames.read_output,
    Kind.DROPPED: frames.read_dropped,
    Kind.EXITED: frames.read_exited,
    Kind.ENDED: frames.read_ended,
    Kind.ANSWER: frames.read_answer,
    Kind.ACKNOWLEDGE: frames.read_acknowledge,
}


def read_all(pieces: Iterable[bytes], most: int = frames.MAX_FRAME) -> list[tuple[int, bytes]]:
    """Read what comes in such pieces, as a socket gives them: no more at a time than there is room for."""
    reader, read = FrameReader(most), []
    for piece in pieces:
        left = memoryview(piece)
        while left:
            room = reader.buffer()
            assert room, "no room for a byte"
            count = min(len(room), len(left))
            room[:count] = left[:count]
            left = left[count:]
            read += [(kind, bytes(body)) for kind, body in reader.read(count)]
    return read


def body_of(frame: bytes, kind: Kind) -> memoryview:
    """The body of the one frame that there is."""
    [(found, body)] = read_all([frame])
    assert found == kind
    return memoryview(body)


def output(name: str, first: int, records: list[tuple[int, bytes, int]]) -> bytes:
    """An OUTPUT, whole."""
    payload = b"".join(data for _, data, _ in records)
    told = [(timestamp, len(data), stream) for timestamp, data, stream in records]
    return frames.begin_output(name, first, told, len(payload)) + payload


# ----------------------------------------------------------------------------------------- round trips


def test_a_greeting() -> None:
    frames.check_version(body_of(frames.greeting(), Kind.GREETING))
    frames.check_version(memoryview(struct.pack("<I", frames.VERSION) + b"of a later papad"))
    with pytest.raises(BadFrame, match="version 2"):
        frames.check_version(memoryview(struct.pack("<I", 2)))


@given(NAMES, st.integers(0, 2**63), RECORDS)
def test_output(name: str, first: int, records: list[tuple[int, bytes, int]]) -> None:
    read, events = frames.read_output(body_of(output(name, first, records), Kind.OUTPUT))
    assert read == name
    assert events == [
        (seq, timestamp, ("out", "err")[stream], data) for seq, (timestamp, data, stream) in enumerate(records, first)
    ]


@given(NAMES, U64, U64, U64)
def test_dropped(name: str, first: int, last: int, size: int) -> None:
    assert frames.read_dropped(body_of(frames.dropped(name, first, last, size), Kind.DROPPED)) == (
        name, first, last, size,
    )  # fmt: skip


@given(NAMES, U64, U64, st.integers(-(2**31), 2**31 - 1), st.booleans())
def test_exited(name: str, seq: int, timestamp: int, code: int, known: bool) -> None:
    frame = frames.exited(name, seq, timestamp, code, known)
    assert frames.read_exited(body_of(frame, Kind.EXITED)) == (name, seq, timestamp, code, known)


@given(st.dictionaries(NAMES, U64, max_size=frames.MAX_ACKNOWLEDGED))
def test_an_acknowledgement(up_to: dict[str, int]) -> None:
    assert frames.read_acknowledge(body_of(frames.acknowledge(up_to), Kind.ACKNOWLEDGE)) == up_to


def test_too_many_processes_in_one_acknowledgement() -> None:
    frame = frames.acknowledge({f"p{number}": 1 for number in range(frames.MAX_ACKNOWLEDGED + 1)})
    with pytest.raises(BadFrame, match="65 processes"):
        frames.read_acknowledge(body_of(frame, Kind.ACKNOWLEDGE))


def test_the_largest_acknowledgement_fits_into_a_request() -> None:
    up_to = {f"{number:0200}": 2**64 - 1 for number in range(frames.MAX_ACKNOWLEDGED)}
    assert read_all([frames.acknowledge(up_to)], frames.MAX_REQUEST)


def test_answers_and_ends() -> None:
    assert frames.read_answer(body_of(frames.answer(), Kind.ANSWER)) == ("", "")
    frame = frames.answer("org.papa.Error.NotFound", "watch 1 has no process 'ü'")
    assert frames.read_answer(body_of(frame, Kind.ANSWER)) == (
        "org.papa.Error.NotFound", "watch 1 has no process 'ü'",
    )  # fmt: skip
    assert frames.read_ended(body_of(frames.ended("finished"), Kind.ENDED)) == "finished"


def test_the_bytes_are_those_of_the_reference() -> None:
    """docs/reference/output-socket.md has them one by one."""
    records = [(0x000661889_45EF02C, b"one\n", 0), (0x000661889_45EF07E, b"two\n", 1)]
    assert output("job", 1, records).hex(" ") == (
        "37 00 00 00 02 00 00 00 01 00 00 00 00 00 00 00 02 00 03 00 6a 6f 62"
        " 2c f0 5e 94 88 61 06 00 04 00 00 00 00 00 00 00 7e f0 5e 94 88 61 06 00 04 00 00 00 01 00 00 00"
        " 6f 6e 65 0a 74 77 6f 0a"
    )
    assert frames.acknowledge({"job": 2}).hex(" ") == (
        "0f 00 00 00 10 00 00 00 01 00 02 00 00 00 00 00 00 00 03 00 6a 6f 62"
    )


# ------------------------------------------------------------------------------------------------ cuts

STREAM = [
    frames.greeting(),
    output("p", 1, [(1, b"one\n", 0), (2, b"", 1)]),
    frames.dropped("p", 3, 9, 100),
    frames.answer(),
    frames.exited("p", 10, 3, -9, True),
    frames.ended("finished"),
]


def test_every_cut_gives_the_same_frames() -> None:
    data = b"".join(STREAM)
    whole = read_all([data])
    assert [kind for kind, _ in whole] == [1, 2, 3, 6, 4, 5]
    for at in range(len(data) + 1):
        assert read_all([data[:at], data[at:]]) == whole
    assert read_all(bytes([byte]) for byte in data) == whole


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=2000)), max_size=10), st.data())
def test_any_cuts_give_the_same_frames(told: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    stream = b"".join(struct.pack("<IB3x", len(body), kind) + body for kind, body in told)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read_all(pieces, 2000) == told


def test_a_frame_that_has_begun_is_no_frame() -> None:
    data = b"".join(STREAM)
    assert read_all([data[:-1]]) == read_all([data])[:-1]


# ---------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("most", [frames.MAX_REQUEST, frames.MAX_FRAME])
def test_a_frame_that_is_too_large_is_refused_at_its_size(most: int) -> None:
    """No room is made for it, and none of it is waited for."""
    assert read_all([struct.pack("<IB3x", most, 2), bytes(most)], most) == [(2, bytes(most))]
    for size in (most + 1, 2**32 - 1):
        with pytest.raises(BadFrame, match=f"a frame of {size} bytes"):
            read_all([struct.pack("<IB3x", size, 2)], most)


@given(st.lists(ANY | st.just(struct.pack("<IB3x", 50_000, 2)), max_size=5))
def test_what_is_kept_is_bounded(pieces: list[bytes]) -> None:
    most = 50_000
    reader = FrameReader(most)
    for piece in pieces:
        room = reader.buffer()
        assert 0 < len(room) <= 2 * (most + 8)
        room[: len(piece)] = piece
        try:
            list(reader.read(len(piece)))
        except BadFrame:
            return


# --------------------------------------------------------------------------------------------- nonsense


@given(st.lists(ANY, max_size=5))
def test_bytes_are_frames_or_nonsense(pieces: list[bytes]) -> None:
    try:
        for kind, body in read_all(pieces, frames.MAX_REQUEST):
            read_body(kind, body)
    except BadFrame:
        pass


def read_body(kind: int, body: bytes) -> None:
    """Read it as what it says that it is; what is not known is read over."""
    if kind in READERS:
        READERS[Kind(kind)](memoryview(body))


@pytest.mark.parametrize("kind", READERS)
@given(body=ANY)
def test_a_body_is_understood_or_nonsense(kind: Kind, body: bytes) -> None:
    try:
        read_body(kind, body)
    except BadFrame as error:
        assert str(error)  # noqa: PT017 (it says what is wrong)


@given(st.sampled_from(STREAM), st.data())
def test_a_frame_with_some_other_bytes_is_understood_or_nonsense(frame: bytes, data: st.DataObject) -> None:
    changed = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(8, len(changed) - 1)) if len(changed) > 8 else 0] = data.draw(st.integers(0, 255))
    try:
        for kind, body in read_all([bytes(changed)]):
            read_body(kind, body)
    except BadFrame:
        pass


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (struct.pack("<QHH", 1, 1, 1) + b"p", "fewer bytes than its records"),
        (struct.pack("<QHH", 1, 0, 9) + b"p", "fewer bytes than its records"),
        (struct.pack("<QHH", 1, 1, 1) + b"p" + struct.pack("<QIB3x", 0, 5, 0) + b"four", "more bytes than there are"),
        (struct.pack("<QHH", 1, 1, 1) + b"p" + struct.pack("<QIB3x", 0, 4, 2) + b"four", "no known stream"),
        (struct.pack("<QHH", 1, 0, 1) + b"p" + b"more", "more bytes than its records"),
        (struct.pack("<QHH", 1, 0, 1) + b"\xff", "not UTF-8"),
        (b"short", "ends too soon"),
    ],
)
def test_outputs_that_make_no_sense(body: bytes, fault: str) -> None:
    with pytest.raises(BadFrame, match=fault):
        frames.read_output(memoryview(body))


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "ends too soon"),
        (struct.pack("<H", 1), "ends too soon"),
        (struct.pack("<HQH", 1, 1, 2) + b"p", "a name of more bytes"),
        (struct.pack("<HQH", 1, 1, 1) + b"pq", "more bytes than its processes"),
        (struct.pack("<HQH", 1, 1, 1) + b"\xff", "not UTF-8"),
    ],
)
def test_acknowledgements_that_make_no_sense(body: bytes, fault: str) -> None:
    with pytest.raises(BadFrame, match=fault):
        frames.read_acknowledge(memoryview(body))
