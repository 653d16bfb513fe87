"""Hostile clients on both front ends: others are served, papad's memory stays bounded, and what is hosted lives."""

import asyncio
import fcntl
import json
import os
import random
import socket
import struct
import sys
import termios
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.errors import Limit, PapaError
from papa_dbus.service.limits import FLIGHT_SHARE
from papa_dbus.service.line import server as line_server
from tests.bus.client import Client, connected
from tests.bus.daemon import Papad, hosted_pids, start_papad
from tests.bus.hostile import MIB, bystander, cpu_seconds, descriptors, memory
from tests.support import PATIENCE, until

#: What a hostile client may cost beyond its user's share: objects of its connections, and what malloc keeps.
SLACK = 96 * MIB
ROOT = Path(__file__).parents[2]
CROWD = 300


@pytest.fixture
async def hosted(client: Client) -> AsyncIterator[int]:
    """A process that writes all the time; afterwards it must still be there, and all it wrote in order."""
    made = await client.make_process("worker", "sh", "-c", "i=0; while :; do echo $((i=i+1)); sleep 0.2; done")
    watch = await client.watch("worker")
    yield made["pid"]
    assert (await client.call("ListProcesses", "as", ["worker"]))["worker"]["running"]
    await client.call("Acknowledge", "ta{st}", watch, {})
    numbers = [int(line) for line in client.output("worker").split()]
    assert numbers == list(range(1, len(numbers) + 1))
    os.kill(made["pid"], 9)
    await client.until("Exited")


class Crowd:
    """Many connections of one user to the line protocol, none of which plays by the rules."""

    def __init__(self, papad: Papad) -> None:
        self._papad = papad
        self._stack = ExitStack()

    def connect(self) -> socket.socket:
        """One more."""
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.settimeout(PATIENCE)
        sock.connect(str(self._papad.socket))
        return sock

    def close(self) -> None:
        """All go."""
        self._stack.close()


@pytest.fixture
def crowd(papad: Papad) -> Iterator[Crowd]:
    """A crowd that has left when the test ends."""
    crowd = Crowd(papad)
    yield crowd
    crowd.close()


def read_nothing(crowd: Crowd) -> None:
    """Ask for all there is, and never read."""
    for _ in range(CROWD):
        crowd.connect().sendall(b"list values\n" * 20)


def end_no_line(crowd: Crowd) -> None:
    """Send lines that never end."""
    piece = b"set v " + b"x" * MIB
    for _ in range(CROWD):
        sock = crowd.connect()
        with suppress(OSError):  # it is told, and closed
            sock.sendall(piece)


def send_byte_by_byte(crowd: Crowd) -> None:
    """Write slowly."""
    socks = [crowd.connect() for _ in range(CROWD)]
    for byte in b"make process slow":
        for sock in socks:
            sock.sendall(bytes([byte]))


def half_close(crowd: Crowd) -> None:
    """Send half a command, close one half of the connection, and stay."""
    for _ in range(CROWD):
        sock = crowd.connect()
        sock.sendall(b"list values\nmake process half /bin/tr")
        sock.shutdown(socket.SHUT_WR)


def come_and_go(crowd: Crowd) -> None:
    """Connect and be gone, thousands of times."""
    for _ in range(10):
        for _ in range(CROWD):
            crowd.connect()
        crowd.close()


def come_and_stay(crowd: Crowd) -> None:
    """Connect until there are more than papad serves."""
    for _ in range(line_server.MAX_CONNECTIONS_OF_USER + 200):
        crowd.connect()


def talk_rubbish(crowd: Crowd) -> None:
    """Send random bytes, with telnet's own among them."""
    chance = random.Random(20202)
    for _ in range(CROWD):
        with suppress(OSError):  # it is told, and closed
            crowd.connect().sendall(bytes(chance.choice((chance.randrange(256), 255, 10)) for _ in range(4000)))


def watch_and_sleep(crowd: Crowd) -> None:
    """Watch a process that prints much, and neither read nor acknowledge."""
    for _ in range(CROWD // 3):
        crowd.connect().sendall(b"watch process loud\n")


HOSTILE = [
    read_nothing, end_no_line, send_byte_by_byte, half_close, come_and_go, come_and_stay, talk_rubbish, watch_and_sleep
]  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
async def test_on_the_line_protocol_too(
    papad: Papad, client: Client, hosted: int, crowd: Crowd, attack: Callable[[Crowd], None]
) -> None:
    for number in range(4):
        await client.call("SetValue", "ss", f"big{number}", "x" * 1_000_000)
    loud = await client.make_process("loud", "sh", "-c", "while :; do head -c 65536 /dev/zero; sleep 0.01; done")
    files, before = descriptors(papad), memory(papad)
    async with bystander(papad, f"{attack.__doc__} ({CROWD} clients)"):
        await asyncio.to_thread(attack, crowd)
    cost = memory(papad) - before
    print(f"papad's memory grew by {cost / MIB:.0f} MiB")
    assert cost < line_server.MAX_MEMORY_OF_USER + SLACK
    await asyncio.to_thread(crowd.close)
    await until(lambda: descriptors(papad) <= files, lambda: f"{descriptors(papad)} descriptors, {files} before")
    assert set(await client.call("ListProcesses", "as", [])) == {"worker", "loud"}
    os.kill(loud["pid"], 9)


def unread(sock: socket.socket) -> int:
    """Bytes that papad has not read yet (SIOCOUTQ, unix(7))."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0])


async def test_a_watcher_goes_on_in_little_batches_where_its_user_holds_much(
    papad: Papad, client: Client, crowd: Crowd
) -> None:
    made = await client.make_process("p", "sh", "-c", "head -c 1000000 /dev/zero; sleep 600")
    for _ in range(line_server.MAX_MEMORY_OF_USER // MIB - 2):
        sock = crowd.connect()
        await asyncio.to_thread(sock.sendall, b"set v " + b"x" * (MIB + 20_000))
        await until(lambda: not unread(sock), "papad has read it")  # noqa: B023
    watcher = crowd.connect()
    watcher.sendall(b"watch process p\n")

    def batch() -> int:
        said = b""
        while not said.endswith(b"\n] "):
            piece = watcher.recv(1 << 20)
            assert piece
            said += piece
        watcher.sendall(b"\n")
        assert len(said) < 2 * FLIGHT_SHARE
        return said.count(b"\0")

    got = 0
    while got < 1000000:
        got += await asyncio.to_thread(batch)
    os.kill(made["pid"], 9)


async def test_on_the_bus(papad: Papad, client: Client, hosted: int) -> None:
    """Calls that are wrong, more than can be answered at once, large ones, and watches that nobody acknowledges."""
    before = memory(papad)
    async with bystander(papad, "Floods of calls on the bus, and a thousand watches"):
        abusive = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bus.abusive_client", papad.address, stdin=PIPE, stdout=PIPE, cwd=ROOT
        )
        assert abusive.stdout is not None
        async with asyncio.timeout(3 * PATIENCE):
            errors = json.loads(await abusive.stdout.readline())
    cost = memory(papad) - before
    print(f"papad's memory grew by {cost / MIB:.0f} MiB")
    await abusive.communicate(b"\n")
    assert cost < SLACK
    assert errors == {"NotFound": 3000, "InvalidArgs": 1000, "Limit": 21 + 1100 - 1024, "Spawn": 50}


# ------------------------------------------------------------------- descriptors run out


@pytest.fixture
def scarce(bus_address: str, tmp_path: Path) -> Iterator[Papad]:
    """A papad with 64 descriptors in all."""
    papad = start_papad(bus_address, tmp_path / "line", prefix=["prlimit", "--nofile=64:64"])
    yield papad
    for pid in hosted_pids(papad.process.pid):
        os.kill(pid, 9)
    papad.stop()
    assert papad.process.returncode == 0


async def test_without_descriptors_others_are_served_and_the_listener_comes_back(scarce: Papad) -> None:
    crowd = Crowd(scarce)
    before = descriptors(scarce)
    async for client in connected(scarce.address):
        await client.call("SetValue", "ss", "first", "")  # which papad tells systemd: nobody listens there any more
        await until(lambda: descriptors(scarce) < before, "the descriptor for systemd to be let go")
        made = await client.make_process("kept", "sh", "-c", "while :; do echo here; sleep 0.2; done")
        await client.call("MakeSocket", "sa{sv}", "kept", {})
        async with bystander(scarce, "No descriptor is left"):
            for _ in range(200):
                crowd.connect()
            await until(lambda: descriptors(scarce) >= 64, "no descriptor is left")
            calls: list[tuple[Any, ...]] = [
                ("MakeProcess", "sasa{sv}", "p", ["/bin/true"], {}),
                ("MakeSocket", "sa{sv}", "s", {}),
            ]
            for call in calls:
                with pytest.raises(Limit, match="Too many open files"):
                    await client.call(*call)
            with pytest.raises(PapaError):
                await client.call("OpenSocket", "s", "kept")
        # A loop that accepts in vain would use all the time there is; what is hosted prints ten lines meanwhile.
        await client.watch("kept")
        begin, used = time.monotonic(), cpu_seconds(scarce)
        await client.until("Output", 10)
        took, used = time.monotonic() - begin, cpu_seconds(scarce) - used
        print(f"papad used {used:.2f} s of {took:.2f} s")
        assert used < took / 8
        await asyncio.to_thread(crowd.close)
        late = crowd.connect()
        assert (await asyncio.to_thread(late.recv, 100)).startswith(b"Papa is home")
        assert await client.call("MakeSocket", "sa{sv}", "s", {})
        assert (await client.call("ListProcesses", "as", []))["kept"]["pid"] == made["pid"]
    crowd.close()
    log = scarce.log.read_text()
    assert log.count("\n") < 100, log
