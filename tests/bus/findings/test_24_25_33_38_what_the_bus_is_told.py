"""Nothing is announced before papad owns its name, what is held back is bounded, and a new bus's names are new."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Bus
from papa_dbus.bus.bus import HIGH_WATER
from papa_dbus.errors import Unreachable
from papa_dbus.service.access.policy import Right
from papa_dbus.service.items.specs import SocketSpec
from tests.bus.client import Client, connected
from tests.bus.findings.inside import papad_inside
from tests.bus.isolated import PrivateBus
from tests.support import PATIENCE


@pytest.fixture
def bus(tmp_path: Path) -> Any:
    bus = PrivateBus(tmp_path)
    yield bus
    bus.stop()


@pytest.fixture
async def client(bus: PrivateBus) -> Any:
    """A client that hears everything that is announced."""
    async for client in connected(bus.address):
        rule = "type='signal',path_namespace='/org/papa/Kernel'"
        driver = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        await client.bus.call(*driver, "AddMatch", "s", [rule])
        yield client


def announced(client: Client) -> set[str]:
    """The objects that are there, by what was announced."""
    there: set[str] = set()
    for signal in client.signals:
        if signal.member == "InterfacesAdded":
            assert signal.body[0] not in there
            there.add(signal.body[0])
        elif signal.member == "InterfacesRemoved":
            there.remove(signal.body[0])
    return there


def unix(folder: Path, name: str) -> SocketSpec:
    return SocketSpec(name, path=str(folder / name))


async def test_nothing_is_announced_before_the_name_is_owned(bus: PrivateBus, client: Client, tmp_path: Path) -> None:
    async with papad_inside(bus.address) as papad:
        await papad.kernel.make_socket(unix(tmp_path, "before"))
        await client.until("InterfacesAdded")

        async def make_one() -> None:
            assert not papad.bus.connected
            await papad.kernel.make_socket(unix(tmp_path, "early"))

        papad.bus.on_connected.insert(1, make_one)
        connection = papad.bus._connection
        assert connection is not None
        back = asyncio.Event()

        async def be_back() -> None:
            back.set()

        papad.bus.on_connected.append(be_back)
        connection.lose()
        async with asyncio.timeout(PATIENCE):
            await back.wait()
        await client.call("ListSockets", "as", [])  # papad answers: it is connected
        await papad.kernel.make_socket(unix(tmp_path, "late"))
        paths = [body[0] for body in await client.until("InterfacesAdded", 2)]
        assert [path.rpartition("/")[2] for path in paths] == ["before", "late"]


async def test_what_changes_while_the_bus_reads_nothing_is_told_afterwards(
    bus: PrivateBus, client: Client, tmp_path: Path
) -> None:
    async with papad_inside(bus.address) as papad:
        kernel = papad.kernel
        for name in ("stays", "goes", "changes"):
            await kernel.make_socket(unix(tmp_path, name))
        await client.until("InterfacesAdded", 3)
        bus.pause()
        connection = papad.bus._connection
        assert connection is not None
        while not papad.bus.congested:  # what is more than the socket takes
            await kernel.make_socket(unix(tmp_path, "fills"))
            kernel.remove_sockets(["fills"])
        most = connection.writer.queued
        kernel.remove_sockets(["goes", "changes"])
        await kernel.make_socket(unix(tmp_path, "changes"))
        await kernel.make_socket(unix(tmp_path, "comes"))
        for number in range(2000):
            await kernel.make_socket(unix(tmp_path, f"passes{number}"))
            kernel.remove_sockets([f"passes{number}"])
        assert connection.writer.queued <= most < HIGH_WATER + 4096
        untold = {name for _, name in papad.server._signals._untold}
        assert untold - {"fills"} == {"goes", "changes", "comes"}
        bus.resume()
        await client.wait(lambda: any(body[0].endswith("/comes") for body in client.of("InterfacesAdded")), "comes")
        labels = {path.rpartition("/")[2] for path in announced(client)}
        assert labels == {"stays", "changes", "comes"}
        gone = [body[0] for body in client.of("InterfacesRemoved")]
        assert sum(path.endswith(("/goes", "/changes")) for path in gone) == 2
        assert not any("passes" in path for path in gone)
        await client.wait(
            lambda: any(body[1].get("SocketCount") for body in client.of("PropertiesChanged")[-1:]), "count"
        )
        kernel.remove_sockets(["stays"])
        await client.wait(lambda: client.of("InterfacesRemoved")[-1][0].endswith("/stays"), "stays to be removed")


async def test_what_is_known_of_a_bus_s_names_ends_with_the_connection(bus: PrivateBus, client: Client) -> None:
    """Also if the connection was lost before it was ready."""
    async with papad_inside(bus.address) as papad:
        await client.call("ListValues", "as", [])
        name = client.bus.unique_name
        connection = papad.bus._connection
        assert name is not None
        assert connection is not None
        senders: list[list[str]] = []

        async def fail_once() -> None:
            senders.append(list(papad.server._authorization._senders))
            if len(senders) == 1:
                papad.access._authorized[name, Right.MANAGE] = float("inf")
                papad.server._authorization._meet(name)
                raise Unreachable("lost again")

        papad.bus.on_connected.append(fail_once)
        connection.lose()
        async with asyncio.timeout(PATIENCE):
            await _drained(papad.bus)
        assert senders == [[], []]
        assert not papad.access._authorized


async def _drained(bus: Bus) -> None:
    """Wait until the bus takes messages again."""
    drained, go_on = asyncio.Event(), bus.on_drained

    def note() -> None:
        go_on()
        drained.set()

    bus.on_drained = note
    await drained.wait()
    bus.on_drained = go_on


async def test_a_large_header_without_a_body_is_sent(client: Client) -> None:
    """An empty piece was never taken off the queue, and the loop stood still (finding 33)."""
    with pytest.raises(Unreachable):  # the bus has read it: there is no papad
        await client.call("Ping", interface="org.freedesktop.DBus.Peer", path="/" + "a" * 9000)
