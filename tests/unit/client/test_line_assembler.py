"""Pieces of output become lines: whole ones, stamped with the time of their beginning, and none lost."""

from hypothesis import given
from hypothesis import strategies as st

from papa_dbus.client.line_assembler import MAX_KEPT, LineAssembler, Piece


def test_whole_lines_pass_as_they_are() -> None:
    lines = LineAssembler()
    assert lines.take("out", 1.0, b"one\ntwo\n") == [Piece("out", 1.0, b"one\ntwo\n")]
    assert lines.kept == 0


def test_a_line_in_pieces_is_stamped_with_its_beginning() -> None:
    lines = LineAssembler()
    assert lines.take("out", 1.0, b"whole\nbeg") == [Piece("out", 1.0, b"whole\n")]
    assert lines.kept == 1
    assert lines.take("err", 2.0, b"other\n") == [Piece("err", 2.0, b"other\n")]
    assert lines.kept == 2
    assert lines.take("out", 3.0, b"un") == []
    assert lines.kept == 3
    assert lines.take("out", 4.0, b"!\nnext\n") == [Piece("out", 1.0, b"begun!\n"), Piece("out", 4.0, b"next\n")]
    assert lines.kept == 0


def test_the_rest_at_the_end() -> None:
    lines = LineAssembler()
    lines.take("out", 1.0, b"no end")
    lines.take("err", 2.0, b"nor here")
    lines.lose()
    assert lines.kept == 3
    assert lines.rest() == [Piece("out", 1.0, b"no end"), Piece("err", 2.0, b"nor here")]
    assert lines.kept == 0


def test_a_line_without_end_is_not_waited_for_forever() -> None:
    lines = LineAssembler()
    assert lines.take("out", 1.0, b"x" * MAX_KEPT) == []
    assert lines.take("out", 2.0, b"y") == [Piece("out", 1.0, b"x" * MAX_KEPT + b"y")]
    lines.take("out", 3.0, b"prompt: ")
    got = []
    for _ in range(MAX_KEPT // 1000 + 1):  # nor is what comes on the other stream held back by it
        got += lines.take("err", 4.0, b"e" * 999 + b"\n")
    assert Piece("out", 1.0, b"prompt: ", continued=True) in got  # no end of the long line has come
    assert lines.kept == 0


@given(
    st.lists(st.tuples(st.sampled_from(["out", "err"]), st.binary(max_size=9).map(lambda b: b.replace(b"a", b"\n"))))
)
def test_nothing_is_lost_and_nothing_moves(pieces: list[tuple[str, bytes]]) -> None:
    lines = LineAssembler()
    got: list[Piece] = []
    for stamp, (stream, data) in enumerate(pieces):
        got += lines.take(stream, float(stamp), data)
    whole = list(got)
    got += lines.rest()
    for stream in ("out", "err"):
        assert b"".join(p.data for p in got if p.stream == stream) == b"".join(d for s, d in pieces if s == stream)
    assert all(piece.data.endswith(b"\n") for piece in whole)


def test_what_was_passed_on_of_events_that_come_again() -> None:
    """The next assembler gets the same events, and gives nothing of them twice."""
    events = [("out", b"done\n"), ("out", b"whole\nbe"), ("err", b"other\nhalf"), ("out", b"gun")]
    lines = LineAssembler()
    for event in events:
        lines.take(event[0], 1.0, event[1])
    assert lines.kept == 3
    assert lines.passed == {"out": len(b"whole\n"), "err": len(b"other\n")}

    following = LineAssembler(lines.passed)
    for stream, data in events[-lines.kept :]:
        assert following.take(stream, 2.0, data) == []
    assert following.passed == lines.passed  # and so on, as often as circusd quits
    assert following.take("out", 3.0, b"!\n") == [Piece("out", 2.0, b"begun!\n")]
    assert following.take("err", 3.0, b"!\n") == [Piece("err", 2.0, b"half!\n")]
    assert following.passed == {}


def test_what_was_lost_does_not_come_again() -> None:
    lines = LineAssembler({"out": 6})
    lines.lose()
    assert lines.take("out", 1.0, b"new\n") == [Piece("out", 1.0, b"new\n")]


@given(
    st.lists(st.tuples(st.sampled_from(["out", "err"]), st.binary(max_size=9).map(lambda b: b.replace(b"a", b"\n")))),
    st.integers(0, 20),
)
def test_a_change_of_assemblers_shows_nowhere(pieces: list[tuple[str, bytes]], change: int) -> None:
    lines = LineAssembler()
    got: list[Piece] = []
    for stamp, (stream, data) in enumerate(pieces[:change]):
        got += lines.take(stream, float(stamp), data)
    again, lines = lines.kept, LineAssembler(lines.passed)
    begin = min(change, len(pieces)) - again
    for stamp, (stream, data) in enumerate(pieces[begin:], begin):
        got += lines.take(stream, float(stamp), data)
    got += lines.rest()
    for stream in ("out", "err"):
        assert b"".join(p.data for p in got if p.stream == stream) == b"".join(d for s, d in pieces if s == stream)
