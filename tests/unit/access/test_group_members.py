"""A user whom the user database cannot be asked about now is not out for good, and strangers keep no member out."""

import asyncio
import grp
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.errors import AccessDenied
from papa_dbus.service.access import group_members
from papa_dbus.service.group_list import groups_of
from tests.support import PATIENCE, until

DAEMON = pwd.getpwnam("daemon")
GROUP = grp.getgrgid(DAEMON.pw_gid).gr_name


class Directory:
    """A user database that does not answer about some users until it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked: list[int] = []
        self.slow = range(20_000, 90_000)

    def is_member(self, group: str, uid: int) -> bool:
        """Answer as the machine's own database does, unless the user is one of the slow ones."""
        assert group == GROUP
        self.asked.append(uid)
        if uid in self.slow:
            self.answers.wait(PATIENCE)
        return uid == DAEMON.pw_uid


@pytest.fixture(autouse=True)
def _nobody_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everybody come from the directory, although this machine's files know them."""
    monkeypatch.setattr(group_members, "local_members", lambda group: frozenset())


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    """A directory in the place of the machine's own."""
    directory = Directory()
    monkeypatch.setattr(group_members, "is_member", directory.is_member)
    yield directory
    directory.answers.set()


async def until_all_slots_are_taken(directory: Directory) -> None:
    """Wait until the directory has been asked about as many strangers as it may be at a time."""
    await until(lambda: len(directory.asked) >= group_members.MAX_ASKED_OF_RANGE, "questions")


async def test_18_a_thread_that_cannot_be_started_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    members = group_members.Members(GROUP)

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        for uid in (DAEMON.pw_uid, *range(20_000, 20_000 + 2 * group_members.MAX_ASKED_OF_RANGE)):
            with pytest.raises(AccessDenied, match="no thread left"):
                await members.has(uid)
    assert await members.has(DAEMON.pw_uid)
    for uid in range(20_000, 20_000 + 2 * group_members.MAX_ASKED_OF_RANGE):
        assert not await members.has(uid)


async def test_18_a_question_that_fails_gives_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(uid: int) -> None:
        raise MemoryError

    members = group_members.Members(GROUP)
    with monkeypatch.context() as patch:
        patch.setattr(pwd, "getpwuid", broken)
        for uid in range(20_000, 20_000 + 2 * group_members.MAX_ASKED_OF_RANGE):
            assert not await members.has(uid)
    assert await members.has(DAEMON.pw_uid)


async def test_22_strangers_keep_no_member_out(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = [0]
    monkeypatch.setattr(group_members, "_stamp", lambda: tuple(stamp))
    members = group_members.Members(GROUP)
    assert await members.has(DAEMON.pw_uid)
    directory.asked.clear()
    strangers = [asyncio.ensure_future(members.has(20_000 + number)) for number in range(1000)]
    await until_all_slots_are_taken(directory)
    for number in range(1, 4):
        stamp[0] = number  # so that the answer is too old
        assert members.known(DAEMON.pw_uid) is None
        assert await members.has(DAEMON.pw_uid)
    assert len(set(directory.asked) - {DAEMON.pw_uid}) == group_members.MAX_ASKED_OF_RANGE
    directory.answers.set()
    assert not any(await asyncio.gather(*strangers))


async def test_22_strangers_of_one_range_keep_no_member_of_another_out_after_a_restart(directory: Directory) -> None:
    """papad remembers nobody then: thousands of one user's subordinate users come before the member."""
    members = group_members.Members(GROUP)
    directory.slow = range(100_000, 165_536)
    strangers = [asyncio.ensure_future(members.has(uid)) for uid in range(100_000, 165_536, 32)]
    await until(lambda: len(directory.asked) == 2 * group_members.MAX_ASKED_OF_RANGE, "questions")
    assert await members.has(DAEMON.pw_uid)
    assert len(directory.asked) == 2 * group_members.MAX_ASKED_OF_RANGE + 1
    directory.answers.set()
    assert not any(await asyncio.gather(*strangers))


async def test_22_a_stranger_waits_for_a_slot_and_no_longer_than_for_an_answer(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = group_members.Members(GROUP)
    strangers = [
        asyncio.ensure_future(members.has(20_000 + number)) for number in range(group_members.MAX_ASKED_OF_RANGE)
    ]
    await until_all_slots_are_taken(directory)
    with monkeypatch.context() as patch:
        patch.setattr(group_members, "TIMEOUT", 0.01)
        with pytest.raises(AccessDenied, match="did not say"):
            await members.has(DAEMON.pw_uid)
    newcomer = asyncio.ensure_future(members.has(DAEMON.pw_uid))
    directory.answers.set()
    assert await newcomer
    assert not any(await asyncio.gather(*strangers))


async def test_22_strangers_do_not_push_members_out_of_what_is_remembered(directory: Directory) -> None:
    members = group_members.Members(GROUP)
    assert await members.has(DAEMON.pw_uid)
    for number in range(group_members.MAX_KNOWN_STRANGERS + 10):
        assert not await members.has(1000 + number)
    assert len(members._strangers) == group_members.MAX_KNOWN_STRANGERS
    assert members.was_member(DAEMON.pw_uid)


async def test_who_has_left_is_out_however_late_the_answer_to_an_earlier_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, asked = threading.Event(), threading.Event()
    answers = [True, False]

    def is_member(group: str, uid: int) -> bool:
        answer = answers.pop(0)
        asked.set()
        release.wait(PATIENCE)
        return answer

    stamp = ["before"]
    monkeypatch.setattr(group_members, "is_member", is_member)
    monkeypatch.setattr(group_members, "_stamp", lambda: tuple(stamp))
    members = group_members.Members(GROUP)
    first = asyncio.ensure_future(members.has(DAEMON.pw_uid))
    assert await asyncio.to_thread(asked.wait, PATIENCE)
    stamp[0] = "the user has left the group"
    second = asyncio.ensure_future(members.has(DAEMON.pw_uid))
    release.set()
    assert [await first, await second] == [False, False]
    assert not members.was_member(DAEMON.pw_uid)


_SLOW_LIBC = """
#include <grp.h>
#include <stdio.h>
#include <unistd.h>
int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count) {
    write(1, "asked\\n", 6); getchar();
    *count = 1; groups[0] = group + 1;
    return 1;
}
"""
_ASK = """
import os, threading
from papa_dbus.service.group_list import groups_of
answer = []
thread = threading.Thread(target=lambda: answer.append(groups_of("daemon", 1)), daemon=True)
thread.start()
os.write(1, b"goes on\\n")
thread.join()
print(answer)
"""


def test_a_slow_database_holds_up_its_own_thread_only(tmp_path: Path) -> None:
    """os.getgrouplist() keeps the interpreter to itself while it waits."""
    (tmp_path / "slow.c").write_text(_SLOW_LIBC)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "slow.so", "slow.c"], cwd=tmp_path, check=True)
    with subprocess.Popen(
        [sys.executable, "-c", _ASK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "LD_PRELOAD": str(tmp_path / "slow.so")},
    ) as asking:
        assert asking.stdin is not None
        assert asking.stdout is not None
        assert sorted([asking.stdout.readline(), asking.stdout.readline()]) == [b"asked\n", b"goes on\n"]
        asking.stdin.write(b"\n")
        asking.stdin.close()
        assert asking.stdout.read() == b"[[2]]\n"


def test_the_groups_are_those_of_the_machine() -> None:
    for entry in pwd.getpwall():
        assert sorted(groups_of(entry.pw_name, entry.pw_gid)) == sorted(os.getgrouplist(entry.pw_name, entry.pw_gid))
