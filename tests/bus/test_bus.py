"""A connection to a bus by itself: what rests, and in which order things go."""

import asyncio
import itertools
from pathlib import Path

import pytest

from papa_dbus.bus import Bus, BusLost, Message, MessageType
from papa_dbus.errors import Unreachable
from tests.bus.isolated import PrivateBus
from tests.support import PATIENCE, turns

RULE = "type='signal',interface='a.b'"


def signal(member: str) -> Message:
    return Message(message_type=MessageType.SIGNAL, path="/a", interface="a.b", member=member)


async def heard(address: str, count: int) -> tuple[Bus, "asyncio.Future[list[str]]"]:
    """Another connection, and the names of the first signals that reach it."""
    bus, members = Bus(address), list[str]()
    all_of_them: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    def hear(message: Message) -> None:
        if message.interface == "a.b":
            members.append(message.member)
            if len(members) == count:
                all_of_them.set_result(members)

    bus.on_signal.append(hear)
    await bus.start()
    await bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [RULE])
    return bus, all_of_them


async def test_what_is_not_urgent_keeps_its_place(bus_address: str) -> None:
    listener, all_of_them = await heard(bus_address, 5)
    bus = Bus(bus_address)
    await bus.start()
    bus.send(signal("A"), urgent=False)
    await turns()  # it has gone, and what comes now rests
    bus.send(signal("B"), urgent=False)
    await turns()
    bus.send(signal("C"), urgent=False)
    bus.send(signal("D"))
    bus.send(signal("E"), urgent=False)
    assert await asyncio.wait_for(all_of_them, PATIENCE) == ["A", "B", "C", "D", "E"]
    await bus.close()
    await listener.close()


async def test_what_rests_goes_before_the_connection_is_closed(bus_address: str) -> None:
    listener, all_of_them = await heard(bus_address, 2)
    bus = Bus(bus_address)
    await bus.start()
    bus.send(signal("A"), urgent=False)
    await turns()
    bus.send(signal("B"), urgent=False)
    await bus.close()
    assert await asyncio.wait_for(all_of_them, PATIENCE) == ["A", "B"]
    await listener.close()


async def test_reading_ends_by_time(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is read after everybody else on the loop has had a turn."""
    monkeypatch.setattr("papa_dbus.bus.connection.READING_TURN", 0.0)
    listener, all_of_them = await heard(bus_address, 5)
    came: list[str] = []
    after: list[int] = [0]
    listener.on_signal.append(lambda message: came.append(message.member) if message.interface == "a.b" else None)
    listener.on_read = lambda: after.append(len(came))
    bus = Bus(bus_address)
    await bus.start()
    for member in "ABCDE":
        bus.send(signal(member), urgent=False)
    assert await asyncio.wait_for(all_of_them, PATIENCE) == ["A", "B", "C", "D", "E"]
    assert {now - before for before, now in itertools.pairwise(after)} <= {0, 1}
    await bus.close()
    await listener.close()


async def test_a_bus_that_takes_no_more_connections(tmp_path: Path) -> None:
    private = PrivateBus(tmp_path, limits={"max_connections_per_user": 1})
    first, second = Bus(private.address), Bus(private.address)
    try:
        await first.start()
        with pytest.raises(BusLost, match="cannot be reached: .*LimitsExceeded: .*maximum number"):
            await second.start()
        assert second.unique_name is None
    finally:
        await first.close()
        private.stop()


async def test_another_unit_that_is_masked_is_not_taken_for_papads(bus_address: str) -> None:
    """systemd says so of papa.slice where a scope is to be in it."""
    ours, other = Bus(bus_address), Bus(bus_address)
    masked = "org.freedesktop.systemd1.UnitMasked"

    def refuse(call: Message) -> None:
        other.send(Message.new_error(call, masked, "Unit papa.slice is masked."))

    other.on_call = refuse
    for bus in (ours, other):
        await bus.start()
    with pytest.raises(Unreachable, match=r"^Unit papa\.slice is masked\.$"):
        await ours.call(str(other.unique_name), "/a", "a.b", "C")
    for bus in (ours, other):
        await bus.close()
