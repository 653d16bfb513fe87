"""Look-ups in threads: a few of each user, and nobody waits for what hangs."""

import asyncio
import grp
import pwd
import socket
import subprocess
import sys
import threading

import pytest

from papa_dbus.errors import Bind, Limit, Spawn
from papa_dbus.service import limits
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.lookups import MAX_ALL, MAX_OF_USER, Lookups
from tests.support import PATIENCE, run


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


async def test_all_users_together_have_so_many() -> None:
    lookups, release, before = Lookups(), threading.Event(), threading.active_count()
    users = range(2 * MAX_ALL // MAX_OF_USER)
    asked = [
        asyncio.ensure_future(lookups.ask(user, lambda: release.wait(PATIENCE), PATIENCE))
        for user in users
        for _ in range(MAX_OF_USER)
    ]
    await asyncio.sleep(0)
    assert threading.active_count() <= before + MAX_ALL
    with pytest.raises(TimeoutError):
        await lookups.ask("another", lambda: "no place", 0.01)
    release.set()
    assert await asyncio.gather(*asked) == [True] * 2 * MAX_ALL
    assert await lookups.ask("another", lambda: "served", PATIENCE) == "served"


async def test_what_is_not_said_in_time_is_an_error(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user database, and of a name server."""
    release = threading.Event()

    def hang(*of: object) -> None:
        release.wait(PATIENCE)
        raise KeyError

    def resolve(*of: object) -> None:
        if socket.AI_NUMERICHOST in of:  # which asks nobody
            raise socket.gaierror
        hang()

    for name in ("LOOKUP_TIMEOUT", "RESOLVE_TIMEOUT"):
        monkeypatch.setattr(limits, name, 0.01)
    monkeypatch.setattr(pwd, "getpwnam", hang)
    monkeypatch.setattr(grp, "getgrnam", hang)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for option in ("uid", "gid"):
        with pytest.raises(Spawn, match=f"option '{option}': no word of 'mary' from the user database in 0 s"):
            await run(kernel, "true", **{option: "mary"})
    with pytest.raises(Bind, match="option 'host': 'web.example' was not resolved in 0 s"):
        await kernel.make_socket(SocketSpec("s", host="web.example"))
    assert kernel.list_processes() == []
    assert kernel.list_sockets() == []
    release.set()


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
