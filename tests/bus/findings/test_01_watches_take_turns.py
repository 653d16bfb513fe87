"""Clients take turns, and so do the watches of each; a watch that acknowledges nothing delays no other."""

from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Bus
from papa_dbus.service import limits
from tests.bus.client import connected
from tests.bus.consumer import consumer
from tests.bus.findings.inside import papad_inside
from tests.bus.scripted_child import ScriptedChild
from tests.support import until


async def test_clients_take_turns_and_so_do_the_watches_of_each(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clients have three and one, all ready at once: the one has every second turn."""
    size, room = 1_000_000, [False]
    monkeypatch.setattr(Bus, "has_room", property(lambda bus: room[0]))
    async with papad_inside(bus_address) as papad:
        async for many in connected(bus_address):
            async for one in connected(bus_address):
                await many.make_process("p", "sh", "-c", f"head -c {size} /dev/zero")
                await many.until_written("p", size)
                subscriptions = papad.server._subscriptions
                numbers = [await client.watch("p") for client in (many, many, many, one)]
                await until(lambda: len(subscriptions._turns._held_up) == 4, "watches that are ready")  # noqa: B023
                turns: list[int] = []

                def note(
                    it: Any, numbers: Any = numbers, turns: Any = turns, send: Any = subscriptions._turns._send
                ) -> int:
                    turns.append(numbers.index(it.watch.number))
                    sent: int = send(it)
                    return sent

                monkeypatch.setattr(subscriptions._turns, "_send", note)
                room[0] = True
                subscriptions.pump_all()
                await many.wait(lambda: len(many.output()) == 3 * size, "output")  # noqa: B023
                await one.wait(lambda: len(one.output()) == size, "output")  # noqa: B023
                assert turns[:6] == [0, 3, 1, 3, 2, 3]


async def test_begun_lines_that_are_kept_hold_up_no_other_watch(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a user may have on the way: an acknowledgement of something else shows that they were read."""
    size, other = limits.FLIGHT_SHARE, ScriptedChild(tmp_path)
    for bound in ("OF_CLIENT", "OF_USER"):
        monkeypatch.setattr(limits, f"MAX_FLIGHT_{bound}", 2 * size)
    async with papad_inside(bus_address), consumer(bus_address) as client:
        await client.make_process(other.name, *other.command)
        await client.consume(other.name)
        for number in range(6):
            name = f"begun{number}"
            client.holds.add(name)
            await client.make_process(name, "sh", "-c", f"head -c {size} /dev/zero")
            await client.consume(name)
            await client.wait(lambda name=name: client.got.get(name) == size, name)
            other.say("one line")
            await client.wait(lambda had=9 * (number + 1): client.got.get(other.name) == had, "a line of the other")
        other.end()
