"""A consumer whose watch is opened again beside one that lags gets nothing twice, and opens it no more than once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from papa_dbus.bus import Variant
from papa_dbus.client import aio
from papa_dbus.client.aio import Exited, Kernel
from tests.bus.fakepapad import FakePapad, done, fake_papad, numbered_watches
from tests.support import PATIENCE

#: What the other consumer has acknowledged, and so the log has let go of.
THE_OTHER = 2


@pytest.fixture
async def papad(bus_address: str) -> AsyncIterator[FakePapad]:
    """A papad that lists p with another consumer's place."""
    listed = {"p": {"acknowledged": Variant("t", THE_OTHER)}}
    answers = {"Watch": numbered_watches("p"), "ListProcesses": lambda _: ("a{sa{sv}}", [listed])}
    async with fake_papad(bus_address, Acknowledge=done, **answers) as papad:
        yield papad


@pytest.fixture
async def kernel(papad: FakePapad) -> AsyncIterator[Kernel]:
    """Its client."""
    async with aio.connect(papad.bus.address, timeout=PATIENCE) as kernel:
        yield kernel


@pytest.mark.parametrize("sent", [[5, 6], [4, 5, 6], [3, 4, 5, 6]], ids=["goes on", "one again", "from the other's"])
async def test_a_watch_that_is_opened_again(papad: FakePapad, kernel: Kernel, sent: list[int]) -> None:
    got = []

    async def read() -> None:
        async with kernel.watch("p") as watch:
            async for event in watch:
                got.append(event.seq if not isinstance(event, aio.Dropped) else None)
                if isinstance(event, Exited):
                    break

    async with asyncio.timeout(PATIENCE):
        reading = asyncio.create_task(read())
        call = await papad.until("Watch")
        papad.records(call, 1, "p", 3, 4)
        while not papad.acknowledged or papad.acknowledged[-1] != (1, {"p": 4}):
            await papad.until("Acknowledge", len(papad.acknowledged) + 1)
        papad.signal(call, "WatchEnded", "ts", 1, "failed")
        call = await papad.until("Watch", 2)
        papad.records(call, 2, "p", *sent)
        papad.exited(call, 2, "p", 7)
        await reading
    assert got == [3, 4, 5, 6, 7]
    assert len(papad.of("Watch")) == 2
    assert papad.acknowledged[-1] == (2, {"p": 7})
