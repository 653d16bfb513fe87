"""Runs inside a container: hosts processes and sockets, keeps clients busy, and ends papad over and over.

Prints one line of JSON with what was seen. Everything is bounded by the arguments: processes, lines, kills, restarts,
reloads.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from typing import Any

from papa_dbus.bus import Bus, Variant, address_of
from papa_dbus.client import aio
from papa_dbus.client.aio import Dropped, Exited, Record
from papa_dbus.errors import NotFound, PapaError

NAME = ("org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel")
SYSTEMD = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

WRITER = """
import sys, time, zlib, os
name, count, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
for n in range(count):
    for stream in (sys.stdout, sys.stderr):
        text = f"{name} {n} " + "x" * (n * 7 % 200)
        stream.write(f"{text} {zlib.crc32(text.encode())}\\n")
        stream.flush()
    time.sleep(pause)  # paces the load
os._exit(int(name) % 100)
"""


SERVER = """
import selectors, socket
chosen = selectors.DefaultSelector()
for fd in range(3, 13):
    chosen.register(socket.socket(fileno=fd), selectors.EVENT_READ)
while True:
    for key, _ in chosen.select():
        key.fileobj.accept()[0].close()
"""


#: Watches until it is killed, on a socket or by signals; prints which pieces it has dealt with, and how large each is.
WATCHER = """
import asyncio, contextlib, sys
from papa_dbus.bus import Bus
from papa_dbus.client import aio
from papa_dbus.errors import NotFound
if sys.argv[3] == "signals":
    Bus.passes_descriptors = False
async def main():
    async with aio.connect("system") as kernel:
        with contextlib.suppress(NotFound):  # it has come after all had ended
            async for event in kernel.watch(sys.argv[2], observe=sys.argv[1] == "observe"):
                if isinstance(event, aio.Record):
                    print(event.process, event.seq, len(event.data), flush=True)
                elif isinstance(event, aio.Dropped) and sys.argv[1] == "consume":  # nothing waits for an observer
                    print("dropped", event.process, event.bytes, flush=True)
asyncio.run(main())
"""


class Consumer:
    """A client that reads everything and acknowledges as it goes; its library takes up the watch again."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {}
        self.ends: dict[str, int | None] = {}
        self.dropped = self.pieces = self.by_socket = 0
        self.wrong: list[str] = []

    async def run(self) -> None:
        """Read until every process has ended."""
        async with aio.connect("system") as kernel:
            async for event in kernel.watch("w.*"):
                match event:
                    case Record():
                        self._take(event)
                        self.by_socket += bool(kernel.link.watches._sockets)
                    case Dropped():
                        self.dropped += event.bytes
                    case Exited():
                        self.ends[event.process] = event.exit_code

    def _take(self, record: Record) -> None:
        records = self.records.setdefault(record.process, [])
        self.pieces += 1
        if record.seq != len(records) + 1:
            self.wrong.append(f"{record.process}: {record.seq} came after {len(records)}")
        records.append(record)


def main_pid() -> int:
    shown = subprocess.run(
        ["systemctl", "show", "--property=MainPID", "--value", "papa"], capture_output=True, text=True
    )
    return int(shown.stdout)


async def harass(kills: int, restarts: int, reloads: int) -> None:
    """End papad in each way so many times, in any order, at random moments."""
    todo = ["kill"] * kills + ["restart"] * restarts + ["reload"] * reloads
    random.shuffle(todo)
    for how in todo:
        await asyncio.sleep(random.uniform(0.02, 0.35))  # paces the load
        if how == "kill":
            pid = main_pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
        else:
            process = await asyncio.create_subprocess_exec("systemctl", how, "papa")
            await process.wait()


async def call(bus: Bus, member: str, signature: str, *body: Any) -> Any:
    """A call that is made again until papad answers; what it asks for may be asked for twice."""
    end = time.monotonic() + 60
    while True:
        try:
            return (await bus.call(*NAME, member, signature, body, 10)).body
        except PapaError as error:
            if time.monotonic() > end or error.code not in (
                "internal",
                "bus-lost",
                "unreachable",
                "no-reply",
                "not-found",
            ):
                raise
            await asyncio.sleep(0.05)  # paces the looks


async def connect_constantly(ports: list[int], counts: dict[str, int], stop: asyncio.Event) -> None:
    """The hosted sockets listen all the time: no connection is refused."""
    while not stop.is_set() or counts["connections"] <= 500:
        port = random.choice(ports)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            counts["connections"] += 1
        except ConnectionRefusedError:
            counts["refused"] += 1
        await asyncio.sleep(0.01)  # paces the load


async def change_values(bus: Bus, counts: dict[str, int], stop: asyncio.Event) -> None:
    """A value that was set is the value that is there."""
    n = 0
    while not stop.is_set():
        n += 1
        await call(bus, "SetValue", "ss", f"v{n % 20}", str(n))
        got = (await call(bus, "GetValue", "s", f"v{n % 20}"))[0]
        counts["values"] += 1
        counts["wrong values"] += got != str(n)
        await asyncio.sleep(0.005)  # paces the load


class Mortals:
    """Watchers that come, read for a while and are killed, with what they were sent last not acknowledged.

    Observers read along with processes that another one consumes; consumers have some of their own, in turns.
    """

    def __init__(self) -> None:
        self.killed = 0
        self.complaints: list[str] = []
        self.taken: dict[str, dict[int, int]] = {}

    async def come_and_go(self, mode: str, pattern: str, stop: asyncio.Event) -> None:
        """One after the other."""
        for way in itertools.cycle(("signals", "socket")):
            if stop.is_set():
                return
            watcher = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WATCHER, mode, pattern, way, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            said = asyncio.create_task(watcher.communicate())
            await asyncio.wait([said], timeout=random.uniform(0.5, 2))
            if watcher.returncode is None:
                watcher.kill()
            out, err = await said
            if watcher.returncode == -signal.SIGKILL:
                self.killed += 1  # and whatever it was about to say on stderr is no judgement
            elif watcher.returncode != 0:
                self.complaints += err.decode().splitlines()[-1:] or [f"a watcher ended with {watcher.returncode}"]
            for name, seq, size in (line.split() for line in out.decode().splitlines()):
                if name == "dropped":
                    self.complaints.append(f"dropped {size} of {seq}")
                elif mode == "consume":
                    self.taken.setdefault(name, {})[int(seq)] = int(size)

    async def read_the_rest(self) -> None:
        """What the consumers have left."""
        async with aio.connect("system") as kernel:
            with contextlib.suppress(NotFound):
                async for event in kernel.watch("x.*"):
                    if isinstance(event, Record):
                        self.taken.setdefault(event.process, {})[event.seq] = len(event.data)
                    elif isinstance(event, Dropped):
                        self.complaints.append(f"dropped {event.bytes} of {event.process}")


async def main(processes: int, lines: int, kills: int, restarts: int, reloads: int) -> None:
    bus = Bus(address_of("system"))
    await bus.start()
    ports = []
    for n in range(10):
        made = await call(bus, "MakeSocket", "sa{sv}", f"s{n}", {"backlog": Variant("u", 128)})
        ports.append(made[0]["port"].value)
    serving = {"sockets": Variant("as", [f"s{n}" for n in range(10)])}
    await call(bus, "MakeProcess", "sasa{sv}", "server", [sys.executable, "-c", SERVER], serving)
    for n in range(processes):
        pause = random.choice([0.001, 0.005, 0.02, 0.05]) if n else 0.0
        writer = [sys.executable, "-c", WRITER, str(n), str(lines), str(pause)]
        await call(bus, "MakeProcess", "sasa{sv}", f"w.{n}", writer, {})
    for n in range(3):
        writer = [sys.executable, "-c", WRITER, str(n), str(lines), "0.01"]
        await call(bus, "MakeProcess", "sasa{sv}", f"x.{n}", writer, {})
    consumer = Consumer()
    mortals = Mortals()
    counts = dict.fromkeys(("connections", "refused", "values", "wrong values"), 0)
    stop = asyncio.Event()
    background = [
        asyncio.create_task(connect_constantly(ports, counts, stop)),
        asyncio.create_task(change_values(bus, counts, stop)),
        asyncio.create_task(mortals.come_and_go("observe", "w.*", stop)),
        asyncio.create_task(mortals.come_and_go("consume", "x.*", stop)),
    ]
    reading = asyncio.create_task(consumer.run())
    await harass(kills, restarts, reloads)
    await asyncio.wait_for(reading, 120)
    stop.set()
    await asyncio.gather(*background)
    await asyncio.wait_for(mortals.read_the_rest(), 60)
    for n in range(3):
        taken, written = sum(mortals.taken[f"x.{n}"].values()), 2 * sum(len(line(str(n), i)) for i in range(lines))
        if taken != written:
            consumer.wrong.append(f"x.{n}: {taken} bytes, {written} were written")
    missing = 0
    for n in range(processes):
        records = consumer.records[f"w.{n}"]
        for stream in ("out", "err"):
            data = b"".join(record.data for record in records if record.stream == stream)
            want = b"".join(line(str(n), i) for i in range(lines))
            if data != want:
                missing += 1
                consumer.wrong.append(f"process {n} {stream}: {len(data)} bytes, {len(want)} were written")
    codes = [f"{name}: {end}" for name, end in consumer.ends.items() if end != int(name[2:]) % 100]
    server = (await call(bus, "ListProcesses", "as", ["server"]))[0]["server"]
    server_lives = server["running"].value
    await call(bus, "RemoveProcesses", "as", ["server"])
    os.kill(server["pid"].value, signal.SIGKILL)
    end = time.monotonic() + 20
    while (left := len((await call(bus, "ListProcesses", "as", []))[0])) and time.monotonic() < end:
        await asyncio.sleep(0.05)  # paces the looks
    await call(bus, "RemoveSockets", "as", ["*"])
    await call(bus, "RemoveValues", "as", ["v*"])
    await bus.close()
    seen = {
        "wrong": consumer.wrong[:10], "streams wrong": missing, "dropped": consumer.dropped,
        "pieces": consumer.pieces, "by socket": consumer.by_socket,
        "wrong exit codes": codes[:10], "processes left": left,
        "watchers killed": mortals.killed, "watchers complain": mortals.complaints[:10],
        "server lives": server_lives, "lines": (processes + 3) * lines * 2, **counts,
    }  # fmt: skip
    print(json.dumps(seen))


def line(name: str, n: int) -> bytes:
    text = f"{name} {n} " + "x" * (n * 7 % 200)
    return f"{text} {zlib.crc32(text.encode())}\n".encode()


asyncio.run(main(*(int(arg) for arg in sys.argv[1:])))
