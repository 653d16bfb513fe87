"""Output that the bus lost on its way is asked for again, and nothing after the gap is acknowledged before that."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from papa_dbus.bus import Variant
from papa_dbus.client import aio
from papa_dbus.client.aio import Dropped, Event, Exited, Kernel, Record
from tests.bus.fakepapad import FakePapad, done, fake_papad, numbered_watches
from tests.support import PATIENCE


@pytest.fixture
async def papad(bus_address: str) -> AsyncIterator[FakePapad]:
    """A papad whose watches are of the process p."""
    async with fake_papad(bus_address, Watch=numbered_watches("p"), Acknowledge=done) as papad:
        yield papad


@pytest.fixture
async def kernel(papad: FakePapad) -> AsyncIterator[Kernel]:
    """Its client."""
    async with aio.connect(papad.bus.address, timeout=PATIENCE) as kernel:
        yield kernel


async def _read(watch: aio.Watch) -> list[Event]:
    async with asyncio.timeout(PATIENCE), watch:
        events: list[Event] = []
        async for event in watch:
            events.append(event)
            if isinstance(event, Exited):
                break
        return events


def _numbers(events: list[Event]) -> list[int]:
    return [event.seq for event in events if not isinstance(event, Dropped)]


@pytest.mark.parametrize("observe", [False, True])
async def test_a_gap_opens_the_watch_again(papad: FakePapad, kernel: Kernel, observe: bool) -> None:
    reading = asyncio.create_task(_read(kernel.watch("p", observe=observe)))
    call = await papad.until("Watch")
    papad.records(call, 1, "p", 1, 2, 3)
    papad.records(call, 1, "p", 7, 8)
    call = await papad.until("Watch", 2)
    papad.records(call, 2, "p", 1, 2, 3, 4)
    papad.records(call, 2, "p", 5, 6, 7, 8)
    papad.exited(call, 2, "p", 9)
    events = await reading
    assert _numbers(events) == list(range(1, 10))
    assert (await papad.until("Unwatch")).body == [1]
    for watch, up_to in papad.acknowledged:
        assert watch == 2 or up_to["p"] <= 3


async def test_a_loss_in_a_signal_of_another_process_concerns_that_one_alone(bus_address: str) -> None:
    async with (
        fake_papad(bus_address, Watch=numbered_watches("p", "q"), Acknowledge=done) as papad,
        aio.connect(bus_address) as kernel,
    ):
        reading = asyncio.create_task(_read(kernel.watch("p", "q")))
        call = await papad.until("Watch")
        papad.records(call, 1, "q", 1, 2)
        papad.records(call, 1, "p", 1, 2)
        papad.records(call, 1, "q", 3, 4)
        papad.exited(call, 1, "p", 3)
        events = await reading
        assert [event.process for event in events] == ["q", "q", "p", "p", "q", "q", "p"]
        assert len(papad.of("Watch")) == 1


async def test_a_told_loss_is_no_gap(papad: FakePapad, kernel: Kernel) -> None:
    reading = asyncio.create_task(_read(kernel.watch("p")))
    call = await papad.until("Watch")
    papad.records(call, 1, "p", 1)
    papad.signal(call, "Dropped", "tsttt", 1, "p", 2, 10, 90)
    papad.records(call, 1, "p", 11)
    papad.exited(call, 1, "p", 12)
    assert await reading == [
        Record("p", 1, 1_000_000, "out", b"1\n"),
        Dropped("p", 2, 10, 90),
        Record("p", 11, 11_000_000, "out", b"11\n"),
        Exited("p", 12, 12_000_000, 0),
    ]
    assert len(papad.of("Watch")) == 1


async def test_a_gap_at_the_beginning_of_the_next_watch_is_noticed(papad: FakePapad, kernel: Kernel) -> None:
    reading = asyncio.create_task(_read(kernel.watch("p")))
    call = await papad.until("Watch")
    papad.records(call, 1, "p", 1)
    papad.records(call, 1, "p", 3)
    call = await papad.until("Watch", 2)
    papad.records(call, 2, "p", 5)  # 2 to 4 are lost once more
    call = await papad.until("Watch", 3)
    papad.records(call, 3, "p", 2, 3, 4, 5)
    papad.exited(call, 3, "p", 6)
    assert _numbers(await reading) == [1, 2, 3, 4, 5, 6]


async def test_what_another_consumer_acknowledged_meanwhile_is_no_loss(papad: FakePapad, kernel: Kernel) -> None:
    """A watch that begins too late twice in the same place gets what there is."""
    reading = asyncio.create_task(_read(kernel.watch("p")))
    call = await papad.until("Watch")
    papad.records(call, 1, "p", 1)
    papad.records(call, 1, "p", 3)
    for watch in (2, 3):
        call = await papad.until("Watch", watch)
        papad.records(call, watch, "p", 5)
    papad.exited(call, 3, "p", 6)
    assert _numbers(await reading) == [1, 5, 6]


async def test_the_next_process_of_the_name_begins_anew(papad: FakePapad, kernel: Kernel) -> None:
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE), kernel.watch("p") as watch:
        call = await papad.until("Watch")
        papad.records(call, 1, "p", 6, 7)
        papad.exited(call, 1, "p", 8)
        papad.records(call, 1, "p", 1, 2)
        async for event in watch:
            events.append(event)
            if len(events) == 5:
                break
    assert _numbers(events) == [6, 7, 8, 1, 2]
    assert len(papad.of("Watch")) == 1


@pytest.mark.parametrize("observe", [False, True])
async def test_a_loss_of_the_first_delivery_is_noticed(papad: FakePapad, kernel: Kernel, observe: bool) -> None:
    papad.answers["ListProcesses"] = lambda _: ("a{sa{sv}}", [{"p": {"acknowledged": Variant("t", 4)}}])
    reading = asyncio.create_task(_read(kernel.watch("p", observe=observe)))
    call = await papad.until("Watch")
    papad.records(call, 1, "p", 7)
    call = await papad.until("Watch", 2)
    papad.records(call, 2, "p", 5, 6, 7)
    papad.exited(call, 2, "p", 8)
    assert _numbers(await reading) == [5, 6, 7, 8]
