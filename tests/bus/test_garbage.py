"""papad does without full garbage collections, so nothing that clients do may leave garbage that needs one."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.client import Client, connected
from tests.bus.findings.inside import papad_inside
from tests.bus.scripted_child import ScriptedChild
from tests.support import until


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Give what the collector finds, in the place of having it freed."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def _use(client: Client, scripted_child: ScriptedChild) -> None:
    await client.make_process("parrot", *scripted_child.command)
    watches = [await client.watch("parrot") for _ in range(3)]
    scripted_child.say("heard")
    await client.until("Output", 3)
    await client.call("Unwatch", "t", watches[0])
    for member, signature, *body in (
        ("GetValue", "s", "no such"), ("MakeProcess", "as", ["wrong"]), ("MakeProcess", "sasa{sv}", "n", ["/nope"], {}),
        ("MakeSocket", "sa{sv}", "s", {}), ("SetValue", "ss", "v", "x"), ("ListProcesses", "as", []),
        ("RemoveSockets", "as", ["s"]), ("RemoveValues", "as", ["v"]), ("Acknowledge", "ta{st}", 99, {}),
    ):  # fmt: skip
        await asyncio.gather(client.call(member, signature, *body), return_exceptions=True)


async def test_clients_leave_no_cycles(bus_address: str, tmp_path: Path, garbage: list[object]) -> None:
    scripted_child = ScriptedChild(tmp_path)
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            await _use(client, scripted_child)
        await until(lambda: not papad.kernel._watches.open, "the end of the client's watches")
        scripted_child.end()
        gc.collect()
        modules = Counter(getattr(type(item), "__module__", "") + getattr(item, "__module__", "") for item in garbage)
    assert {module: count for module, count in modules.items() if "papa_dbus.service" in module} == {}
