"""The message bus goes away and comes back: everything hosted goes on, and the name and its objects return."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.names import OBJECT_PATH
from tests.bus.client import Client
from tests.bus.daemon import Papad, start_papad
from tests.bus.scripted_child import ScriptedChild
from tests.support import PATIENCE, until


class Broker:
    """A dbus-daemon that can be ended and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:path={folder / 'bus'}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={self.address}", "--print-address=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)
        (self._folder / "bus").unlink(missing_ok=True)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


def line(papad: Papad, command: str) -> str:
    """One command by the line protocol's Unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(papad.socket))
        sock.sendall(command.encode() + b"\nquit\n")
        said = b""
        while chunk := sock.recv(65536):
            said += chunk
    return said.decode().split("> ", 1)[1]


async def connected(papad: Papad) -> Client:
    """A client, as soon as the kernel has its name again."""
    client = Client(papad.address)
    await client.bus.start()
    bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

    async def owned() -> bool:
        reply = await client.bus.call(*bus, "NameHasOwner", "s", ["org.papa.Kernel"])
        return bool(reply.body[0])

    await until(owned, "the name has an owner")
    return client


async def test_the_bus_goes_and_comes_back(broker: Broker, tmp_path: Path) -> None:
    papad = start_papad(broker.address, tmp_path / "line")
    client = await connected(papad)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = "import sys\nfor n in range(5000): print(n, flush=True)\nopen(sys.argv[1]).read(); print('end')"
    await client.make_process("p", sys.executable, "-c", script, str(fifo))
    await client.call("MakeSocket", "sa{sv}", "web", {})
    number = await client.watch("p")
    await client.until_output(b"100\n")
    got = client.of("Output")[0][2]
    await client.call("Acknowledge", "ta{st}", number, {"p": got[-1][0]})
    broker.stop()
    assert "running=True" in line(papad, "list processes")
    assert "port=" in line(papad, "list sockets")
    broker.start()
    again = await connected(papad)
    managed = await again.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")
    assert set(managed) == {f"{OBJECT_PATH}/process/p", f"{OBJECT_PATH}/socket/web"}
    await again.watch("p")
    fifo.write_text("")
    await again.until("Exited")
    first = b"".join(record[3] for record in got)
    assert (first + again.output()).decode() == "".join(f"{n}\n" for n in range(5000)) + "end\n"
    await client.bus.close()
    await again.bus.close()
    log = papad.stop()
    assert papad.process.returncode == 0
    assert "the message bus has gone" in log
    assert "the message bus is back" in log
    assert "Traceback" not in log


async def test_a_consumer_beside_one_that_lags_gets_nothing_twice(broker: Broker, tmp_path: Path) -> None:
    """Another bus gives it another name, so papad sends again what the other has not acknowledged; it knows that."""
    papad = start_papad(broker.address, tmp_path / "line")
    scripted_child = ScriptedChild(tmp_path)
    quick, slow = list[bytes](), list[bytes]()
    may_go_on = asyncio.Event()

    async def read(kernel: aio.Kernel, got: list[bytes], hold: bool) -> None:
        async with kernel.watch("parrot") as watch:
            async for event in watch:
                if isinstance(event, aio.Exited):
                    return
                assert isinstance(event, aio.Record)
                got.append(event.data)
                if hold:  # it is acknowledged once the next is asked for
                    await may_go_on.wait()

    async with asyncio.timeout(PATIENCE), aio.connect(broker.address) as one, aio.connect(broker.address) as other:
        await one.make_process("parrot", list(scripted_child.command))
        scripted_child.say("one")
        readers = [asyncio.create_task(read(other, slow, True))]
        await until(lambda: slow, "one")
        readers.append(asyncio.create_task(read(one, quick, False)))
        scripted_child.say("two", "three")
        await until(lambda: b"".join(quick).endswith(b"three\n"), "three")
        broker.stop()
        broker.start()
        scripted_child.say("four")
        await until(lambda: b"".join(quick).endswith(b"four\n"), "four")
        may_go_on.set()
        scripted_child.end()
        await asyncio.gather(*readers)
    assert b"".join(quick) == b"".join(slow) == b"one\ntwo\nthree\nfour\n"
    assert "Traceback" not in papad.stop()


async def test_stopping_while_the_bus_is_away(broker: Broker, tmp_path: Path) -> None:
    papad = start_papad(broker.address, tmp_path / "line")
    broker.stop()
    assert "Papa is home" not in line(papad, "list values")
    assert "Traceback" not in papad.stop()
    assert papad.process.returncode == 0
    broker.start()
