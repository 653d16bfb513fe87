"""A call is made again only if papad has gone during it, never because its answer is late."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from papa_dbus.bus import Message
from papa_dbus.client import aio
from papa_dbus.errors import Late, Limit, NoReply
from tests.bus.daemon import Papad
from tests.bus.fakepapad import Answer, fake_papad
from tests.support import PATIENCE


def _no_answer(_: Message) -> Answer:
    return None


@pytest.mark.stops_papad
async def test_each_job_of_a_papad_that_was_stopped_runs_once(papad: Papad, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    async with aio.connect(papad.address) as kernel, aio.connect(papad.address) as patient:
        await kernel.make_process("first", ["/bin/true"])  # it is known now whether papad takes tokens
        kernel.link.timeout = 0.3
        async with asyncio.timeout(PATIENCE), patient.watch("job*", observe=True, follow=True) as watch:
            events = aiter(watch)
            for number in range(3):
                os.kill(papad.process.pid, signal.SIGSTOP)
                try:
                    with pytest.raises(Late):
                        await kernel.make_process(f"job{number}", ["/bin/sh", "-c", f"echo job{number} >> {ran}"])
                finally:
                    os.kill(papad.process.pid, signal.SIGCONT)
                assert isinstance(await anext(events), aio.Exited)
            await patient.make_process("job.last", ["/bin/true"])
            assert (await anext(events)).process == "job.last"
    assert Counter(ran.read_text().split()) == {"job0": 1, "job1": 1, "job2": 1}


async def test_a_late_call_is_not_made_again(bus_address: str) -> None:
    async with (
        fake_papad(bus_address, SetValue=_no_answer, ListValues=lambda _: ("a{ss}", [{}])) as papad,
        aio.connect(bus_address) as kernel,
    ):
        patience, kernel.link.timeout = kernel.link.timeout, 0.3
        with pytest.raises(Late, match=r"did not answer SetValue in 0\.3 s"):
            await kernel.set_value("a", "b")
        kernel.link.timeout = patience
        await kernel.list_values()  # comes after whatever was sent before
        assert len(papad.of("SetValue")) == 1


async def test_a_call_is_made_again_if_its_papad_has_gone(bus_address: str) -> None:
    async with fake_papad(bus_address, SetValue=_no_answer) as first, aio.connect(bus_address) as kernel:
        asking = asyncio.create_task(kernel.set_value("a", "b"))
        await first.until("SetValue")
        await first.bus.close()
        async with fake_papad(bus_address, SetValue=lambda _: ("", [])) as second:
            async with asyncio.timeout(PATIENCE):
                await asking
            assert len(second.of("SetValue")) == 1


async def test_what_must_not_be_done_twice_is_not_made_again(bus_address: str) -> None:
    async with fake_papad(bus_address, RemoveValues=_no_answer) as papad, aio.connect(bus_address) as kernel:
        asking = asyncio.create_task(kernel.remove_values("a"))
        await papad.until("RemoveValues")
        await papad.bus.close()
        with pytest.raises(NoReply):
            async with asyncio.timeout(PATIENCE):
                await asking


async def test_a_call_that_cannot_begin_is_not_made(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("papa_dbus.client.link.MAX_CALLS", 2)
    async with fake_papad(bus_address, SetValue=_no_answer) as papad, aio.connect(bus_address) as kernel:
        asking = [asyncio.create_task(kernel.set_value("a", "b")) for _ in range(2)]
        await papad.until("SetValue", 2)
        kernel.link.timeout = 0.1
        with pytest.raises(Limit, match="SetValue was not called: 2 calls"):
            await kernel.set_value("a", "b")
        assert len(papad.of("SetValue")) == 2
        for call in papad.of("SetValue"):
            papad.answer(call, ("", []))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*asking)
