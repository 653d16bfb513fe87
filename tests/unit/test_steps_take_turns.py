"""A user who asks for many long answers has one of them between two of another's."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from papa_dbus.service import steps
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.steps import AT_ONCE, Chores, Steps
from tests.support import turns


@pytest.fixture(autouse=True)
def _tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP", 0.0)


def ask(work: Steps, uid: int, served: list[int], length: int = 20) -> "asyncio.Future[None]":
    with acting(Caller(uid, None, "")):
        answer = work.take(iter(range(length)), lambda some: None, lambda: served.append(uid))
        assert answer is not None
        return asyncio.ensure_future(answer)


async def test_one_users_many_do_not_delay_anothers_one() -> None:
    work, served = Steps(), list[int]()
    flood = [ask(work, 1000, served) for _ in range(50)]
    await turns(3)
    await asyncio.gather(ask(work, 0, served), ask(work, 1, served))
    assert served[:3] == [1000, 1000, 0]
    await asyncio.gather(*flood)
    assert len(served) == 52


async def test_who_waits_no_longer_keeps_nobodys_turn() -> None:
    """Be it that it is cancelled while it waits, when it has just been given its turn, or in its turn."""
    for after in range(40):
        work, served = Steps(), list[int]()
        asked = [ask(work, uid, served) for uid in (0, 0, 1000, 1000, 0)]
        await turns(after)
        for each in asked[1:4]:
            each.cancel()
        for each in asked:
            with contextlib.suppress(asyncio.CancelledError):
                await each
        await ask(work, 1, served)
        assert served[-1] == 1


def parts(uid: int, served: list[int], length: int) -> Iterator[None]:
    for _ in range(length):
        served.append(uid)
        yield


async def test_chores_of_users_take_turns() -> None:
    """What one has is done one after the other, and another's goes on beside it."""
    chores, served = Chores(), list[int]()
    done = []
    for uid in (1000, 1000, 1000, 0, 1):
        with acting(Caller(uid, None, "")):
            done.append(chores.add(parts(uid, served, 20)))
    while not all(each.done() for each in done[3:]):
        await turns()
    assert not done[0].done() or not done[1].done()
    assert served[:6] == [1000, 0, 1, 1000, 0, 1]
    await asyncio.gather(*done)
    assert (served.count(1000), served.count(0), served.count(1)) == (60, 20, 20)


async def test_of_a_chore_much_is_done_at_once() -> None:
    chores, served = Chores(), list[int]()
    assert chores.begin(parts(0, served, AT_ONCE - 1)) is None
    assert len(served) == AT_ONCE - 1
    done = chores.begin(parts(1, served, AT_ONCE + 1))
    assert done is not None
    assert served.count(1) == AT_ONCE
    await done
    assert served.count(1) == AT_ONCE + 1


async def test_a_chore_that_fails_says_so_and_the_others_are_done() -> None:
    chores, served = Chores(), list[int]()
    done = [chores.add(part) for part in (parts(0, served, 2), (1 // 0 for _ in "a"), parts(1, served, 2))]
    with pytest.raises(ZeroDivisionError):
        await done[1]
    await done[2]
    assert served == [0, 0, 1, 1]
