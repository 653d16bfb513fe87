"""How fast processes are made on systemd, each in a scope of its own: papad beside systemd itself and Papa 1.0.6.

Runs as root on a machine (a container will do) with a booted systemd where papa.service is installed and nothing is
hosted, with a Python that has the project's `bench` extra, from the project's folder:

    .venv/bin/python -m benchmarks.scopes [--rounds N] [--processes N]

Each in turns; prints the medians, in processes a second, one made after the other.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import papa
from dbus_next import BusType, Message, MessageType, Variant
from dbus_next.aio import MessageBus

from benchmarks.subjects import Papa106
from papa_dbus.client import aio

_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_PROGRAM = "/bin/true"
_PATIENCE = 30.0  # seconds


async def by_systemd(count: int, sleepers: Sequence[int] = ()) -> None:
    """Transient units, each waited for until its job is done, as systemd-run(1) does.

    Services, or, which is the least that a process costs there, scopes for processes that are there already.
    """
    bus: Any = await MessageBus(bus_type=BusType.SYSTEM).connect()
    done: asyncio.Queue[str] = asyncio.Queue()

    def hear(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.member == "JobRemoved":
            done.put_nowait(message.body[1])

    async def call(member: str, signature: str = "", body: Any = (), to: tuple[str, str, str] = _SYSTEMD) -> Any:
        destination, path, interface = to
        reply = await bus.call(
            Message(
                destination=destination, path=path, interface=interface, member=member, signature=signature,
                body=list(body),
            )
        )  # fmt: skip
        if reply.message_type is MessageType.ERROR:
            raise OSError(reply.body)
        return reply.body

    bus.add_message_handler(hear)
    await call("AddMatch", "s", [f"type='signal',sender='{_SYSTEMD[0]}',member='JobRemoved'"], _BUS)
    await call("Subscribe")
    for n in range(count):
        properties = [["CollectMode", Variant("s", "inactive-or-failed")]]
        if sleepers:
            properties += [["Slice", Variant("s", "papa.slice")], ["PIDs", Variant("au", [sleepers[n]])]]
        else:
            properties.append(["ExecStart", Variant("a(sasb)", [[_PROGRAM, [_PROGRAM], False]])])
        unit = f"bench-{os.getpid()}-{n}.{'scope' if sleepers else 'service'}"
        [job] = await call("StartTransientUnit", "ssa(sv)a(sa(sv))", [unit, "fail", properties, []])
        async with asyncio.timeout(_PATIENCE):
            while await done.get() != job:
                pass
    bus.disconnect()


async def by_aio(count: int) -> None:
    """papad on the system bus."""
    async with aio.connect("system") as kernel:
        for n in range(count):
            await kernel.make_process(f"bench.{n}", [_PROGRAM])
        await kernel.remove_processes("bench.*")


def by_line(count: int) -> None:
    """papad through port 20202, with the client of Papa 1.0.6."""
    with papa.Papa(20202, 5) as client:
        for n in range(count):
            client.make_process(f"bench.{n}", _PROGRAM, env=dict(os.environ))
        client.remove_processes("bench.*")


def by_papa(count: int, subject: Papa106) -> None:
    """Papa 1.0.6, without any scope."""
    for n in range(count):
        subject.make(f"bench.{n}", [_PROGRAM])
    subject.client.remove_processes("bench.*")


@contextlib.contextmanager
def sleeping(count: int) -> Iterator[list[int]]:
    """So many processes that do nothing."""
    processes = [subprocess.Popen(["/bin/sleep", "600"]) for _ in range(count)]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(make: Callable[[], None]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    make()
    return time.perf_counter() - begin


def main(rounds: int, processes: int) -> None:
    """The table."""
    with Papa106() as old:
        ways: dict[str, Callable[[], None]] = {
            "papad, D-Bus (aio)": lambda: asyncio.run(by_aio(processes)),
            "papad, 20202": lambda: by_line(processes),
            "systemd, transient services": lambda: asyncio.run(by_systemd(processes)),
            "Papa 1.0.6, without scopes": lambda: by_papa(processes, old),
        }
        scopes = "systemd, scopes alone"
        seen: dict[str, list[float]] = {name: [] for name in (*ways, scopes)}
        for _ in range(rounds):
            for name, make in ways.items():
                seen[name].append(processes / seconds(make))
            with sleeping(processes) as sleepers:
                seen[scopes].append(processes / seconds(lambda: asyncio.run(by_systemd(processes, sleepers))))
    for name, rates in seen.items():
        print(f"{name:<28} {statistics.median(rates):>5.0f} a second")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How fast processes are made on systemd.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=200)
    options = parser.parse_args()
    subprocess.run(["systemctl", "start", "papa"], check=True)
    main(options.rounds, options.processes)
