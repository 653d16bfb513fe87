"""An acknowledgement is stored before it is answered; the watches of one who may hear no more end in steps."""

from typing import Any

import pytest

from papa_dbus.service import steps
from papa_dbus.service.process.hosted import HostedProcess
from tests.bus.client import connected
from tests.bus.consumer import consumer
from tests.bus.findings.inside import papad_inside
from tests.support import turns


async def test_an_acknowledgement_is_stored_before_it_is_answered(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with papad_inside(bus_address) as papad:
        said: list[str] = []
        store, reply = papad.kernel._processes.consumers._note, papad.server._reply

        def note(process: HostedProcess) -> None:
            said.append("stored")
            store(process)

        def answer(*of: Any) -> None:
            said.append("answered")
            reply(*of)

        async for one in connected(bus_address):
            async for other in connected(bus_address):
                await one.make_process("p", "sh", "-c", "echo x; exec sleep 1000")
                await other.watch("p")
                watch = await one.watch("p")
                [[_, _, records]] = await one.until("Output")
                monkeypatch.setattr(papad.kernel._processes.consumers, "_note", note)
                monkeypatch.setattr(papad.server, "_reply", answer)
                await one.call("Acknowledge", "ta{st}", watch, {"p": records[-1][0]})
                assert said == ["stored", "answered"]


async def test_who_may_hear_no_more_is_told_so_of_each_watch(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with papad_inside(bus_address) as papad, consumer(bus_address) as client:
        for number in range(5):
            await client.make_process(f"p{number}", "sleep", "1000")
        watches = [await client.consume("*") for _ in range(20)]
        [name] = papad.server._subscriptions._clients
        monkeypatch.setattr(steps, "STEP", 0.0)
        papad.server._subscriptions.revoke(name)
        await turns(20)
        assert 0 < len(papad.kernel._watches.open) < len(watches)
        await client.wait(lambda: len(client.ends) == len(watches), "each end")
        assert client.ends == [(number, "revoked") for number in watches]
