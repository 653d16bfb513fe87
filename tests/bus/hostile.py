"""For the tests of hostile clients: a bystander who goes on being served meanwhile, and what papad itself takes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bus.client import Client
from tests.bus.daemon import Papad
from tests.support import PATIENCE, until

MIB = 1024 * 1024


class Bystander:
    """Asks for a value again and again, on both front ends, and notes how long each answer took."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"bus": [], "line": []}

    async def ask_bus(self, client: Client) -> None:
        """For ever."""
        while True:
            begin = time.monotonic()
            assert await client.call("GetValue", "s", "mine") == "kept"
            self.seconds["bus"].append(time.monotonic() - begin)
            await asyncio.sleep(0.002)  # paces the load: a client among others

    async def ask_line(self, papad: Papad) -> None:
        """For ever, on one connection."""
        reader, writer = await asyncio.open_unix_connection(str(papad.socket))
        try:
            await reader.readuntil(b"> ")
            while True:
                begin = time.monotonic()
                writer.write(b"get mine\n")
                async with asyncio.timeout(PATIENCE):
                    assert await reader.readuntil(b"\n> ") == b"kept\n> "
                self.seconds["line"].append(time.monotonic() - begin)
                await asyncio.sleep(0.002)  # paces the load
        finally:
            writer.close()

    def report(self, what: str) -> str:
        """What was measured, in words."""
        parts = []
        for server, seconds in self.seconds.items():
            ordered = sorted(seconds)
            parts.append(
                f"{server}: {len(ordered)} answers, median {ordered[len(ordered) // 2] * 1000:.1f} ms,"
                f" slowest {ordered[-1] * 1000:.0f} ms"
            )
        return f"{what}: {'; '.join(parts)}"


@asynccontextmanager
async def bystander(papad: Papad, what: str) -> AsyncIterator[Bystander]:
    """One who is served on both front ends for as long as this lasts; each answer is awaited, but not for ever."""
    client = Client(papad.address)
    await client.bus.start()
    await client.call("SetValue", "ss", "mine", "kept")
    one = Bystander()
    tasks = [asyncio.ensure_future(one.ask_bus(client)), asyncio.ensure_future(one.ask_line(papad))]
    try:
        await both_answered(one, tasks, 1)
        yield one
        for _ in range(10):  # papad is still at what was sent to it
            await both_answered(one, tasks, 10)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await client.bus.close()
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
    print(f"\n{one.report(what)}")


async def both_answered(one: Bystander, tasks: list["asyncio.Task[None]"], count: int) -> None:
    """Wait for so many more answers on each front end."""
    goal = {server: len(seconds) + count for server, seconds in one.seconds.items()}

    def answered() -> bool:
        done = [task for task in tasks if task.done()]
        assert not done, done
        return all(len(one.seconds[server]) >= enough for server, enough in goal.items())

    await until(answered, lambda: f"{count} answers: {goal}")


def memory(papad: Papad) -> int:
    """Bytes of papad's that are in memory now."""
    status = Path(f"/proc/{papad.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024


def cpu_seconds(papad: Papad) -> float:
    """Processor time that papad has used."""
    fields = Path(f"/proc/{papad.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # utime and stime, proc(5); USER_HZ is 100


def descriptors(papad: Papad) -> int:
    """How many papad has open."""
    return len(list(Path(f"/proc/{papad.process.pid}/fd").iterdir()))
