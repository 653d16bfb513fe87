"""The asyncio client against a real papad on a real message bus."""

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from papa_dbus import names
from papa_dbus.bus import Message, MessageType, Variant
from papa_dbus.client import aio
from papa_dbus.client.aio import Dropped, Event, Exited, Kernel, Record
from papa_dbus.errors import Exists, InvalidArgs, NotFound, Spawn, Unreachable
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from papa_dbus.service.private_bus import OwnBus
from tests.bus.client import Client
from tests.bus.daemon import Papad, start_papad
from tests.bus.fakepapad import FakePapad
from tests.bus.scripted_child import ScriptedChild
from tests.bus.test_bus_restart import Broker, broker
from tests.support import PATIENCE, descriptors, turns

__all__ = ["broker"]

COUNTS = ("Started", "SocketCount", "ValueCount", "ProcessCount", "BufferedBytes")


@pytest.fixture
async def kernel(papad: Papad) -> AsyncIterator[Kernel]:
    """The client."""
    async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
        yield kernel


@pytest.fixture
async def second(papad: Papad) -> AsyncIterator[Kernel]:
    """Another client of the same kernel."""
    async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
        yield kernel


def data(events: list[Event], stream: str = "out") -> bytes:
    """What was printed."""
    return b"".join(event.data for event in events if isinstance(event, Record) and event.stream == stream)


async def read(watch: aio.Watch) -> list[Event]:
    """A watch to its end."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in watch]


async def read_until(watch: aio.Watch, text: bytes) -> list[Event]:
    """A watch until a text has come; all of that is acknowledged."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE), watch:
        async for event in watch:
            events.append(event)
            if text in data(events):
                break
    return events


# ----------------------------------------------------------------------- items


async def test_sockets(kernel: Kernel) -> None:
    made = await kernel.make_socket("web", backlog=7, reuseport=False)
    assert (made.name, made.family, made.type, made.backlog, made.host) == ("web", "inet", "stream", 7, "127.0.0.1")
    assert await kernel.make_socket("web", backlog=7) == made
    assert await kernel.list_sockets("w*") == {"web": made}
    assert await kernel.list_sockets("other") == {}
    with await kernel.open_socket("web") as mine:
        assert mine.getsockname() == ("127.0.0.1", made.port)
        with socket.create_connection(mine.getsockname(), PATIENCE):
            mine.accept()[0].close()
    with pytest.raises(Exists, match="has other options: backlog 7; remove it first"):
        await kernel.make_socket("web", backlog=8)
    with pytest.raises(InvalidArgs, match="'family'"):
        await kernel.make_socket("odd", family="odd")  # type: ignore[arg-type]
    assert await kernel.remove_sockets("web") == ["web"]
    with pytest.raises(NotFound, match="web"):
        await kernel.open_socket("web")


async def test_a_unix_socket(kernel: Kernel, tmp_path: Path) -> None:
    made = await kernel.make_socket("local", path=str(tmp_path / "sock"), umask=0o177)
    assert (made.family, made.path, made.umask) == ("unix", str(tmp_path / "sock"), 0o177)
    assert await kernel.remove_sockets("local") == ["local"]


async def test_values(kernel: Kernel) -> None:
    await kernel.set_value("a.1", "one")
    await kernel.set_value("a.2", "two\nlines = ü")
    assert await kernel.get_value("a.2") == "two\nlines = ü"
    assert await kernel.list_values("a.*") == {"a.1": "one", "a.2": "two\nlines = ü"}
    assert await kernel.remove_values("a.1") == ["a.1"]
    with pytest.raises(NotFound, match=r"a\.1"):
        await kernel.get_value("a.1")
    with pytest.raises(InvalidArgs):
        await kernel.remove_values("*")


async def test_processes(kernel: Kernel, tmp_path: Path) -> None:
    script = 'echo "$A $(pwd) $(umask) $(ulimit -n)"; echo bad >&2; exit 3'
    made = await kernel.make_process(
        "p", ["/bin/sh", "-c", script], env={"A": "b", "PATH": os.environ["PATH"]}, working_dir=str(tmp_path), uid=0,
        gid="root", rlimits={"nofile": 321}, umask=0o27, bufsize=4096,
    )  # fmt: skip
    assert (made.name, made.args, made.bufsize) == ("p", ["/bin/sh", "-c", script], 4096)
    events = await read(kernel.watch("p"))
    assert data(events) == f"b {tmp_path} 0027 321\n".encode()
    assert data(events, "err") == b"bad\n"
    assert isinstance(events[-1], Exited)
    assert events[-1].exit_code == 3
    assert [event.seq for event in events if not isinstance(event, Dropped)] == list(range(1, len(events) + 1))
    assert await kernel.list_processes() == {}
    with pytest.raises(Spawn, match="nothing-here"):
        await kernel.make_process("q", ["/nothing-here"])


async def test_a_pidfd_signals_and_waits(kernel: Kernel) -> None:
    await kernel.make_process("p", ["/bin/sleep", "600"])
    pidfd = await kernel.open_process("p")
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    assert select.select([pidfd], [], [], PATIENCE)[0] == [pidfd]
    os.close(pidfd)
    assert await kernel.wait("p") == -signal.SIGTERM
    assert await kernel.wait("p") == -signal.SIGTERM  # waiting takes nothing away
    assert await kernel.remove_processes("p") == ["p"]
    with pytest.raises(NotFound):
        await kernel.wait("p")


async def test_sockets_are_handed_on(kernel: Kernel) -> None:
    made = await kernel.make_socket("web")
    code = "import os, socket; print(os.environ['LISTEN_FDNAMES'], socket.socket(fileno=3).getsockname()[1])"
    await kernel.make_process("p", ["/usr/bin/python3", "-c", code], sockets=["web"])
    assert data(await read(kernel.watch("p"))) == f"web {made.port}\n".encode()


async def test_the_kernel_itself(kernel: Kernel) -> None:
    await kernel.set_value("a", "b")
    info = await kernel.info()
    assert (info.sockets, info.values, info.processes, info.buffered_bytes) == (0, 1, 0, 0)
    assert (info.api_version, info.features) == (names.API_VERSION, names.FEATURES)
    assert not await kernel.exit_if_idle()


async def test_a_papad_that_is_older_than_the_contracts_versions(bus_address: str) -> None:
    of = {"Version": Variant("s", "1.9"), **{name: Variant("t", 0) for name in COUNTS}}
    fake = FakePapad(bus_address, GetAll=lambda _: ("a{sv}", [of]))
    await fake.start()
    async with aio.connect(bus_address) as kernel:
        info = await kernel.info()
        assert (info.version, info.api_version, info.features) == ("1.9", 0, ())
    await fake.bus.close()


# ------------------------------------------------------------------------ watches


async def test_what_the_body_is_done_with_is_acknowledged(kernel: Kernel, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path)
    await kernel.make_process("parrot", scripted_child.command)
    scripted_child.say("one")
    async with kernel.watch("parrot") as watch:
        assert watch.names == ["parrot"]
        async for event in watch:
            assert data([event]) == b"one\n"
            break  # within async with, the body is done with it
    scripted_child.say("two")
    assert data(await read_until(kernel.watch("parrot"), b"two")) == b"two\n"
    scripted_child.end()
    await read(kernel.watch("parrot"))


async def test_what_a_body_raises_over_comes_again(kernel: Kernel, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path)
    await kernel.make_process("parrot", scripted_child.command)
    scripted_child.say("one")
    await read_until(kernel.watch("parrot", observe=True), b"one")
    for _ in range(2):
        with contextlib.suppress(ZeroDivisionError):
            async with kernel.watch("parrot") as watch:
                async for event in watch:
                    assert data([event]) == b"one\n"
                    raise ZeroDivisionError
    scripted_child.end()
    assert data(await read(kernel.watch("parrot"))) == b"one\n"


async def test_a_loop_that_is_left_without_async_with(kernel: Kernel, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path)
    await kernel.make_process("parrot", scripted_child.command)
    scripted_child.say("one")
    async for event in kernel.watch("parrot"):
        assert data([event]) == b"one\n"
        break  # nothing says that the body was done with it
    scripted_child.end()
    assert data(await read(kernel.watch("parrot"))) == b"one\n"


async def test_an_end_of_many_processes(kernel: Kernel) -> None:
    for n in range(20):
        await kernel.make_process(f"p.{n}", ["/bin/sh", "-c", f"seq {n} 500; exit {n}"])
    events = await read(kernel.watch("p.*"))
    ends = {event.process: event.exit_code for event in events if isinstance(event, Exited)}
    assert ends == {f"p.{n}": n for n in range(20)}
    for n in range(20):
        mine = [event for event in events if event.process == f"p.{n}"]
        assert data(mine).split() == [b"%d" % i for i in range(n, 501)]
    assert await kernel.list_processes() == {}


async def test_an_observer_takes_nothing_away(kernel: Kernel, second: Kernel) -> None:
    await kernel.make_process("p", ["/bin/sh", "-c", "seq 1000; exit 4"])
    numbers = [b"%d" % n for n in range(1, 1001)]
    for _ in range(2):
        seen = await read(second.watch("p", observe=True))
        assert data(seen).split() == numbers
        assert isinstance(seen[-1], Exited)
    assert data(await read(kernel.watch("p"))).split() == numbers


async def test_an_observer_follows_new_processes(kernel: Kernel, second: Kernel) -> None:
    ended = []
    async with asyncio.timeout(PATIENCE), second.watch("p.*", observe=True, follow=True) as watch:
        assert watch.names == []
        for n in range(3):
            await kernel.make_process(f"p.{n}", ["/bin/true"])
        async for event in watch:
            ended.append(event.process)
            if len(ended) == 3:
                break
    assert sorted(ended) == ["p.0", "p.1", "p.2"]
    await read(kernel.watch("p.*"))


async def test_a_loss_is_told(kernel: Kernel) -> None:
    await kernel.make_process("p", ["/bin/sh", "-c", "head -c 100000 /dev/zero"], bufsize=1000)
    await kernel.wait("p")
    events = await read(kernel.watch("p"))
    (lost,) = (event for event in events if isinstance(event, Dropped))
    assert lost.first_seq == 1
    assert lost.bytes + len(data(events)) == 100_000


async def test_a_removed_process_ends_its_watch(kernel: Kernel, second: Kernel, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path, code=5)
    await kernel.make_process("parrot", scripted_child.command)
    watching = asyncio.create_task(read(kernel.watch("parrot")))
    await second.remove_processes("parrot")
    scripted_child.end()
    events = await watching
    assert [event.exit_code for event in events if isinstance(event, Exited)] == [5]


async def test_a_client_that_stops_reading_does_not_grow(kernel: Kernel, second: Kernel) -> None:
    """A window of output is sent ahead, and no more."""
    await kernel.make_process("p", ["/bin/sh", "-c", "head -c 3000000 /dev/zero"], bufsize=4_000_000)
    async with second.watch("p", window=10_000) as slow:
        taken = 0
        async for event in slow:
            taken += len(event.data) if isinstance(event, Record) else 0
            await turns()
    assert taken == 3_000_000


async def test_closing_in_the_middle_leaves_nothing(papad: Papad) -> None:
    before = descriptors()
    async with aio.connect(papad.address) as kernel:
        await kernel.make_process("p", ["/bin/sleep", "600"])
        waiting = asyncio.create_task(read(kernel.watch("p")))
        await turns()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        os.kill((await kernel.list_processes())["p"].pid, signal.SIGKILL)
        await read(kernel.watch("p"))
    assert descriptors() == before
    with pytest.raises(RuntimeError, match="not connected"):
        await kernel.info()


async def test_a_stranger_cannot_speak_for_the_kernel(kernel: Kernel, client: Client, tmp_path: Path) -> None:
    """A signal that looks like output but does not come from the kernel's owner is not believed."""
    scripted_child = ScriptedChild(tmp_path)
    await kernel.make_process("parrot", scripted_child.command)
    forged = Message(
        message_type=MessageType.SIGNAL, destination=kernel.link._bus.unique_name, path=OBJECT_PATH,
        interface=BUS_NAME, member="Output", signature="tsa(ttsay)", body=[1, "parrot", [[1, 1, "out", b"forged\n"]]],
    )  # fmt: skip
    async with kernel.watch("parrot") as watch:
        client.bus.send(forged)
        await client.call("ListValues", "as", [])  # the bus has passed the forgery on by then
        scripted_child.say("true")
        scripted_child.end()
        assert data(await read(watch)) == b"true\n"


# ----------------------------------------------------------- when something is away


async def test_no_kernel_on_any_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PAPA_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nothing")
    bus = OwnBus()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
    with pytest.raises(Unreachable) as caught:
        async with aio.connect():
            pass
    bus.close()
    assert f"{tmp_path}/nothing cannot be reached" in str(caught.value)
    assert "neither on the session bus nor can it be started there" in str(caught.value)


async def test_a_call_is_bounded_in_time() -> None:
    bus = OwnBus()
    async with aio.connect(bus.address, timeout=PATIENCE) as kernel:
        kernel.link.timeout = 0.5
        with pytest.raises(Unreachable, match=r"org\.papa\.Kernel"):
            await kernel.info()
    bus.close()


async def test_a_call_waits_for_the_kernel(tmp_path: Path) -> None:
    bus = OwnBus()
    async with aio.connect(bus.address, timeout=PATIENCE) as kernel:
        asking = asyncio.create_task(kernel.info())
        await turns()
        papad = await asyncio.to_thread(start_papad, bus.address, tmp_path / "line")
        assert (await asking).processes == 0
    papad.stop()
    bus.close()


async def test_a_watch_goes_on_over_a_bus_restart(broker: Broker, tmp_path: Path) -> None:
    papad = start_papad(broker.address, tmp_path / "line")
    scripted_child = ScriptedChild(tmp_path)
    async with aio.connect(broker.address, timeout=PATIENCE) as kernel:
        await kernel.make_process("parrot", scripted_child.command)
        events: list[Event] = []
        scripted_child.say("line 0")
        async with asyncio.timeout(PATIENCE):
            async for event in kernel.watch("parrot"):
                events.append(event)
                said = len(data(events).splitlines())
                if isinstance(event, Exited):
                    continue
                if said % 3 == 0:
                    broker.stop()  # and what is in hand cannot be acknowledged
                    broker.start()
                if said < 10:
                    scripted_child.say(f"line {said}")
                else:
                    scripted_child.end()
        assert data(events) == b"".join(b"line %d\n" % n for n in range(10))
    papad.stop()
