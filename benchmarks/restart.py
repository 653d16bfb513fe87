"""How long papad is away: from the beginning of its end to its next answer, with so many processes hosted.

Runs as root where papa.service is installed and nothing is hosted, with the program's own Python:

    /usr/local/lib/papa/bin/python benchmarks/restart.py [--rounds N] [PROCESSES ...]

Prints a table in milliseconds, the median of so many rounds.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable

from papa_dbus.bus import Bus, address_of
from papa_dbus.errors import PapaError

NAME = ("org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel")
PROPERTIES = (*NAME[:2], "org.freedesktop.DBus.Properties")
PATIENCE = 120.0


async def systemctl(verb: str) -> None:
    """Have systemd do it, without waiting."""
    process = await asyncio.create_subprocess_exec("systemctl", "--no-block", verb, "papa")
    await process.wait()


async def kill() -> None:
    """End papad as the OOM killer does."""
    show = ["systemctl", "show", "--property=MainPID", "--value", "papa"]
    shown = await asyncio.create_subprocess_exec(*show, stdout=subprocess.PIPE)
    os.kill(int((await shown.communicate())[0]), signal.SIGKILL)


WAYS: dict[str, Callable[[], Awaitable[None]]] = {
    "restart": lambda: systemctl("restart"),
    "reload": lambda: systemctl("reload"),
    "kill -9": kill,
}


async def answer(bus: Bus, after: str = "") -> tuple[str, int]:
    """Who answers first, but for ``after``, and how many processes that one has."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            reply = await bus.call(*PROPERTIES, "Get", "ss", [NAME[0], "ProcessCount"], 10)
            if reply.sender != after:
                return str(reply.sender), int(reply.body[0].value)
        except PapaError:
            pass
        if time.monotonic() > end:
            raise SystemExit("papad does not come back")
        await asyncio.sleep(0.001)


async def measure(bus: Bus, way: str, processes: int) -> float:
    """Milliseconds of one end and beginning."""
    owner, _ = await answer(bus)
    begin = time.perf_counter()
    await WAYS[way]()
    _, count = await answer(bus, owner)
    taken = (time.perf_counter() - begin) * 1000
    if count != processes:
        raise SystemExit(f"{count} of {processes} processes came back")
    await settled()
    return taken


async def settled() -> None:
    """Wait until systemd has nothing more to do for papad."""
    show = ["systemctl", "show", "--property=ActiveState,SubState,Job", "papa"]
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        shown = await asyncio.create_subprocess_exec(*show, stdout=subprocess.PIPE)
        if b"ActiveState=active\nSubState=running" in (await shown.communicate())[0].replace(b"Job=\n", b""):
            return
        await asyncio.sleep(0.01)


async def main(sizes: list[int], rounds: int) -> None:
    """The table, and everything away again."""
    bus = Bus(address_of("system"))
    await bus.start()
    print(f"{'processes':>9}" + "".join(f"{way:>10}" for way in WAYS) + "   ms until the first answer")
    made = 0
    try:
        for size in sizes:
            while made < size:
                await bus.call(*NAME, "MakeProcess", "sasa{sv}", [f"bench.{made}", ["sleep", "infinity"], {}], 30)
                made += 1
            row = [statistics.median([await measure(bus, way, size) for _ in range(rounds)]) for way in WAYS]
            print(f"{size:>9}" + "".join(f"{taken:>10.0f}" for taken in row), flush=True)
    finally:
        await bus.call(*NAME, "RemoveProcesses", "as", [["bench.*"]], 60)
        subprocess.run(["systemctl", "kill", "--signal=KILL", "papa-bench.*.scope"], check=False)
        await bus.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How long papad is away.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("processes", type=int, nargs="*", default=[10, 100, 1000])
    options = parser.parse_args()
    asyncio.run(main(options.processes, options.rounds))
