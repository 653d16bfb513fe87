"""A watch of many processes holds up nobody: it begins in steps, and its client is told when it is complete."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from papa_dbus.bus import Variant
from papa_dbus.service import steps
from papa_dbus.service.caller import Caller, acting
from tests.bus.client import Client, connected
from tests.bus.findings.inside import Inside, papad_inside
from tests.support import hold, hold_watches, until

NAMES = list("abcdef")


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes at once, and then one at each turn of the loop."""
    monkeypatch.setattr(steps, "AT_ONCE", 2)
    monkeypatch.setattr(steps, "STEP", 0.0)


async def make_all(client: Client) -> None:
    for name in reversed(NAMES):
        await client.make_process(name, "sh", "-c", f"echo {name}; exec sleep 1000")
        await client.until_written(name, 2)


def hold_all(papad: Inside) -> Callable[[], None]:
    with acting(Caller(os.getuid(), None, "")):
        return hold_watches(papad.kernel)


def begin(client: Client) -> "asyncio.Future[Any]":
    """Ask for a watch of all."""
    return asyncio.ensure_future(client.call("Watch", "asa{sv}", [], {}))


async def begun(papad: Inside) -> None:
    """Wait until it has begun, and does not read all yet."""
    await until(lambda: papad.kernel._watches.open, "the watch")
    [watch] = papad.kernel._watches.open.values()
    assert watch.names == NAMES[:2]


def is_read(papad: Inside) -> bool:
    """Return whether a watch still has to do with a process."""
    return any(process.log.readers for process in papad.kernel._processes.every())


@pytest.mark.parametrize("order", [NAMES, NAMES[3:] + NAMES[:3]])
async def test_the_answer_has_all_names_in_order(bus_address: str, order: list[str]) -> None:
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            await make_all(client)
            patterns = [] if order == NAMES else order
            watch, names = await client.call("Watch", "asa{sv}", patterns, {"mode": Variant("s", "observe")})
            assert names == order
            await client.until("Output", len(NAMES))
            assert [name for _, name, _ in client.of("Output")] == order
            await client.call("Unwatch", "t", watch)
            assert not is_read(papad)


async def test_others_are_answered_before_and_its_output_comes_after(bus_address: str) -> None:
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            async for other in connected(bus_address):
                await make_all(client)
                go_on = hold_all(papad)
                answer = begin(client)
                await begun(papad)
                await other.make_process("g", "sleep", "1000")
                assert not answer.done()
                assert not client.of("Output")
                go_on()
                assert (await answer)[1] == NAMES
                await client.until("Output", len(NAMES))


async def test_a_client_that_leaves_meanwhile_takes_its_watch_along(bus_address: str) -> None:
    async with papad_inside(bus_address) as papad:
        async for other in connected(bus_address):
            await make_all(other)
            go_on = hold_all(papad)
            async for client in connected(bus_address):
                answer = begin(client)
                await begun(papad)
                answer.cancel()
            await until(lambda: not papad.kernel._watches.open, "its end")
            go_on()
            await until(lambda: not is_read(papad), "all to be let go")
            assert not papad.server._subscriptions._by_number


async def test_a_watch_that_is_revoked_meanwhile_is_answered_and_its_end_is_told(bus_address: str) -> None:
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            await make_all(client)
            go_on = hold_all(papad)
            answer = begin(client)
            await begun(papad)
            [name] = papad.server._subscriptions._clients
            papad.server._subscriptions.revoke(name)
            await until(lambda: not papad.kernel._watches.open, "its end")
            go_on()
            watch, _ = await answer
            assert await client.until("WatchEnded") == [[watch, "revoked"]]
            assert not is_read(papad)


async def test_an_acknowledgement_of_many_is_answered_when_all_is_noted(bus_address: str) -> None:
    """What its client calls next waits for it; others are answered before."""
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            async for other in connected(bus_address):
                await make_all(client)
                watch = await client.watch()
                await client.until("Output", len(NAMES))
                with acting(Caller(os.getuid(), None, "")):
                    go_on = hold(papad.server._subscriptions._chores)
                calls = [client.call("Acknowledge", "ta{st}", watch, dict.fromkeys(NAMES, 1))]
                calls.append(client.call("Unwatch", "t", watch))
                answers = [asyncio.ensure_future(call) for call in calls]
                await until(lambda: papad.kernel.buffered_bytes == 2 * (len(NAMES) - 2), "the first ones")
                await other.make_process("g", "sleep", "1000")
                assert not any(answer.done() for answer in answers)
                assert watch in papad.kernel._watches.open
                go_on()
                await answers[0]
                assert not papad.kernel.buffered_bytes
                await answers[1]
                assert not is_read(papad)
                await until(lambda: nothing_is_on_its_way(papad), "all to be known as read")


async def test_what_a_client_left_unread_is_forgotten_in_steps(bus_address: str) -> None:
    async with papad_inside(bus_address) as papad:
        async for other in connected(bus_address):
            await make_all(other)
            async for client in connected(bus_address):
                await client.watch()
                await client.until("Output", len(NAMES))
                assert len(papad.server._subscriptions._signals._by_serial) == len(NAMES)
            await until(lambda: not papad.server._subscriptions._clients, "its end")
            assert nothing_is_on_its_way(papad)
            assert not is_read(papad)
            assert papad.kernel.buffered_bytes == 2 * len(NAMES)


def nothing_is_on_its_way(papad: Inside) -> bool:
    signals = papad.server._subscriptions._signals
    return not (signals._by_serial or signals._reading or signals._flights._counted)
