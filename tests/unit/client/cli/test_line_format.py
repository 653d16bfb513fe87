"""papactl's lines and formats: whatever pieces the output came in, and whatever is in it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from papa_dbus.client.aio import Dropped, Event, Exited, Record
from papa_dbus.client.cli import line_format
from papa_dbus.client.cli.line_format import Cat, Joiner, Line
from papa_dbus.client.cli.printing import clean, duration, size

PIECES = st.lists(st.binary(min_size=1, max_size=20).map(lambda b: b.replace(b"a", b"\n")), max_size=20)


def records(pieces: list[bytes], stream: str = "out") -> list[Record]:
    return [Record("p", seq, seq * 10, stream, piece) for seq, piece in enumerate(pieces, 1)]


def joined(pieces: list[bytes]) -> list[Line]:
    joiner = Joiner()
    found = [item for record in records(pieces) for item in joiner.add(record)]
    return [item for item in (*found, *joiner.rest()) if isinstance(item, Line)]


@given(PIECES)
def test_lines_do_not_depend_on_how_they_were_split(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = whole.split(b"\n")
    assert [line.data for line in joined(pieces)] == (expected if expected[-1] else expected[:-1])
    assert line_format.formatted(joined(pieces), Cat(print, raw=True)) == whole


@given(PIECES)
def test_a_line_has_the_time_of_its_beginning(pieces: list[bytes]) -> None:
    times, begins = [], True
    for record in records(pieces):
        for byte in record.data:
            if begins:
                times.append(record.timestamp)
            begins = byte == ord("\n")
    assert [line.timestamp for line in joined(pieces)] == times


def test_streams_are_not_mixed_and_an_end_ends_a_line() -> None:
    joiner = Joiner()
    events: list[Event] = [
        Record("p", 1, 10, "out", b"o"), Record("p", 2, 20, "err", b"e"), Record("q", 1, 20, "out", b"q"),
        Exited("p", 3, 30, 0),
    ]  # fmt: skip
    found = [item for event in events for item in joiner.add(event)]
    out, err = Line("p", "out", 10, b"o", whole=False, latest=10), Line("p", "err", 20, b"e", whole=False, latest=20)
    assert found == [out, err, events[-1]]
    assert joiner.rest() == [Line("q", "out", 20, b"q", whole=False, latest=20)]


def test_a_line_that_never_ends_is_not_kept_for_ever() -> None:
    pieces = [b"x" * 40_000] * 4
    assert [len(line.data) for line in joined(pieces)] == [80_000, 80_000]
    assert line_format.formatted(joined(pieces), Cat(print, raw=True)) == b"".join(pieces)


def test_lines_of_two_processes_are_apart_even_without_an_end() -> None:
    cat = Cat(print, raw=True)
    items = [Line("p", "out", 1, b"no end", False), Line("q", "out", 2, b"whole")]
    assert line_format.formatted(items, cat) == b"no end\nwhole\n"


def test_a_gap_is_said_on_the_side() -> None:
    said: list[str] = []
    assert Cat(said.append, raw=True)(Dropped("p", 1, 2, 30)) == b""
    assert said == ["p: 30 bytes were dropped here: the buffer was full before they were read"]


@given(st.binary())
def test_json_keeps_every_byte(data: bytes) -> None:
    message = json.loads(line_format.as_json(Record("p", 1, 2, "out", data)))["message"]
    assert (message.encode() if isinstance(message, str) else bytes(message)) == data


@given(st.one_of(st.binary(), st.text()))
def test_clean_text_can_do_nothing_to_a_terminal(data: bytes | str) -> None:
    text = clean(data)
    text.encode()  # no lone surrogate either
    for char in text:
        assert char == "\t" or not (ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F or char in "\u2028\u2029\u202e\u2066")


def test_sizes_and_times_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1024, 2**20 * 2.5, 2**60)] == ["0 B", "1023 B", "1.0 KiB", "2.5 MiB", "1024 PiB"]
    assert [duration(n) for n in (0, 61, 3600, 90_000, -1)] == ["0 s", "1 min 1 s", "1 h 0 min", "1 d 1 h", "0 s"]
