"""A user who asks for many long answers has one of them between two of another's."""

import asyncio
import contextlib

import pytest

from papa_dbus.service import steps
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.steps import Steps
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
