"""A client that leaves is noticed with any number of watching clients: one match rule hears of all of them."""

import contextlib
from pathlib import Path

from papa_dbus.bus import Variant
from tests.bus.consumer import consumer
from tests.bus.daemon import start_papad
from tests.bus.isolated import PrivateBus
from tests.bus.scripted_child import ScriptedChild


async def test_a_consumer_that_leaves_holds_nothing_back(tmp_path: Path) -> None:
    rules = 5
    bus = PrivateBus(tmp_path, limits={"max_match_rules_per_connection": rules})
    papad = start_papad(bus.address, tmp_path / "line")
    scripted_child = ScriptedChild(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(consumer(bus.address)) for _ in range(2 * rules)]
        good = clients[0]
        await good.make_process("parrot", *scripted_child.command)
        for each in clients:
            await each.consume("parrot", mode=Variant("s", "consume" if each is good else "observe"))
        async with consumer(bus.address) as leaves:
            leaves.holds.add("parrot")
            await leaves.consume("parrot")
            scripted_child.say("words")
            await leaves.wait(lambda: leaves.got, "output")
        scripted_child.say("more words")
        await good.wait(lambda: good.total == 17, "output")
        await good.until_buffered("parrot", 0)
        scripted_child.end()
        await good.wait(lambda: good.ends, "end")
    papad.stop()
    bus.stop()
