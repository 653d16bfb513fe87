"""What happens at a bound for which no other test is: the numbers are lowered, so that it is soon reached."""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from papa_dbus import schema
from papa_dbus.bus import Message
from papa_dbus.errors import AccessDenied, InvalidArgs, Limit, NoReply, Spawn
from papa_dbus.service import limits
from papa_dbus.service.access import group_members, polkit
from papa_dbus.service.access import policy as access_policy
from papa_dbus.service.access.policy import Right
from papa_dbus.service.caller import Caller
from papa_dbus.service.dbus.authorization import _ASK_TIMEOUT, Authorization
from papa_dbus.service.dbus.in_flight import Flight, Flights
from papa_dbus.service.fork.exit_status import NOT_YET_REAPED
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec, WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.process import hosted as process_hosted
from papa_dbus.service.shares import Share, Shares
from papa_dbus.service.systemd import fd_store as systemd_fd_store
from papa_dbus.service.systemd import scopes as systemd_scopes
from tests.support import PATIENCE, Reader, children, run


def test_what_nobody_asks_otherwise_for() -> None:
    assert ProcessSpec("p", ("true",)).bufsize == limits.DEFAULT_BUFSIZE
    assert WatchSpec().window == limits.DEFAULT_WINDOW
    assert SocketSpec("s").backlog == limits.DEFAULT_BACKLOG


@pytest.mark.parametrize(
    ("option", "most"),
    [
        ("memory_max", schema.MAX_MEMORY_MAX),
        ("cpu_quota", schema.MAX_CPU_QUOTA),
        ("tasks_max", schema.MAX_TASKS_MAX),
        ("bufsize", schema.MAX_BUFSIZE),
    ],
)
def test_an_option_that_is_too_large_is_named(option: str, most: int) -> None:
    asked: Mapping[str, int] = {option: most}
    ProcessSpec("p", ("true",), **asked)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgs, match=f"option '{option}': {most + 1} is out of range"):
        ProcessSpec("p", ("true",), **{option: most + 1})  # type: ignore[arg-type]


def test_a_window_that_is_too_large_is_named() -> None:
    WatchSpec(window=schema.MAX_WINDOW)
    with pytest.raises(InvalidArgs, match="option 'window'"):
        WatchSpec(window=schema.MAX_WINDOW + 1)


# -------------------------------------------------------- processes and watches


async def test_a_program_that_does_not_start_in_time_is_an_error(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop(pid: int, name: str, resources: Mapping[str, int]) -> None:
        os.kill(pid, signal.SIGSTOP)

    monkeypatch.setattr(limits, "START_TIMEOUT", 0.01)
    kernel.assign_scope = stop
    with pytest.raises(Spawn, match="it did not start in 0 s"):
        await run(kernel, "true")
    assert not children()
    assert kernel.list_processes() == []


# ---------------------------------------------------- what several share


@pytest.mark.parametrize(
    ("of_one", "of_user", "in_all", "found"),
    [(2, 100, 1000, [2, 4, 12]), (100, 6, 1000, [3, 5, 15]), (100, 100, 8, [4, 4, 7])],
    ids=["of one", "of a user", "of all"],
)
def test_nobody_has_more_than_is_left_for_the_others(of_one: int, of_user: int, in_all: int, found: list[int]) -> None:
    """What one, two of a user, and two of each of three users get, who take as much as they can, in turn."""
    shares = Shares(of_one, of_user, in_all)
    kept: list[Share] = []

    def take_all(uid: int, name: str) -> None:
        kept.append(share := shares.of(uid, name))
        while share.has_room():
            share.take()

    take_all(1, "a")
    have = [sum(share.held for share in kept)]
    take_all(1, "b")
    have.append(sum(share.held for share in kept))
    for uid in (2, 3):
        for name in "ab":
            take_all(uid, name)
    have.append(sum(share.held for share in kept))
    assert have == found
    assert all(share.held for share in kept[::2])  # whoever came next found room


def test_what_is_on_its_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one client, of a user and of all; and what clients that have read all get beyond that."""
    share = limits.FLIGHT_SHARE
    bounds = {"FLIGHT_OF_CLIENT": 3, "FLIGHT_OF_USER": 4, "FLIGHT": 6, "SHARES_OF_USER": 2, "SHARES": 3}
    for name, most in bounds.items():
        monkeypatch.setattr(limits, f"MAX_{name}", most * share)
    flights, sent = Flights(), Counter[int]()
    clients: list[Flight] = []

    def send_all(uid: int, little: bool = False) -> int:
        """Send a new client of a user all that it may have, a share at a time."""
        clients.append(flight := Flight(uid))
        while room := flights.room(flight, share, little):
            flight.add(sum(sent.values()) + 1, room, (1, "p"), 1)
            flights.count(flight)
            sent[uid] += 1
        return flight.bytes // share

    assert send_all(1) == 3  # its own bound
    assert send_all(1) == 1  # its user's
    assert [send_all(1) for _ in range(3)] == [1, 1, 0]  # each a little, as far as the user's bound for that goes
    assert [send_all(2) for _ in range(4)] == [1, 1, 1, 0]  # that of all
    assert sent == {1: 6, 2: 3}
    flights.drop(clients[0])
    assert send_all(2) > 0
    flights = Flights()
    assert send_all(1, little=True) == 4  # watches of which little is on its way go on up to the user's bound


# ------------------------------------------------------- the user database


class Directory:
    """A user database in which all are members; it does not answer until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.asked = 0
        monkeypatch.setattr(group_members, "is_member", self._is_member)

    def _is_member(self, group: str, uid: int) -> bool:
        self.asked += 1
        assert self.answers.wait(PATIENCE)
        return True


async def test_questions_about_members_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_members, "MAX_ASKED_MEMBERS", 2)
    directory, members = Directory(monkeypatch), group_members.Members("papa")
    directory.answers.set()
    for uid in range(5):
        assert await members.has(uid)
    directory.answers.clear()
    directory.asked = 0
    monkeypatch.setattr(group_members, "_stamp", lambda: (None,))  # all answers are too old
    asked = [asyncio.ensure_future(members.has(uid)) for uid in range(5)]
    async with asyncio.timeout(PATIENCE):
        while directory.asked < 2:
            await asyncio.sleep(0)
    assert len(members._asked) == 2
    directory.answers.set()
    assert await asyncio.gather(*asked) == [True] * 5


async def test_who_was_a_member_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_members, "MAX_KNOWN_MEMBERS", 2)
    directory, members = Directory(monkeypatch), group_members.Members("papa")
    directory.answers.set()
    for uid in (1, 2, 3):
        assert await members.has(uid)
    assert [members.was_member(uid) for uid in (1, 2, 3)] == [False, True, True]
    monkeypatch.setattr(group_members, "REMEMBERED", 0.0)
    assert not members.was_member(3)


# ------------------------------------------- what does not answer on the bus


class DeafBus:
    """A bus on which nobody answers; it notes how long papad would wait."""

    def __init__(self) -> None:
        self.on_connected: list[Any] = []
        self.on_signal: list[Any] = []
        self.connected = True
        self.timeout: float | None = None

    async def call(self, *of: Any) -> Any:
        """Wait for as long as papad does, which takes no time here."""
        if len(of) > 6:
            self.timeout = of[6]
            raise NoReply("nobody answers")
        await asyncio.Event().wait()


async def test_a_polkit_that_does_not_answer_lets_nobody_in() -> None:
    bus = DeafBus()
    ask = polkit.Polkit(bus)  # type: ignore[arg-type]
    for interactive, seconds in ((False, polkit.TIMEOUT), (True, polkit.PERSON_TIMEOUT)):
        assert not await ask(":1.7", Right.INSPECT, interactive)
        assert bus.timeout == seconds


async def test_whom_polkit_has_authorized_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def yes(name: str, right: Right, interactive: bool) -> bool:
        return True

    monkeypatch.setattr(access_policy, "_MAX_NOTED", 2)
    rules = access_policy.Access("no-group-of-that-name", yes)
    for number in range(9):
        caller = Caller(65534, 5, f":1.{number}")
        await rules.check(caller)
        assert rules.admits(caller)
        assert len(rules._authorized) <= 2


async def test_a_caller_of_whom_the_bus_says_nothing_is_refused() -> None:
    bus, answered = DeafBus(), asyncio.get_running_loop().create_future()
    authorization = Authorization(
        bus,  # type: ignore[arg-type]
        access_policy.Access(),
        lambda call: (Right.MANAGE,),
        lambda call, caller: answered.set_result(caller),
        lambda call, error: answered.set_result(error),
    )
    call = Message(destination="a.b", path="/a", interface="a.b", member="M")
    call.sender, call.size, call.rest = ":1.7", 100, None
    authorization.submit(call)
    error = await asyncio.wait_for(answered, PATIENCE)
    assert isinstance(error, AccessDenied)
    assert bus.timeout == _ASK_TIMEOUT


async def test_a_scope_that_systemd_does_not_start_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process starts without one, which the journal says; one with a limit is not started."""
    monkeypatch.setattr(systemd_scopes, "_SCOPE_TIMEOUT", 0.0)
    scopes = systemd_scopes.Scopes(DeafBus())  # type: ignore[arg-type]
    scopes._available, scopes._manager = True, ":1.0"
    assert await scopes.assign_scope(os.getpid(), "p", {}) is None
    assert "systemd did not start papa-p.scope in 0 s" in caplog.text
    with pytest.raises(Spawn, match="systemd did not start papa-p.scope in 0 s"):
        await scopes.assign_scope(os.getpid(), "p", {"tasks_max": 5})


async def test_an_exit_code_is_waited_for_and_then_not_known(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart systemd is the parent, and papad may have to wait until it has reaped the process."""
    monkeypatch.setattr(process_hosted, "_LOOKS_SECONDS", 0.0)
    monkeypatch.setattr(process_hosted, "poll_exit_status", lambda pidfd: NOT_YET_REAPED)
    info = await run(kernel, "true")
    reader = Reader(kernel, ["p"])
    await reader.until_exited()
    assert [end.known for end in reader.ends] == [False]
    os.waitpid(info.pid, 0)


def test_the_names_of_what_is_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come back in one variable of the environment, and nothing would come back with one that is too long."""
    monkeypatch.setattr(systemd_fd_store, "_MAX_NAMES", 10)
    monkeypatch.setenv("FDSTORE", "100")
    store = systemd_fd_store.SystemdFdStore()
    store.adopt({"s123456": [0]}, {"s123456": 1})
    with pytest.raises(Limit, match="the names of all kept descriptors have 10 bytes at most"):
        store.store("s12", [0])
