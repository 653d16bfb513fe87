"""A call that the bus has no room for has reached nobody, and is made again; what papad itself refuses is not."""

import asyncio
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import BusFull, Limit, Unreachable
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.bus.fakepapad import fake_papad
from tests.bus.isolated import PrivateBus
from tests.support import PATIENCE

#: Calls of a connection that have no answer yet, as many as a bus takes; so it does with calls that start papad.
ROOM = 3


async def test_a_call_for_which_the_bus_has_no_room(tmp_path: Path) -> None:
    bus = PrivateBus(tmp_path, limits={"max_replies_per_connection": ROOM})
    try:
        async with (
            asyncio.timeout(PATIENCE),
            fake_papad(bus.address, GetValue=lambda _: None) as papad,
            aio.connect(bus.address, timeout=PATIENCE) as kernel,
        ):
            first = [asyncio.ensure_future(kernel.get_value("v")) for _ in range(ROOM)]
            await papad.until("GetValue", ROOM)
            with pytest.raises(BusFull):
                await kernel.link.bus.call(BUS_NAME, OBJECT_PATH, BUS_NAME, "GetValue", "s", ["v"])
            last = asyncio.ensure_future(kernel.get_value("v"))
            await asyncio.sleep(0)  # it is under way
            for call in papad.of("GetValue"):
                papad.answer(call, ("s", ["before"]))
            assert await asyncio.gather(*first) == ["before"] * ROOM
            papad.answer(await papad.until("GetValue", ROOM + 1), ("s", ["after"]))
            assert await last == "after"
    finally:
        bus.stop()


async def test_what_papad_refuses_is_not_asked_again(bus_address: str) -> None:
    answers = {"GetValue": lambda _: Limit("too many calls")}
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address) as kernel:
        with pytest.raises(Limit):
            await kernel.get_value("v")
        assert len(papad.of("GetValue")) == 1


def test_it_is_one_of_those_of_which_nothing_was_done() -> None:
    assert issubclass(BusFull, Unreachable)
    assert not issubclass(BusFull, Limit)
