"""A client with many watches of the same processes holds up nobody, neither while it has them nor when it leaves."""

from pathlib import Path

import pytest

from papa_dbus.service import limits
from papa_dbus.service.items.rows import ProcessRecord
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.readers import OTHERS
from tests.bus.client import Client
from tests.bus.consumer import consumer
from tests.bus.daemon import Papad
from tests.bus.scripted_child import ScriptedChild
from tests.support import end, run, turns

PROCESSES = 8


async def test_its_departure_is_done_in_steps(papad: Papad, client: Client, tmp_path: Path) -> None:
    """The guard of papad's loop (tests/guarding.py) would find what is done at once."""
    scripted_children = [ScriptedChild(tmp_path, f"p{number}") for number in range(PROCESSES)]
    for scripted_child in scripted_children:
        await client.make_process(scripted_child.name, *scripted_child.command)
    async with consumer(papad.address) as stays:
        await stays.consume("p*")
        async with consumer(papad.address) as leaves:
            leaves.holds.update(scripted_child.name for scripted_child in scripted_children)
            for _ in range(limits.MAX_WATCHES_PER_CLIENT):
                await leaves.consume("p*")
            for scripted_child in scripted_children:
                scripted_child.say("one")
            await leaves.wait(lambda: leaves.total == 4 * PROCESSES, "output")
        for scripted_child in scripted_children:
            await client.until_buffered(scripted_child.name, 0)  # once none of its watches is left
            scripted_child.end()
        await stays.wait(lambda: stays.ends, "end")


async def test_what_is_noted_of_it_does_not_grow_with_its_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "state.sqlite")
    kernel = Kernel(store=store)
    await run(kernel, "sleep", "600")
    watches = [kernel.watch(["p"], WatchSpec(), lambda: None, who=who) for who in ("a", "b") for _ in range(100)]
    await turns(2)
    [stored] = store.processes()
    assert stored.facts.consumers == ((OTHERS, 0, 0),)
    noted, update = [], store.update_process

    def note(key: int, facts: ProcessRecord, state: str) -> None:
        noted.append(facts.consumers)
        update(key, facts, state)

    monkeypatch.setattr(store, "update_process", note)
    for watch in watches:
        watch.close()
    await turns(2)
    assert noted == [()]
    end(kernel)
