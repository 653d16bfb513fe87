"""What is on its way to a client that does not read is bounded, at the buses' own limits: nobody else notices it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus import schema
from papa_dbus.bus import Message, Variant
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from papa_dbus.service import limits
from tests.bus.consumer import Gate, consumer
from tests.bus.daemon import Papad, start_papad, stop_with_children
from tests.bus.isolated import PrivateBus

#: More than dbus-daemon takes of one sender (127 MiB).
PROCESSES, SIZE = 3, 50_000_000
WINDOW = Variant("t", schema.MAX_WINDOW)


@pytest.fixture(params=["dbus-daemon", pytest.param("dbus-broker", marks=pytest.mark.root)])
def papad(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Papad]:
    bus = PrivateBus(tmp_path, request.param)
    papad = start_papad(bus.address, tmp_path / "line")
    yield papad
    log = stop_with_children(papad)
    bus.stop()
    assert "Traceback" not in log, log


async def test_nobody_else_waits_and_nothing_is_lost(papad: Papad, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    async with consumer(papad.address) as stalled, consumer(papad.address) as good:
        names = [f"p{number}" for number in range(PROCESSES)]
        for name in names:
            script = f"{gate.wait()}; head -c {SIZE} /dev/zero; exec sleep 600"
            await good.make_process(name, "sh", "-c", script, bufsize=Variant("t", SIZE + 1_000_000))
            await stalled.consume(name, window=WINDOW)
        stalled.stall()
        await gate.open()
        for name in names:
            await good.until_written(name, SIZE)
        # All that may be on its way to the one that stopped is; another one, of the same user, gets the same output.
        for name in names:
            await good.consume(name, window=WINDOW)
        await good.until_all(PROCESSES * SIZE)
        assert not good.gaps
        stalled.go_on()
        await stalled.until_all(PROCESSES * SIZE)
        assert (stalled.gaps, stalled.ends) == ([], [])


async def test_all_that_are_stalled_leave_every_other_client_its_share(papad: Papad, tmp_path: Path) -> None:
    """Enough of them to use up what a user may have on the way."""
    async with contextlib.AsyncExitStack() as stack:
        stalled = [await stack.enter_async_context(consumer(papad.address)) for _ in range(5)]
        good = await stack.enter_async_context(consumer(papad.address))
        size, gate = 2 * limits.MAX_FLIGHT_OF_CLIENT, Gate(tmp_path)
        script = f"{gate.wait()}; head -c {size} /dev/zero"
        await good.make_process("p", "sh", "-c", script, bufsize=Variant("t", size))
        for each in stalled:
            await each.consume("p", window=WINDOW)
            each.stall()
        await gate.open()
        await good.until_written("p", size)
        await good.consume("p", window=WINDOW)
        await good.until_all(size)
        await good.wait(lambda: good.ends, "end")
        assert (good.gaps, good.exits) == ([], {"p": 0})
        for each in stalled:
            each.go_on()
            await each.until_all(size)
            assert each.gaps == []


async def test_what_is_sent_to_one_that_stops_is_bounded_over_all_its_watches(papad: Papad) -> None:
    async with consumer(papad.address) as stalled, consumer(papad.address) as good:
        size, names = 4_000_000, [f"p{number}" for number in range(8)]
        for name in names:
            await good.make_process(name, "sh", "-c", f"head -c {size} /dev/zero", bufsize=Variant("t", size))
        for name in names:
            await good.until_written(name, size)
        stalled.holds.update(names)
        stalled.stall()
        for _ in range(200):
            call = Message(
                destination=BUS_NAME,
                path=OBJECT_PATH,
                interface=BUS_NAME,
                member="Watch",
                signature="asa{sv}",
                body=[names, {"window": WINDOW}],
            )
            stalled.bus.send(call)
        await good.consume(*names, window=WINDOW)
        await good.until_all(len(names) * size)
        stalled.go_on()
        await stalled.call("ListValues", "as", [])  # the answer comes after all that was sent before
        assert limits.MAX_FLIGHT_OF_CLIENT < stalled.received <= limits.MAX_FLIGHT_OF_USER
