"""A process that is being made when papad ends: it is there and its client knows, or it is undone."""

import asyncio
import logging

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import PapaError
from papa_dbus.service.dbus import server as dbus_server
from papa_dbus.service.fork.child import ExecPlan
from papa_dbus.service.fork.errand import Errand
from papa_dbus.service.fork.fork import fork_here
from tests.bus.findings.inside import papad_inside
from tests.support import PATIENCE, children, until


class HeldFork:
    """Forks once it may."""

    def __init__(self) -> None:
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def __call__(self, work: ExecPlan | Errand, gate: int, status: int) -> int:
        """Wait, and fork."""
        self.asked.set()
        await self.may.wait()
        return await fork_here(work, gate, status)


async def test_one_that_is_made_soon_is_answered(bus_address: str) -> None:
    fork = HeldFork()
    async with papad_inside(bus_address) as papad, aio.connect(bus_address) as kernel:
        papad.kernel.fork = fork
        making = asyncio.ensure_future(kernel.make_process("p", ["sleep", "60"]))
        await asyncio.wait_for(fork.asked.wait(), PATIENCE)
        closing = asyncio.ensure_future(papad.server.close())
        await asyncio.sleep(0)
        fork.may.set()
        await asyncio.wait_for(closing, PATIENCE)
        assert (await asyncio.wait_for(making, PATIENCE)).pid in children()
        assert papad.kernel.process_names == ["p"]


@pytest.mark.parametrize("leave", [False, True])
async def test_one_that_takes_long(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, leave: bool
) -> None:
    """It is undone before the store is closed; a reload leaves it to the next version, as a kill does."""
    monkeypatch.setattr(dbus_server, "_SOON", 0.05)
    caplog.set_level(logging.WARNING)
    fork = HeldFork()
    async with papad_inside(bus_address) as papad, aio.connect(bus_address, timeout=0.5) as kernel:
        papad.kernel.fork = fork
        making = asyncio.ensure_future(kernel.make_process("p", ["sleep", "60"]))
        await asyncio.wait_for(fork.asked.wait(), PATIENCE)
        await asyncio.wait_for(papad.server.close(leave=leave), PATIENCE)
        assert (("process", "p") in papad.kernel._reservations) is leave
        with pytest.raises(PapaError):
            await asyncio.wait_for(making, PATIENCE)
        assert papad.kernel.process_names == []
        fork.may.set()
    assert "store" not in caplog.text


class SlowlyUndone(HeldFork):
    """Goes on for a while although it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.undone = asyncio.Event()

    async def __call__(self, work: ExecPlan | Errand, gate: int, status: int) -> int:
        """Wait for both, and fork."""
        try:
            return await super().__call__(work, gate, status)
        finally:
            await self.undone.wait()


async def test_one_that_is_undone_slowly_is_not_waited_for(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbus_server, "_SOON", 0.05)
    monkeypatch.setattr(dbus_server, "_UNDONE", 0.05)
    fork = SlowlyUndone()
    async with papad_inside(bus_address) as papad, aio.connect(bus_address, timeout=0.5) as kernel:
        papad.kernel.fork = fork
        making = asyncio.ensure_future(kernel.make_process("p", ["sleep", "60"]))
        await asyncio.wait_for(fork.asked.wait(), PATIENCE)
        await asyncio.wait_for(papad.server.close(), PATIENCE)
        assert ("process", "p") in papad.kernel._reservations
        fork.undone.set()
        await until(lambda: ("process", "p") not in papad.kernel._reservations, "the end of what is undone")
        with pytest.raises(PapaError):
            await asyncio.wait_for(making, PATIENCE)
