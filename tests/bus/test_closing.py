"""What is closed in steps, while the loop goes on: at papad's own end, and when a client or the bus goes."""

import asyncio
from pathlib import Path

import pytest

from papa_dbus.errors import NoReply
from papa_dbus.service.items.specs import WatchSpec
from tests.bus.client import connected
from tests.bus.findings.inside import papad_inside
from tests.bus.scripted_child import ScriptedChild
from tests.support import PATIENCE, turns, until


async def test_no_call_is_run_once_papad_leaves_the_bus(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not be told how that ended, and a watch's number would mean nothing."""
    closed = asyncio.Event()
    async with papad_inside(bus_address) as papad:
        monkeypatch.setattr(papad.server._subscriptions, "closed", closed.wait)
        async for client in connected(bus_address):
            closing = asyncio.ensure_future(papad.server.close())
            await turns(3)
            calls = [
                asyncio.ensure_future(client.call("SetValue", "ss", "late", "x")),
                asyncio.ensure_future(client.call("Acknowledge", "ta{st}", 1, {})),
            ]
            await client.bus.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId")  # papad has them
            await papad.bus.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId")
            closed.set()
            await asyncio.wait_for(closing, PATIENCE)
            for call in calls:
                with pytest.raises(NoReply):
                    await call
        assert papad.kernel.list_values() == {}


async def test_who_has_the_name_of_one_that_left_the_bus_before_is_not_forgotten(
    bus_address: str, tmp_path: Path
) -> None:
    """A bus that is started again gives the same names, and what its predecessor's client had is closed in steps."""
    scripted_child = ScriptedChild(tmp_path)
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            name, subscriptions = client.bus.unique_name, papad.server._subscriptions
            assert name is not None
            await client.make_process("parrot", *scripted_child.command)
            await client.watch("parrot")
            leaving = subscriptions._leaving(subscriptions._clients[name])
            next(leaving)
            subscriptions.close_all()  # as when the bus goes
            subscriptions.open(name, ["parrot"], WatchSpec())
            for _ in leaving:
                pass
            assert name in subscriptions._clients
        await until(lambda: not papad.kernel._watches.open, "the end of the second one's watch")
        scripted_child.end()
