"""Many connections that do little at a time have a few milliseconds of each turn together, and users take turns."""

import asyncio

import pytest

from papa_dbus.service import steps
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.steps import Pace


class Clock:
    """Time that passes only while somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Stand for that function."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have a step take three seconds of it."""
    clock = Clock()
    monkeypatch.setattr(steps, "time", clock)
    monkeypatch.setattr(steps, "STEP", 3.0)
    return clock


class Workers:
    """Tasks that all work at one pace; notes who has worked and in which turn of the loop."""

    def __init__(self, clock: Clock) -> None:
        self.pace = Pace()
        self.worked: list[tuple[int, int]] = []  # turn of the loop, user
        self._clock = clock
        self._turn = 0

    def start(self, uid: int, times: int = 1, cost: float = 1.0) -> "asyncio.Task[None]":
        """Have one work so many times, for so many seconds each."""

        async def work() -> None:
            for _ in range(times):
                await self.pace.turn()
                self.worked.append((self._turn, uid))
                self._clock.now += cost

        with acting(Caller(uid, None, "")):
            return asyncio.ensure_future(work())

    async def finish(self, tasks: "list[asyncio.Task[None]]") -> None:
        """Wait for all, counting the turns of the loop."""
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            self._turn += 1
        for task in tasks:
            task.result()

    def in_turn(self, turn: int) -> int:
        """Return how many have worked in a turn."""
        return sum(each == turn for each, _ in self.worked)


async def test_they_have_one_step_in_each_turn_of_the_loop(clock: Clock) -> None:
    workers = Workers(clock)
    await workers.finish([workers.start(1000, 3) for _ in range(400)])
    assert len(workers.worked) == 1200
    assert {workers.in_turn(turn) for turn, _ in workers.worked} == {3}


async def test_costly_ones_have_a_turn_each(clock: Clock) -> None:
    workers = Workers(clock)
    await workers.finish([workers.start(uid, 5, cost=9.0) for uid in (0, 1000, 1000, 1000)])
    turns = [turn for turn, _ in workers.worked]
    assert len(set(turns)) == len(turns) == 20


async def test_another_users_one_is_next(clock: Clock) -> None:
    """Whatever one user's many cost: it waits for those who were let in with it, and no longer."""
    for cost in (0.1, 1.0, 9.0):
        workers = Workers(clock)
        many = [workers.start(1000, 2, cost) for _ in range(400)]
        await asyncio.sleep(0)
        one = workers.start(0)
        await workers.finish([*many, one])
        place = [uid for _, uid in workers.worked].index(0)
        before = workers.in_turn(0)
        assert place <= before + 2 * steps.MOST_LET_IN


async def test_nobody_is_passed_over(clock: Clock) -> None:
    """Those who always come anew do not keep out those for whom there was no time."""
    workers = Workers(clock)
    busy = [workers.start(1000, 40, cost=9.0) for _ in range(3)]
    await asyncio.sleep(0)
    waiting = [workers.start(1001, cost=9.0) for _ in range(20)]
    await workers.finish([*busy, *waiting])
    last = max(place for place, (_, uid) in enumerate(workers.worked) if uid == 1001)
    assert last <= 2 * len(waiting) + len(busy)


async def test_who_waits_no_longer_takes_nobodys_time(clock: Clock) -> None:
    for after in range(12):
        workers = Workers(clock)
        tasks = [workers.start(uid, 2, cost=9.0) for uid in (0, 0, 1000, 1000, 0)]
        for _ in range(after):
            await asyncio.sleep(0)
        for task in tasks[1:4]:
            task.cancel()
        await workers.finish([tasks[0], tasks[4]])
        assert len(workers.worked) >= 4


async def test_one_alone_waits_for_nothing(clock: Clock) -> None:
    workers = Workers(clock)
    await workers.finish([workers.start(0, 3)])
    assert [turn for turn, _ in workers.worked] == [0, 0, 0]
    assert not workers.pace._crowded
