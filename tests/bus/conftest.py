"""A real dbus-daemon, a real papad on it, and a client that speaks D-Bus by the contract."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Bus, Message, Variant
from papa_dbus.client import Papa
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from papa_dbus.service.private_bus import OwnBus
from tests.bus.lineclient import Papad as LinePapad
from tests.bus.scripted_child import ScriptedChild
from tests.guarding import guard_file, loop_is_never_held  # noqa: F401 (fixtures)
from tests.papactl import Papactl
from tests.support import PATIENCE, until


@pytest.fixture
def bus_address() -> Iterator[str]:
    """A message bus of the test's own."""
    bus = OwnBus()
    yield bus.address
    bus.close()


@dataclass
class Papad:
    """A papad that runs as a process, and how to reach it."""

    process: "subprocess.Popen[bytes]"
    address: str
    socket: Path
    log: Path

    def stop(self) -> str:
        """End it as systemd would; returns what it logged."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        return self.log.read_text()


def start_papad(address: str, path: Path, *arguments: str, prefix: Sequence[str] = ()) -> Papad:
    """Start papad, by a command of its own if need be, and wait until it says that it is ready (sd_notify(3))."""
    log, notify = path.with_suffix(".log"), path.with_suffix(".notify")
    command = [sys.executable, "-m", "papa_dbus.service", "--bus", address, "--port", "0", "--socket", str(path)]
    with log.open("wb") as stderr, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(notify))
        ready.settimeout(0.1)
        process = subprocess.Popen(
            [*prefix, *command, *arguments],
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDEVMODE": "1", "NOTIFY_SOCKET": str(notify)},
        )
        while process.poll() is None:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in ready.recv(4096):
                    return Papad(process, address, path, log)
    raise AssertionError(f"papad ended with {process.returncode}: {log.read_text()}")


@pytest.fixture
def papad(bus_address: str, tmp_path: Path) -> Iterator[Papad]:
    """A papad on a bus of its own; it must end cleanly and log no error."""
    papad = start_papad(bus_address, tmp_path / "line")
    yield papad
    log = stop_with_children(papad)
    assert papad.process.returncode == 0, log
    for word in ("Traceback", "Warning:", "failed", "internal"):
        assert word not in log, log


def stop_with_children(papad: Papad) -> str:
    """End it, and what it has started; returns what it logged."""
    pids = hosted_pids(papad.process.pid)
    log = papad.stop()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one that was writing ends with the pipe's reader
            os.kill(pid, signal.SIGKILL)
    return log


@pytest.fixture(scope="module")
def shared_papad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinePapad]:
    """One papad for all tests of this file."""
    papad = LinePapad(tmp_path_factory.mktemp("papad"))
    yield papad
    assert papad.stop() == 0
    assert "Traceback" not in papad.log.read_text()
    assert not Path(papad.path).exists()


@pytest.fixture
def scripted_child(p: Papa, tmp_path: Path) -> Iterator[ScriptedChild]:
    """A hosted process that prints what it is told."""
    scripted_child = ScriptedChild(tmp_path, "p", code=3)
    p.make_process("p", args=scripted_child.command)
    yield scripted_child
    scripted_child.end()


def hosted_pids(papad: int) -> list[int]:
    """The processes that a papad has started."""
    tasks = Path(f"/proc/{papad}/task")
    if not tasks.exists():
        return []
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


class Client:
    """Calls the kernel's methods and gathers the signals that reach it."""

    def __init__(self, address: str) -> None:
        self.bus = Bus(address)
        self.bus.on_signal.append(self._hear)
        self.signals: list[Message] = []
        self._something = asyncio.Event()

    def _hear(self, signal: Message) -> None:
        if signal.path.startswith(OBJECT_PATH):
            self.signals.append(signal)
            self._something.set()

    async def call(self, member: str, signature: str = "", *body: Any, interface: str = BUS_NAME, **at: Any) -> Any:
        """A method's first result, or None."""
        reply = await self.bus.call(
            BUS_NAME, at.get("path", OBJECT_PATH), interface, member, signature, body, at.get("timeout", PATIENCE)
        )
        if reply.unix_fds:
            return reply.unix_fds[0]
        return plain(reply.body[0]) if len(reply.body) == 1 else plain(reply.body) or None

    async def make_process(self, name: str, *command: str, **options: Variant) -> dict[str, Any]:
        """MakeProcess."""
        result: dict[str, Any] = await self.call("MakeProcess", "sasa{sv}", name, list(command), options)
        return result

    async def watch(self, *patterns: str, **options: Variant) -> int:
        """Watch; the number of the watch."""
        number: int = (await self.call("Watch", "asa{sv}", list(patterns), options))[0]
        return number

    async def listed(self, name: str) -> dict[str, Any]:
        """What ListProcesses says of one process."""
        listed: dict[str, Any] = (await self.call("ListProcesses", "as", [name]))[name]
        return listed

    async def until_written(self, name: str, size: int) -> None:
        """Wait until papad has read so many bytes of a process's output."""

        async def written() -> bool:
            return bool((await self.listed(name))["written"] >= size)

        await until(written, f"{size} bytes of {name}")

    async def until_buffered(self, name: str, size: int) -> None:
        """Wait until so much of a process's output waits for an acknowledgement."""

        async def buffered() -> bool:
            return bool((await self.listed(name))["buffered"] == size)

        await until(buffered, f"{size} bytes of {name} that wait")

    async def until_ended(self, name: str) -> None:
        """Wait until a process is listed as ended, without taking anything from it."""

        async def ended() -> bool:
            return not (await self.listed(name))["running"]

        await until(ended, f"the end of {name}")

    def of(self, member: str) -> list[list[Any]]:
        """The bodies of the signals of one kind."""
        return [signal.body for signal in self.signals if signal.member == member]

    def output(self, process: str = "", stream: str = "") -> bytes:
        """What came as Output."""
        return b"".join(
            data
            for _, name, records in self.of("Output")
            for _, _, kind, data in records
            if process in ("", name) and stream in ("", kind)
        )

    async def until(self, member: str, count: int = 1) -> list[list[Any]]:
        """Wait for so many signals of one kind."""
        await self.wait(lambda: len(self.of(member)) >= count, member)
        return self.of(member)[:count]

    async def until_output(self, text: bytes) -> None:
        """Wait for a text in the output."""
        await self.wait(lambda: text in self.output(), repr(text))

    async def wait(self, condition: Any, what: str) -> Any:
        """Wait until a condition holds, looked at after each signal."""
        while not (result := condition()):
            self._something.clear()
            try:
                await asyncio.wait_for(self._something.wait(), PATIENCE)
            except TimeoutError:
                raise AssertionError(f"no {what}: {[(s.member, s.body) for s in self.signals][-10:]}") from None
        return result


def plain(value: Any) -> Any:
    """A D-Bus value without its variants."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


async def connected(address: str) -> AsyncIterator[Client]:
    """A client, for as long as a test needs it."""
    client = Client(address)
    await client.bus.start()
    yield client
    await client.bus.close()


@pytest.fixture
async def client(papad: Papad) -> AsyncIterator[Client]:
    """A client of that papad."""
    async for client in connected(papad.address):
        yield client


@pytest.fixture
async def other(papad: Papad) -> AsyncIterator[Client]:
    """A second client."""
    async for client in connected(papad.address):
        yield client


@pytest.fixture
def papactl(papad: Papad) -> Papactl:
    """papactl for that papad."""
    return Papactl(papad.address)
