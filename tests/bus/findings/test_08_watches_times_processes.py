"""The processes that watches read are bounded for each client and user and in all, whether a watch follows or not."""

import pytest

from papa_dbus.bus import Variant
from papa_dbus.errors import Limit
from papa_dbus.service import limits
from tests.bus.client import connected
from tests.bus.findings.inside import papad_inside

OBSERVE = {"mode": Variant("s", "observe")}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("OF_CLIENT", 4), ("OF_USER", 8)):
        monkeypatch.setattr(limits, f"MAX_CURSORS_{name}", most)
    monkeypatch.setattr(limits, "MAX_CURSORS", 16)


async def test_a_clients_watches_together(bus_address: str) -> None:
    async with papad_inside(bus_address):
        async for one in connected(bus_address):
            async for other in connected(bus_address):
                for name in ("a", "b"):
                    await one.make_process(name, "sleep", "1000")
                watches = [await one.watch(**OBSERVE) for _ in range(2)]
                with pytest.raises(Limit, match="too many processes together"):
                    await one.watch("a", **OBSERVE)
                await other.watch(**OBSERVE)
                await one.call("Unwatch", "t", watches[0])
                await one.watch("a", **OBSERVE)


async def test_a_watch_that_follows_ends_at_the_bound(bus_address: str) -> None:
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            await client.watch("p*", **OBSERVE, follow=Variant("b", True))
            for number in range(4):
                await client.make_process(f"p{number}", "sleep", "1000")
            assert len(papad.kernel._watches.open) == 1
            await client.make_process("p4", "sleep", "1000")
            assert not papad.kernel._watches.open
            await client.watch("p0", "p1", "p2", "p3", **OBSERVE)  # all that it had is free again


async def test_a_cursor_takes_little_until_something_is_in_flight(bus_address: str) -> None:
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            await client.make_process("p", "sh", "-c", "echo x; exec sleep 1000")
            watch = await client.watch("p")
            [[_, _, records]] = await client.until("Output")
            [cursor] = papad.kernel._watches.open[watch].cursors
            assert len(cursor._sent) == 1
            await client.call("Acknowledge", "ta{st}", watch, {"p": records[-1][0]})
            await client.watch("p")
            first, second = (watch.cursors[0] for watch in papad.kernel._watches.open.values())
            assert first._sent is second._sent
