"""Lines without an end: given out after a pause or when they are too long, cut between characters, and marked."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from papa_dbus.client.aio import Event, Exited, Record, Watch
from papa_dbus.client.cli import line_format
from papa_dbus.client.cli.line_format import Cat, Joiner, Short
from papa_dbus.client.cli.partial_lines import paced
from papa_dbus.client.line_assembler import MAX_KEPT, PAUSE, LineAssembler, Piece
from papa_dbus.text import whole_characters

LATER = float("inf")
PIECES = st.binary(max_size=9).map(lambda data: data.replace(b"a", b"\n"))
LONG = "{" + "grün €𝄞 " * 12_000 + "}"  # 156 kB, of characters of one to four bytes


def test_characters_are_whole() -> None:
    for text in ("a", "ü", "€", "𝄞"):
        data = b"x" + text.encode()
        assert whole_characters(data) == len(data)
        for size in range(2, len(data)):
            assert whole_characters(data[:size]) == 1
    for data in (b"", b"\x80\x80\x80\x80", b"\xff", b"gr\xfcn", b"\xf8\x80"):  # what is not UTF-8 waits for nothing
        assert whole_characters(data) == len(data)


@given(st.text(), st.integers(0, 20))
def test_text_is_cut_between_characters_only(text: str, size: int) -> None:
    data = text.encode()[:size]
    data[: whole_characters(data)].decode()
    assert len(data) - whole_characters(data) <= 3


def test_a_begun_line_is_given_out_once_and_its_rest_is_marked() -> None:
    assembler = LineAssembler()
    assert assembler.due() is None
    assert assembler.take("out", 1.0, b"whole\nPass") == [Piece("out", 1.0, b"whole\n")]
    assert assembler.due() is not None
    assert assembler.pass_on(LATER) == [Piece("out", 1.0, b"Pass")]
    assert (assembler.due() is None, assembler.pass_on(LATER), assembler.kept) == (True, [], 0)
    assert assembler.begun == {"out": 1.0}
    assert assembler.take("out", 2.0, b"word: ") == []
    assert assembler.kept == 1
    assert assembler.pass_on(LATER) == [Piece("out", 1.0, b"word: ", continued=True)]
    assert assembler.take("out", 3.0, b"\nnext\n") == [
        Piece("out", 1.0, b"\n", continued=True), Piece("out", 3.0, b"next\n"),
    ]  # fmt: skip
    assert assembler.begun == {}


def test_a_line_waits_from_its_first_byte_on_and_each_for_itself() -> None:
    assembler = LineAssembler()
    begin = time.monotonic()
    assembler.take("out", 1.0, b".")
    due = assembler.due()
    assert due is not None
    assert begin + PAUSE <= due <= time.monotonic() + PAUSE
    assert assembler.pass_on(due - 0.001) == []
    assembler.take("out", 2.0, b".")
    assert assembler.due() == due  # dots that come faster than the pause do not put it off
    assembler.take("err", 2.0, b"later")
    assert assembler.pass_on(due) == [Piece("out", 1.0, b"..")]
    assert assembler.due() not in (None, due)
    assembler.take("err", 2.0, b"\n")
    assert assembler.due() is None


def test_half_a_character_waits_for_its_other_half_but_not_for_ever() -> None:
    assembler = LineAssembler()
    assembler.take("out", 1.0, b"gr" + "ü".encode()[:1])
    assert assembler.pass_on(LATER) == [Piece("out", 1.0, b"gr")]
    assert (assembler.due() is None, assembler.kept, assembler.passed) == (False, 1, {"out": 2})
    assert assembler.pass_on(LATER) == [Piece("out", 1.0, b"\xc3", continued=True)]
    assert (assembler.due() is None, assembler.kept) == (True, 0)


def test_the_next_assembler_knows_of_a_begun_line() -> None:
    assembler = LineAssembler()
    assembler.take("out", 1.0, b"dots: .")
    assembler.pass_on(LATER)
    assembler.take("out", 2.0, b"..\xe2\x82")
    assert assembler.pass_on(LATER) == [Piece("out", 1.0, b"..", continued=True)]
    following = LineAssembler(assembler.passed, assembler.begun)
    assert following.take("out", 2.0, b"..\xe2\x82") == []  # that event comes again
    assert following.take("out", 3.0, b"\xac\n") == [Piece("out", 1.0, "€\n".encode(), continued=True)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["out", "err", ""]), st.binary(max_size=9).map(lambda b: b.replace(b"a", b"\n")))
    )
)
def test_nothing_is_lost_or_stamped_twice_whenever_somebody_is_impatient(pieces: list[tuple[str, bytes]]) -> None:
    assembler = LineAssembler()
    got: list[Piece] = []
    for number, (stream, data) in enumerate(pieces):
        got += assembler.take(stream, float(number), data) if stream else assembler.pass_on(LATER)
    got += assembler.rest()
    for stream in ("out", "err"):
        of = [piece for piece in got if piece.stream == stream]
        assert b"".join(piece.data for piece in of) == b"".join(data for s, data in pieces if s == stream)
        for before, piece in zip([None, *of], of, strict=False):
            assert piece.continued == (before is not None and not before.data.endswith(b"\n"))
            if piece.continued and before is not None and b"\n" not in before.data:
                assert piece.timestamp == before.timestamp


def events(text: str, size: int = 65_521) -> list[Record]:
    data = text.encode()
    return [Record("p", n, n, "out", data[at : at + size]) for n, at in enumerate(range(0, len(data), size), 1)]


def test_a_long_line_can_be_put_together_from_json() -> None:
    joiner = Joiner()
    found = [item for event in events(LONG + "\nnext\n") for item in joiner.add(event)]
    objects = [json.loads(line_format.as_json(item)) for item in found]
    assert len(objects) > 2
    assert all(isinstance(each["message"], str) for each in objects)  # else it is no UTF-8
    assert all(len(each["message"]) > 1000 for each in objects[:-1])
    *pieces, last, following = objects
    assert "".join(each["message"] for each in (*pieces, last)) == LONG
    assert all(each["partial"] for each in pieces)
    assert all(each["continued"] for each in (*pieces[1:], last))
    assert "continued" not in pieces[0]
    assert "partial" not in last
    assert (following["message"], "partial" in following, "continued" in following) == ("next", False, False)
    assert {each["timestamp"] for each in (*pieces, last)} == {1}


def test_each_piece_of_a_long_line_says_so_in_text() -> None:
    joiner, short = Joiner(), Short()
    text = [short(item).decode() for event in events(LONG + "\n") for item in joiner.add(event)]
    assert [line[22:].partition(": ")[0].strip() for line in text] == [
        "p[partial]", *["p[continued,partial]"] * (len(text) - 2), "p[continued]",
    ]  # fmt: skip
    assert "".join(line[22:].partition(": ")[2].removesuffix("\n") for line in text) == LONG
    assert [line[:15].strip() != "" for line in text] == [True, *[False] * (len(text) - 1)]  # stamped once


def test_a_line_that_ends_at_the_bound_is_whole() -> None:
    joiner = Joiner()
    line = b"x" * MAX_KEPT
    found = [
        item
        for event in (Record("p", 1, 1, "out", line), Record("p", 2, 2, "out", b"\n"))
        for item in joiner.add(event)
    ]
    assert [(item.data, item.partial, item.continued) for item in found if isinstance(item, line_format.Line)] == [
        (line, False, False)
    ]


def test_streams_of_begun_lines_are_apart() -> None:
    joiner, short = Joiner(), Short()
    items = [*joiner.add(Record("p", 1, 1, "out", b"out ")), *joiner.add(Record("p", 2, 2, "err", b"err\xff\0 "))]
    items += joiner.begun()
    items += joiner.add(Record("p", 3, 3, "err", b"end\n"))
    items += joiner.add(Exited("p", 4, 4, 0))
    assert [short(item).decode()[22:].strip() for item in items] == [
        "p[partial]: out", "p[err,partial]: err\\xff\\x00", "p[err,continued]: end",
        "p[papa]: ended with exit status 0",
    ]  # fmt: skip


def test_cat_gives_each_byte_of_a_begun_line_once() -> None:
    joiner, cat = Joiner(), Cat(print, raw=True)
    got = b""
    for n, data in enumerate((b"10%\r", b"20%\r", b"\0\xff", b"\n", b"end")):
        got += line_format.formatted(joiner.add(Record("p", n, n, "out", data)), cat)
        got += line_format.formatted(joiner.begun(), cat)
    assert got + line_format.formatted(joiner.rest(), cat) == b"10%\r20%\r\0\xff\nend"


class Watched:
    """A watch of which batch after batch is there at once, until the test wants none."""

    def __init__(self, *batches: list[Event]) -> None:
        self._batches = batches

    async def batches(self) -> AsyncIterator[list[Event]]:
        """All that there is, and then nothing for ever."""
        for batch in self._batches:
            yield batch
        await asyncio.get_running_loop().create_future()


async def test_a_reader_that_was_slow_gets_first_what_has_come_meanwhile() -> None:
    """Else `papactl logs | less` would call each line that a batch cuts a part of one."""
    batches: list[list[Event]] = [[Record("p", n, n, "out", b"x")] for n in range(3)]
    due: list[float | None] = [None]
    async with paced(cast(Watch, Watched(*batches)), lambda: due[0]) as events:
        assert await anext(events) == batches[0]
        due[0] = time.monotonic() - 10
        assert await anext(events) == batches[1], "which may have the line's end"
        assert await anext(events) is None, "but it had not: others' output puts nothing off"
        due[0] = None
        assert await anext(events) == batches[2]
        due[0] = time.monotonic()
        assert await anext(events) is None
