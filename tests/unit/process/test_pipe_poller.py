"""The poller: what comes from many is read together, and what is much is read on without a rest."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from papa_dbus.service.process import pipe_poller as poller
from papa_dbus.service.process.pipe_poller import Poller
from tests.support import turns


class Pipe:
    """A pipe that is read by a poller, so many bytes at a time; ``read`` is what came with each reading."""

    def __init__(self, into: Poller, backlogged: bool = False) -> None:
        self.end, self._write = os.pipe()
        self.read: list[bytes] = []
        self._into = into
        self._backlogged = backlogged
        into.add(self.end, self._come)

    def _come(self) -> bool:
        self.read.append(os.read(self.end, 4))
        return self._backlogged

    def say(self, data: bytes) -> None:
        os.write(self._write, data)

    def close(self) -> None:
        self._into.remove(self.end)
        os.close(self.end)
        os.close(self._write)


class Clock:
    """The loop's clock, which stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    """A clock for the test's loop."""
    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", clock)
        yield clock


@pytest.fixture
def reading(clock: Clock) -> Iterator[Poller]:
    """A poller that rests until the clock is set forward."""
    reading = Poller()
    yield reading
    reading.close()


async def test_a_line_after_silence_is_read_at_once_and_others_after_a_rest(reading: Poller, clock: Clock) -> None:
    pipe = Pipe(reading)
    pipe.say(b"1")
    await turns(5)
    pipe.say(b"2")
    await turns(5)
    assert pipe.read == [b"1", b"2"]
    pipe.say(b"3")
    await turns(5)
    pipe.say(b"4")
    await turns(5)
    assert pipe.read == [b"1", b"2"]
    clock.now += poller.MAX_COALESCE_DELAY
    await turns(5)
    assert pipe.read == [b"1", b"2", b"34"]
    pipe.close()


async def test_no_rest_while_a_writer_may_be_waiting(reading: Poller) -> None:
    pipe, other = Pipe(reading, backlogged=True), Pipe(reading)
    other.say(b"o")
    pipe.say(b"123456789abc")
    await turns(5)
    assert pipe.read == [b"1234", b"5678", b"9abc"]
    assert other.read == [b"o"]
    pipe.close()
    other.close()


async def test_each_has_its_turn(reading: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are served at once: all are read, without a rest."""
    monkeypatch.setattr(poller, "MAX_PER_ITERATION", 3)
    pipes = [Pipe(reading) for _ in range(10)]
    for pipe in pipes:
        pipe.say(b"x")
    await turns(5)
    assert [pipe.read for pipe in pipes] == [[b"x"]] * 10
    for pipe in pipes:
        pipe.close()


async def test_one_whose_turn_has_been_ended_by_another_is_not_read(reading: Poller) -> None:
    pipes = [Pipe(reading), Pipe(reading)]

    def end_the_other(of: int) -> bool:
        pipes[1 - of].close()
        return False

    for number, pipe in enumerate(pipes):
        reading.remove(pipe.end)
        reading.add(pipe.end, partial(end_the_other, number))
        pipe.say(b"x")
    await turns(5)
    [left] = [pipe for pipe in pipes if os.path.exists(f"/proc/self/fd/{pipe.end}")]
    left.close()


async def test_it_can_be_closed_while_it_rests(clock: Clock) -> None:
    reading = Poller()
    pipe = Pipe(reading)
    for _ in range(2):  # after the second it rests
        pipe.say(b"x")
        await turns(5)
    reading.close()
    clock.now += poller.MAX_COALESCE_DELAY
    await turns(5)
    assert pipe.read == [b"x", b"x"]
    os.close(pipe.end)
    os.close(pipe._write)
