"""Look-ups in threads: a few of each user, and nobody waits for what hangs."""

import asyncio
import subprocess
import sys
import threading

import pytest

from papa_dbus.errors import Limit
from papa_dbus.service.lookups import MAX_ALL, MAX_OF_USER, Lookups
from tests.support import PATIENCE


async def test_the_answer_or_the_error_comes() -> None:
    lookups = Lookups()
    assert await lookups.ask(1, lambda: "answer", PATIENCE) == "answer"
    with pytest.raises(ZeroDivisionError):
        await lookups.ask(1, lambda: 1 / 0, PATIENCE)


async def test_one_user_holds_up_no_other() -> None:
    lookups, release, before = Lookups(), threading.Event(), threading.active_count()
    mine = [asyncio.ensure_future(lookups.ask(1, lambda: release.wait(PATIENCE), PATIENCE)) for _ in range(MAX_ALL)]
    await asyncio.sleep(0)
    assert threading.active_count() <= before + MAX_OF_USER
    assert await lookups.ask(2, lambda: "served", PATIENCE) == "served"
    with pytest.raises(TimeoutError):
        await lookups.ask(1, lambda: "late", 0.01)
    release.set()
    assert await asyncio.gather(*mine) == [True] * MAX_ALL
    assert await lookups.ask(1, lambda: "served", PATIENCE) == "served"


async def test_a_question_that_nobody_waits_for_keeps_its_place_until_it_is_answered() -> None:
    lookups, release = Lookups(), threading.Event()
    for _ in range(MAX_OF_USER):
        with pytest.raises(TimeoutError):
            await lookups.ask(1, lambda: release.wait(PATIENCE), 0.01)
    with pytest.raises(TimeoutError):
        await lookups.ask(1, lambda: "no place", 0.01)
    release.set()
    assert await lookups.ask(1, lambda: "served", PATIENCE) == "served"


async def test_where_no_thread_can_be_started_it_is_an_error_and_the_next_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookups = Lookups()
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", start)
        for _ in range(2 * MAX_OF_USER):
            with pytest.raises(Limit, match="no thread can be started"):
                await lookups.ask(1, lambda: "never", PATIENCE)
    assert await lookups.ask(1, lambda: "served", PATIENCE) == "served"


def test_papad_ends_while_one_hangs() -> None:
    script = """
import asyncio, threading
from papa_dbus.service.lookups import Lookups
async def main():
    try:
        await Lookups().ask(1, threading.Event().wait, 0.01)
    except TimeoutError:
        print("late")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout == b"late\n"
