"""Many of everything: what is hosted at once, and what that costs the others. Figures are printed, none is asserted."""

import asyncio
import os
import re
import statistics
import sys
import time
from pathlib import Path

from tests.bus.client import Client
from tests.bus.daemon import Papad

HOSTED = 2000
WRITERS = 200
LINES = 100

WRITER = """
import sys, time, zlib
name, count, gate = sys.argv[1], int(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
open(gate).read()
start = time.monotonic()
for n in range(count):
    time.sleep(max(0, start + n * 0.1 - time.monotonic()))  # paces the load
    line = f"{name} {n}"
    sys.stdout.write(f"{line} {zlib.crc32(line.encode())}\\n")
    sys.stdout.flush()
"""


async def test_defects_17_and_36_two_thousand_processes_in_one_thread(papad: Papad, client: Client) -> None:
    """The last of them is made, heard and reaped like the first (defect 36: Papa ends at about the 500th)."""
    before = resident(papad)
    started = time.monotonic()
    for first in range(0, HOSTED, 100):
        await asyncio.gather(*(client.make_process(f"p.{n}", "sleep", "300") for n in range(first, first + 100)))
    took = time.monotonic() - started
    counted = await client.call(
        "Get", "ss", "org.papa.Kernel", "ProcessCount", interface="org.freedesktop.DBus.Properties"
    )
    assert counted == HOSTED
    each = (resident(papad) - before) / HOSTED
    print(f"\n{HOSTED} processes hosted: {HOSTED / took:.0f} a second, {each:.1f} KiB of papad's memory for each")
    assert threads(papad) == 1
    await client.make_process("last", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; exit 7")
    await client.watch("last")
    (exited,) = await client.until("Exited")
    assert client.output() == b"1\n2\n3\n4\n5\n"
    assert exited[4:] == [7, True]
    assert len(await client.call("ListProcesses", "as", ["p.1999"])) == 1


PIECES = 960
#: Writes a piece for each byte that it reads.
TOLD = f"""
import os, sys
told = os.open(sys.argv[1], os.O_RDONLY)
for n in range({PIECES}):
    assert os.read(told, 1)
    os.write(1, b"%07d\\n" % n * 8192)
"""


async def test_defect_38_sixty_megabytes_lose_nothing(client: Client, tmp_path: Path) -> None:
    """With the default buffer of 2 MiB, and a watcher that is never more than 1 MiB behind, however fast both are."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    await client.make_process("p", sys.executable, "-c", TOLD, str(gate))
    number = await client.watch("p")
    tell = os.open(gate, os.O_WRONLY)
    os.write(tell, b"x" * 16)
    told, acknowledged, size = 16, 0, 0
    while not client.of("Exited"):
        await client.wait(lambda: len(client.of("Output")) > acknowledged or client.of("Exited"), "more")  # noqa: B023
        for body in client.of("Output")[acknowledged:]:
            await client.call("Acknowledge", "ta{st}", number, {"p": body[2][-1][0]})
            acknowledged, size = acknowledged + 1, size + sum(len(record[3]) for record in body[2])
        more = min(size // 65536 + 16, PIECES) - told
        os.write(tell, b"x" * more)
        told += more
    os.close(tell)
    assert client.of("Dropped") == []
    assert client.output() == b"".join(b"%07d\n" % n * 8192 for n in range(960))


async def test_two_hundred_watched_writers_lose_nothing_and_delay_nobody(
    client: Client, other: Client, tmp_path: Path
) -> None:
    """Each writes ten lines a second; meanwhile a bystander's calls are answered within their usual time."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    for n in range(WRITERS):
        await client.make_process(f"w.{n}", sys.executable, "-c", WRITER, str(n), str(LINES), str(gate))
    number = await client.watch("w.*")
    await client.wait(lambda: len(client.output()) == WRITERS * len("ready\n"), "writers")
    quiet = await round_trips(other, 200)
    reader = asyncio.create_task(acknowledge(client, number))
    opened = os.open(gate, os.O_WRONLY)
    os.close(opened)
    busy = await round_trips(other, 400, every=0.02)
    await client.until("Exited", WRITERS)
    reader.cancel()
    assert client.of("Dropped") == []
    for n in range(WRITERS):
        lines = client.output(f"w.{n}").decode().splitlines()[1:]
        assert [line.split()[:2] for line in lines] == [[str(n), str(i)] for i in range(LINES)]
    assert {tuple(end[4:]) for end in client.of("Exited")} == {(0, True)}
    print(
        f"\n{WRITERS} writers of 10 lines a second, {WRITERS * LINES} lines, none lost; a bystander's call took "
        f"{statistics.median(busy) * 1e3:.2f} ms (p99 {sorted(busy)[int(len(busy) * 0.99)] * 1e3:.1f}), "
        f"{statistics.median(quiet) * 1e3:.2f} ms (p99 {sorted(quiet)[int(len(quiet) * 0.99)] * 1e3:.1f}) without them"
    )


async def acknowledge(client: Client, number: int) -> None:
    """Acknowledge what has come, ten times a second."""
    while True:
        await asyncio.sleep(0.1)  # paces the load
        latest: dict[str, int] = {}
        for signal in client.signals:
            if signal.member == "Output":
                latest[signal.body[1]] = signal.body[2][-1][0]
        if latest:
            await client.call("Acknowledge", "ta{st}", number, latest)


async def round_trips(client: Client, count: int, every: float = 0.0) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await client.call("ListValues", "as", ["none"])
        times.append(time.perf_counter() - started)
        await asyncio.sleep(every)  # paces the load
    return times


def status(papad: Papad, field: str) -> int:
    text = Path(f"/proc/{papad.process.pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def resident(papad: Papad) -> int:
    return status(papad, "VmRSS")


def threads(papad: Papad) -> int:
    return status(papad, "Threads")
