"""Who is let in: the rules, with this machine's real users and groups."""

import asyncio
import os
import pwd
import threading

import pytest

from papa_dbus.errors import AccessDenied, Limit
from papa_dbus.service import log_budget
from papa_dbus.service.access import group_members
from papa_dbus.service.access.policy import Access, Right
from papa_dbus.service.caller import Caller
from tests.support import PATIENCE, turns

#: A system user of every Debian, whose own group has its name.
DAEMON = pwd.getpwnam("daemon")
NOBODY = 65534


def caller(uid: int, at: str = ":1.7") -> Caller:
    return Caller(uid, 42, at)


async def test_root_and_its_own_user_are_always_served() -> None:
    for entry in (Access(), Access("papa-no-such-group")):
        for uid in (0, os.geteuid()):
            assert entry.admits(caller(uid))
            await entry.check(caller(uid))


@pytest.mark.root
async def test_the_group_is_served_where_there_is_one() -> None:
    await Access(DAEMON.pw_name).check(caller(DAEMON.pw_uid))
    for entry in (Access(), Access("nogroup"), Access("papa-no-such-group")):
        with pytest.raises(AccessDenied, match=f"serves root.*; you are user {DAEMON.pw_uid}"):
            await entry.check(caller(DAEMON.pw_uid))
    with pytest.raises(AccessDenied, match="root and the group nogroup"):
        await Access("nogroup").check(caller(DAEMON.pw_uid))


async def test_a_user_without_a_name_is_no_member() -> None:
    with pytest.raises(AccessDenied):
        await Access("root").check(caller(4_000_000_000))


async def test_an_answer_is_used_until_the_database_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [DAEMON.pw_gid, 65534]
    monkeypatch.setattr(group_members, "groups_of", lambda name, gid: list(groups))
    monkeypatch.setattr(group_members, "FRESH", 1000.0)
    entry = Access("nogroup")
    assert not entry.admits(caller(DAEMON.pw_uid))  # not known yet
    await entry.check(caller(DAEMON.pw_uid))
    assert entry.admits(caller(DAEMON.pw_uid))
    groups.pop()
    await entry.check(caller(DAEMON.pw_uid))  # no file has changed
    monkeypatch.setattr(group_members, "_stamp", lambda: ((1, 2, 3),))
    assert not entry.admits(caller(DAEMON.pw_uid))
    with pytest.raises(AccessDenied):
        await entry.check(caller(DAEMON.pw_uid))


async def test_a_database_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(group: str, uid: int) -> bool:
        release.wait(PATIENCE)
        return True

    monkeypatch.setattr(group_members, "is_member", hang)
    monkeypatch.setattr(group_members, "TIMEOUT", 0.2)
    entry = Access("daemon")
    asked = [
        asyncio.ensure_future(entry.check(caller(uid))) for uid in range(1001, 1001 + group_members.MAX_ASKED_OF_RANGE)
    ]
    await turns()
    await entry.check(caller(0))  # root is known without it
    waiting = asyncio.ensure_future(entry.check(caller(5000)))
    again = asyncio.ensure_future(entry.check(caller(1001)))
    for error in await asyncio.gather(*asked, waiting, again, return_exceptions=True):
        assert isinstance(error, AccessDenied)
        assert "did not say in 0 s" in str(error)
    release.set()
    monkeypatch.setattr(group_members, "TIMEOUT", PATIENCE)
    await entry.check(caller(1001))  # the same question, answered by now


async def test_polkit_is_asked_last_and_only_for_callers_on_the_bus() -> None:
    asked = []

    async def polkit(name: str, right: Right, interactive: bool) -> bool:
        asked.append((name, right, interactive))
        return right is Right.INSPECT

    entry = Access("nogroup", polkit)
    await entry.check(caller(0))
    assert asked == []
    await entry.check(caller(DAEMON.pw_uid), Right.INSPECT)
    assert entry.admits(caller(DAEMON.pw_uid), Right.INSPECT)
    assert not entry.admits(caller(DAEMON.pw_uid), Right.MANAGE)
    assert not entry.admits(caller(DAEMON.pw_uid, ":1.8"), Right.INSPECT)
    with pytest.raises(AccessDenied):
        await entry.check(caller(DAEMON.pw_uid), Right.MANAGE, interactive=True)
    assert asked == [(":1.7", Right.INSPECT, False), (":1.7", Right.MANAGE, True)]
    with pytest.raises(AccessDenied):
        await entry.check(caller(DAEMON.pw_uid, "127.0.0.1:4711"), Right.INSPECT)
    assert len(asked) == 2


async def test_refusals_of_all_users_have_one_budget(caplog: pytest.LogCaptureFixture) -> None:
    entry = Access()
    narrow = entry.without_group(" on this port", "use sudo")
    for uid in range(100_000, 100_600):  # a user's subordinate uids
        (entry if uid % 2 else narrow).note_refusal(caller(uid), Limit("too many"))
    assert [record.message for record in caplog.records] == [
        f"uid {uid} (PID 42, :1.7) was refused: too many" for uid in range(100_000, 100_000 + log_budget.MAX_RECORDS)
    ]
    assert caplog.records[0].__dict__["PAPA_CALLER_UID"] == "100000"
