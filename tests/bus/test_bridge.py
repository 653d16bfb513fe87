"""A bus behind a program (unixexec:), as ssh and systemd-stdio-bridge make one; and an observer's batches."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from papa_dbus.bus import unixexec
from papa_dbus.client import aio
from papa_dbus.errors import NotSupported, Unreachable
from tests.bus.daemon import Papad
from tests.papactl import Papactl
from tests.support import PATIENCE, begin_counting_children, children, until


@pytest.fixture(autouse=True)
def _no_program_is_left() -> Iterator[None]:
    """Whatever a connection started has ended, and was waited for."""
    begin_counting_children()
    yield
    assert children() == set()


def address_of(*words: str) -> str:
    """A program's address, all of it escaped."""
    quoted = [quote(word, safe="").replace("~", "%7E") for word in words]
    return f"unixexec:path={quoted[0]}" + "".join(f",argv{n}={word}" for n, word in enumerate(quoted[1:], 1))


def behind_a_bridge(papad: Papad) -> str:
    """papad's bus, behind systemd's own bridge."""
    return address_of("systemd-stdio-bridge", f"--bus-path={papad.address}")


def test_the_address_of_another_machine() -> None:
    address = unixexec.ssh_address("root@host~1.example", "system")
    assert address == ("unixexec:path=ssh,argv1=-xT,argv2=--,argv3=root%40host%7E1.example,argv4=systemd-stdio-bridge")
    assert unixexec.command_of(address) == "ssh -xT -- 'root@host~1.example' systemd-stdio-bridge"
    assert unixexec.command_of(unixexec.ssh_address("h", "session")).endswith("systemd-stdio-bridge --user")
    assert "--bus-path=unix:path=/x,guid=1" in unixexec.command_of(unixexec.ssh_address("h", "unix:path=/x,guid=1"))


async def test_all_but_descriptors_passes_a_bridge(papad: Papad) -> None:
    async with aio.connect(behind_a_bridge(papad)) as kernel:
        await kernel.make_socket("s", port=0)
        await kernel.make_process("p", ["sh", "-c", "seq 100000; exec sleep 1000"])
        for refused in (kernel.open_socket("s"), kernel.open_process("p")):
            with pytest.raises(NotSupported, match="descriptors cannot be passed from another machine"):
                await refused
        data = b""
        async with asyncio.timeout(PATIENCE), kernel.watch("p", window=10_000) as watch:
            async for record in watch:
                assert isinstance(record, aio.Record)
                data += record.data
                if data.endswith(b"\n100000\n"):
                    break
        assert data == b"".join(b"%d\n" % n for n in range(1, 100_001))
        await kernel.remove_sockets("s")  # the connection has outlived all of it


async def test_a_bridge_that_ends_is_started_again(papad: Papad) -> None:
    before = children()
    async with aio.connect(behind_a_bridge(papad)) as kernel:
        await kernel.set_value("a", "1")
        [bridge_pid] = children() - before
        os.kill(bridge_pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            assert await kernel.get_value("a") == "1"
        assert len(children() - before - {bridge_pid}) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["false"], ""),
        (["/nowhere/ssh"], "/nowhere/ssh is not installed here"),
        (["sh", "-c", "head -c 1 >/dev/null; read line; printf 'REJECTED EXTERNAL\\r\\n'; cat"], "REJECTED"),
        (["sh", "-c", "printf 'not a bus at all\\r\\n'; exec sleep 1000"], "not"),
        (["head", "-c", "100000", "/dev/zero"], ""),
    ],
)
async def test_a_program_that_is_no_bus(words: list[str], why: str) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unreachable, match=f"behind '.*{Path(words[0]).name}.*' cannot be reached: .*{why}"):
            async with aio.connect(address_of(*words)):
                pass


def test_papactl_says_it_in_one_sentence(bus_address: str) -> None:
    done = Papactl(address_of("false"))("list", status=5)
    assert done.stderr.startswith(b"papactl: cannot reach papad: the message bus behind 'false' cannot be reached")


async def test_an_observer_hears_when_it_has_caught_up(papad: Papad) -> None:
    async with aio.connect(papad.address) as kernel:
        await kernel.make_process("p", ["sh", "-c", "seq 300000; exec sleep 1000"], bufsize=4_000_000)

        async def written() -> bool:
            return (await kernel.list_processes("p"))["p"].written == 1_988_895

        await until(written, "all of it is written")
        async with asyncio.timeout(PATIENCE), kernel.watch("p", observe=True, window=20_000) as watch:
            before, after = b"", False
            async for batch in watch.batches():
                if not batch:
                    after = True
                    break
                before += b"".join(event.data for event in batch if isinstance(event, aio.Record))
        assert after
        assert before.endswith(b"\n300000\n")
        assert len(before) == 1_988_895
        # Nothing is there at all, and nothing will be.
        await kernel.make_process("quiet", ["sleep", "1000"])
        async with asyncio.timeout(PATIENCE), kernel.watch("quiet", observe=True) as watch:
            async for batch in watch.batches():
                assert batch == []
                break


async def test_consuming_in_batches_acknowledges_what_the_body_is_done_with(papad: Papad) -> None:
    async with aio.connect(papad.address) as kernel:
        await kernel.make_process("p", ["sh", "-c", "echo one; exec sleep 1000"])
        with pytest.raises(ZeroDivisionError):
            await _fail_with_the_first_batch(kernel)
        async with asyncio.timeout(PATIENCE), kernel.watch("p") as watch:
            async for batch in watch.batches():
                assert [event.data for event in batch if isinstance(event, aio.Record)] == [b"one\n"]
                await kernel.remove_processes("p")
                break


async def _fail_with_the_first_batch(kernel: aio.Kernel) -> None:
    async with kernel.watch("p") as watch:
        async for batch in watch.batches():
            raise ZeroDivisionError(batch)
