"""The callers whom an administrator lets papad serve on its port, and the bounds that keep them from each other."""

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from papa_dbus.errors import JOIN
from papa_dbus.service.__main__ import arguments
from papa_dbus.service.access import group_members
from papa_dbus.service.access.policy import Access
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line import handover
from papa_dbus.service.line import server as line_server
from papa_dbus.service.line import session as line_session
from papa_dbus.service.line.server import LineServer, PortFor
from tests.support import PATIENCE, until

pytestmark = pytest.mark.root

#: A system user of every Debian, whose own group has its name.
DAEMON, BIN, STRANGER = 1, 2, 65534
GROUP = "daemon"


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Be another user meanwhile, for Linux's purposes: what is made is that user's."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class Visitor:
    """A connection of a user's in the test's own loop."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self._data = b""

    async def until(self, end: bytes) -> bytes:
        """Read up to an end, with it, or to the connection's."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while end not in self._data and (data := await loop.sock_recv(self.sock, 65536)):
                self._data += data
        before, found, self._data = self._data.partition(end)
        return before + found

    async def rest(self) -> bytes:
        """Read to the connection's end."""
        return await self.until(b"there is no such text")

    async def welcomed(self) -> bool:
        """Return whether Papa is home."""
        return (await self.until(b"> ")).startswith(b"Papa is home")

    async def ask(self, line: str) -> bytes:
        """Send a line, and return the reply."""
        await asyncio.get_running_loop().sock_sendall(self.sock, line.encode() + b"\n")
        return await self.until(b"> ")


class House:
    """A front end with a port and a Unix socket, in the test's own loop."""

    def __init__(self, folder: Path) -> None:
        for part in [folder, *folder.parents][:-2]:
            part.chmod(part.stat().st_mode | 0o111)
        self.path = str(folder / "line")
        self.access = Access(GROUP)
        self._visitors: list[Visitor] = []
        self._kernels: list[Kernel] = []

    async def open(self, port_for: PortFor = PortFor.MEMBERS) -> None:
        """Listen."""
        self._kernels.append(Kernel())
        self.server = LineServer(self._kernels[-1], self.access, port_for)
        sockets = [*self.server.bind(0), self.server.bind_unix(self.path)]
        self.port = sockets[0].getsockname()[1]
        await self.server.start(sockets)

    def connect(self, uid: int, unix: bool = False) -> Visitor:
        """Connect as a user."""
        with as_user(uid):
            sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            sock.connect(self.path if unix else ("127.0.0.1", self.port))
        self._visitors.append(Visitor(sock))
        return self._visitors[-1]

    async def close(self) -> None:
        """End everything."""
        await self.server.stop()
        assert not self.server._sessions
        assert not self.server._arriving
        assert not self.server._users
        assert not self.server._places
        for visitor in self._visitors:
            visitor.sock.close()
        for kernel in self._kernels:
            kernel.close()


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A house; the test opens it. Its members are a directory's, and not the local files'."""
    monkeypatch.setattr(group_members, "local_members", lambda group: frozenset())
    house = House(tmp_path)
    yield house
    await house.close()


@pytest.mark.parametrize(
    ("port_for", "served", "told"),
    [
        (
            PortFor.MEMBERS,
            (0, DAEMON),
            f"papad serves root and the group {GROUP}; you are user {STRANGER}: {JOIN}",
        ),
        (
            PortFor.ROOT,
            (0,),
            "papad serves root on this port (--port-for root); you are user {}: use sudo, or the message bus",
        ),
        (PortFor.NONE, (), "papad serves nobody on this port (--port-for none): use the message bus"),
    ],
)
async def test_who_is_served_on_the_port(
    house: House, port_for: PortFor, served: tuple[int, ...], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    await house.open(port_for)
    for uid in (0, DAEMON, STRANGER):
        visitor = house.connect(uid)
        if uid in served:
            assert await visitor.welcomed()
            assert await visitor.ask("set a 1") == b"\n> "
        else:
            assert (await visitor.rest()).decode() == f"Error: {told.format(uid)}\n> "
    for uid in (0, DAEMON):  # the Unix socket is the members' in any case
        assert await house.connect(uid, unix=True).welcomed()
    assert (f"uid {STRANGER} " in caplog.text) is (port_for is not PortFor.NONE)


@pytest.mark.parametrize("port_for", [PortFor.ROOT, PortFor.NONE])
async def test_a_connection_that_is_handed_over_obeys_the_new_papads_option(house: House, port_for: PortFor) -> None:
    await house.open()
    visitor = house.connect(DAEMON)
    assert await visitor.welcomed()
    assert await visitor.ask("set a 1") == b"\n> "
    before = house.server
    listening, connections = await before.hand_over()
    for fd in listening:
        os.close(fd)
    await house.open(port_for)
    await house.server.adopt(connections)
    assert (await visitor.rest()).startswith(b"Error: papad serves ")
    await before.stop()


def test_the_option_is_one_of_three(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments([]).port_for == "members"
    assert arguments(["--port-for", "none"]).port_for == "none"
    with pytest.raises(SystemExit):
        arguments(["--port-for", "everybody"])
    assert "--port-for: invalid choice: 'everybody'" in capsys.readouterr().err


# ------------------------------------------------------------------- what keeps users from each other


class Question:
    """The user database's answer, which takes as long as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, access: Access) -> None:
        assert access._members is not None
        self._answer = asyncio.Event()
        monkeypatch.setattr(access._members, "has", self._has)
        self.members = {DAEMON}

    async def _has(self, uid: int) -> bool:
        await self._answer.wait()
        return uid in self.members

    def answer(self) -> None:
        """Answer from now on."""
        self._answer.set()


async def test_22_strangers_fill_no_place_while_the_directory_is_slow(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_server, "MAX_ARRIVING", 6)
    monkeypatch.setattr(line_server, "MAX_ARRIVING_OF_USER", 2)
    await house.open()
    assert await house.access._members.has(DAEMON)  # type: ignore[union-attr]
    monkeypatch.setattr(group_members, "FRESH", 0.0)
    question = Question(monkeypatch, house.access)
    strangers = [house.connect(uid) for uid in (STRANGER, STRANGER, 100_000, 100_001)]
    await until(lambda: len(house.server._arriving) == len(strangers), "strangers")
    for uid in (STRANGER, 100_002):
        assert b"too many connections wait" in await house.connect(uid).rest()
    assert house.server.connections == 0
    assert await house.connect(0).welcomed()
    member = house.connect(DAEMON)  # who was one a moment ago does not wait among strangers
    await until(lambda: house.server.connections == 2, "member")
    question.answer()
    assert await member.welcomed()
    for stranger in strangers:
        assert b"you are user" in await stranger.rest()


async def test_22_users_of_one_range_leave_places_to_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's 65,536 subordinate ones have half of all places together, those of a second range half of the rest."""
    monkeypatch.setattr(line_server, "MAX_ARRIVING", 16)
    monkeypatch.setattr(line_server, "MAX_ARRIVING_OF_RANGE", 8)
    await house.open()
    question = Question(monkeypatch, house.access)
    strangers: list[Visitor] = []
    for first, places in ((100_000, 8), (165_536, 4)):
        strangers.extend(house.connect(first + number) for number in range(places))
        await until(lambda: len(house.server._arriving) == len(strangers), "strangers")
        for number in (0, 1000):
            assert b"too many connections wait" in await house.connect(first + number).rest()
    member = house.connect(DAEMON)
    await until(lambda: len(house.server._arriving) == len(strangers) + 1, "member")
    question.answer()
    assert await member.welcomed()
    for stranger in strangers:
        assert b"you are user" in await stranger.rest()


async def test_22_what_strangers_send_stays_with_linux(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.open()
    question = Question(monkeypatch, house.access)
    visitor = house.connect(DAEMON)
    await until(lambda: house.server._arriving, "visitor")
    (session,) = house.server._arriving
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 64 * 1024 * 1024:
            sent += visitor.sock.send(b"set a 1\n" * 8192)
    assert sent < 64 * 1024 * 1024
    assert not session._reader.buffered
    question.answer()
    assert await visitor.welcomed()
    assert await visitor.until(b"> ") == b"\n> "


async def test_22_a_reload_takes_along_who_is_not_admitted_yet(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.open()
    Question(monkeypatch, house.access)  # it will not be answered
    visitors = [house.connect(DAEMON), house.connect(STRANGER)]
    await until(lambda: len(house.server._arriving) == 2, "visitors")
    before = house.server
    listening, connections = await before.hand_over()
    for fd in listening:
        os.close(fd)
    monkeypatch.undo()
    await house.open()
    await house.server.adopt(connections)
    assert await visitors[0].welcomed()
    assert await visitors[0].ask("get a") == b"\n> "
    assert b"you are user" in await visitors[1].rest()
    await before.stop()


async def test_one_user_cannot_take_the_places_of_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MAX_CONNECTIONS": 12,
        "MAX_CONNECTIONS_OF_USER": 9,
        "FEW_CONNECTIONS": 2,
        "KEPT_FOR_FEW": 6,
        "KEPT_FOR_ROOT": 2,
    }.items():
        monkeypatch.setattr(line_server, name, value)
    await house.open()
    question = Question(monkeypatch, house.access)
    question.members = {DAEMON, BIN, 3, 4}
    question.answer()

    async def count(uid: int) -> int:
        count = 0
        while await house.connect(uid).welcomed():
            count += 1
        return count

    assert await count(DAEMON) == 6
    assert await count(BIN) == 2
    assert await count(3) == 2
    assert await count(4) == 0  # the last ones are root's
    assert await count(0) == 2


async def test_a_line_that_is_never_ended_ends_the_connection(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_session, "LINE_TIMEOUT", 0.0)
    await house.open()
    visitor = house.connect(0)
    assert await visitor.welcomed()
    assert await visitor.ask("get a") == b"\n> "  # between two lines there is no hurry
    visitor.sock.send(b"set a ")
    assert b"has no end" in await visitor.rest()


async def test_the_journal_says_that_a_client_has_read_no_reply(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(line_session, "WRITE_TIMEOUT", 0.1)
    await house.open()
    house._kernels[-1].set_value("a", "x" * 1_000_000)
    visitor = house.connect(0)
    assert await visitor.welcomed()
    visitor.sock.send(b"get a\n" * 100)
    await until(lambda: not house.server._sessions, "the end of its session")
    assert "a client that read no reply for 0 seconds was disconnected" in caplog.text


async def test_whoever_does_not_close_is_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_session, "LINGER", 0.0)
    await house.open()
    visitor = house.connect(0)
    assert await visitor.welcomed()
    visitor.sock.send(b"quit\n")
    await until(lambda: not house.server._sessions, "the end of its session")
    assert await visitor.rest() == b"ok\n"


async def test_37_a_connection_is_its_makers_whoever_has_it_now(house: House) -> None:
    """Linux is asked once which user made the socket at the other end; that user's rights are what is asked again."""
    await house.open()
    members, strangers = house.connect(DAEMON), house.connect(STRANGER)
    assert await members.welcomed()
    assert b"you are user" in await strangers.rest()
    os.fchown(members.sock.fileno(), STRANGER, -1)  # Linux tells of another user from now on
    assert await members.ask("set a 1") == b"\n> "


async def test_nothing_listens_for_other_machines(house: House) -> None:
    """Neither what papad binds nor what papa.socket binds for it."""
    await house.open()
    bound = house.server.bind(0)
    assert {sock.getsockname()[0] for sock in bound} == {"127.0.0.1", "::1"}
    for sock in bound:
        sock.close()
    units = Path(__file__).parents[2] / "units"
    listens = {
        folder: re.findall("^Listen.*", (units / folder / "papa.socket").read_text(), re.MULTILINE)
        for folder in ("system", "user")
    }
    assert listens == {
        "system": ["ListenStream=127.0.0.1:20202", "ListenStream=[::1]:20202"],
        "user": ["ListenStream=%t/papa/line.sock"],
    }


async def test_connections_that_come_in_a_form_of_another_version_are_told_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.open()
    visitors = [house.connect(0) for _ in range(2)]
    for visitor in visitors:
        assert await visitor.welcomed()
    before = house.server
    listening, connections = await before.hand_over()
    for fd in listening:
        os.close(fd)
    packed = handover.pack(connections)
    monkeypatch.setattr(handover, "VERSION", handover.VERSION + 1)
    connections = handover.unpack([of.fd for of in connections], packed)
    await house.open()
    await house.server.adopt(connections)
    for visitor in visitors:
        assert (await visitor.rest()).startswith(b"Error: ")
    await before.stop()
