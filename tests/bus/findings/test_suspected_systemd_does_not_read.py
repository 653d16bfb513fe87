"""While systemd reads nothing of what papad tells it, papad serves, and runs nothing that a kill would lose."""

import asyncio
from pathlib import Path

from papa_dbus.client import aio
from tests.bus.isolated import SupervisedPapad, ended
from tests.support import PATIENCE

COUNT = 40  # more than systemd's socket takes unread by default (net.unix.max_dgram_qlen)


async def test_nothing_waits_and_nothing_is_lost(bus_address: str, tmp_path: Path) -> None:
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    ran = tmp_path / "ran"
    async with (
        aio.connect(papad.address, timeout=PATIENCE) as kernel,
        aio.connect(papad.address, timeout=PATIENCE) as other,
    ):

        async def make_many(name: str, value: str) -> list[asyncio.Task[aio.Process]]:
            """Ask for many processes, and set as many values meanwhile."""
            makes = [
                asyncio.ensure_future(
                    kernel.make_process(f"{name}{n}", ["sh", "-c", f"echo $$ >>{ran}; exec sleep 600"])
                )
                for n in range(COUNT)
            ]
            for n in range(COUNT):
                await other.set_value(f"{value}{n}", "text")
            return makes

        with papad.deaf():
            makes = await make_many("p", "v")
        made = {each.name: each.pid for each in await asyncio.gather(*makes)}
        papad.kill()
        papad.start()
        assert {name: each.pid for name, each in (await other.list_processes()).items()} == made
        assert set(map(int, ran.read_text().split())) <= set(made.values())
        with papad.deaf():
            makes = await make_many("q", "w")
            papad.kill()
        papad.start()
        await asyncio.gather(*makes, return_exceptions=True)  # asked again, or told that papad has gone
        listed = {name: each.pid for name, each in (await other.list_processes()).items()}
    with ended(*listed.values()):
        assert made.items() <= listed.items()
        assert set(map(int, ran.read_text().split())) <= set(listed.values())  # each that ran is known
    assert "Traceback" not in papad.stop()
