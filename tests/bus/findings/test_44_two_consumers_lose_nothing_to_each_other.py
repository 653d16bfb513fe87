"""Two consuming watches on one process lose nothing to each other, and get nothing twice, over papad's restarts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from papa_dbus.service import limits
from tests.bus.consumer import Consumer, consumer
from tests.bus.isolated import SupervisedPapad
from tests.bus.scripted_child import ScriptedChild
from tests.support import PATIENCE


@pytest.fixture
async def papad(bus_address: str, tmp_path: Path) -> AsyncIterator[SupervisedPapad]:
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    yield papad
    assert "Traceback" not in papad.stop()


async def again(papad: SupervisedPapad, how: str) -> None:
    """Have another papad take over."""
    if how == "kill":
        await asyncio.to_thread(papad.kill)
        await asyncio.to_thread(papad.start)
    elif how == "reload":
        await asyncio.to_thread(papad.reload)
    else:
        await asyncio.to_thread(papad.terminate)
        await asyncio.to_thread(papad.start)


@pytest.mark.parametrize("how", ["reload", "restart", "kill"])
async def test_both_on_the_bus(papad: SupervisedPapad, tmp_path: Path, how: str) -> None:
    """The one that is back first acknowledges what the other has not had; that one had acknowledged more before."""
    scripted_child = ScriptedChild(tmp_path, code=4)
    async with consumer(papad.address) as quick, consumer(papad.address) as slow:
        await quick.make_process("parrot", *scripted_child.command)
        await quick.consume("parrot")
        await slow.consume("parrot")
        scripted_child.say("one")
        await slow.wait(lambda: slow.total == 4, "output")
        await quick.wait(lambda: quick.total == 4, "output")
        await quick.until_buffered("parrot", 0)
        slow.holds.add("parrot")
        scripted_child.say("two")
        await slow.wait(lambda: slow.total == 8, "output")  # and does not acknowledge it
        await quick.wait(lambda: quick.total == 8, "output")
        await quick.call("ListValues", "as", [])  # its acknowledgement has come, too
        await again(papad, how)
        scripted_child.say("three")
        received = quick.received
        await quick.consume("parrot")
        await quick.wait(lambda: quick.total == 14, "output")
        assert quick.received == received + 6  # nothing that it had acknowledged comes again
        await quick.until_buffered("parrot", 10)
        slow.holds.clear()
        slow.last.clear()
        received = slow.received
        await slow.consume("parrot")
        await slow.wait(lambda: slow.total == 14, "output")
        assert slow.received == received + 10
        await quick.until_buffered("parrot", 0)
        scripted_child.end()
        for each in (quick, slow):
            await each.wait(lambda each=each: each.ends, "end")
            assert (each.gaps, each.exits) == ([], {"parrot": 4})
        assert await quick.call("ListProcesses", "as", []) == {}


@contextlib.asynccontextmanager
async def line(papad: SupervisedPapad) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of the line protocol."""
    reader, writer = await asyncio.open_unix_connection(papad.socket)
    await reader.readuntil(b"> ")
    yield reader, writer
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize("how", ["reload", "restart", "kill"])
async def test_one_on_the_bus_and_one_on_20202(papad: SupervisedPapad, tmp_path: Path, how: str) -> None:
    """What the line's watch acknowledges while the bus's is away is not lost to that, nor the other way round."""
    scripted_child = ScriptedChild(tmp_path)
    async with consumer(papad.address) as client, line(papad) as (reader, writer):
        await client.make_process("parrot", *scripted_child.command)
        await client.consume("parrot")
        writer.write(b"watch process parrot\n")
        await reader.readuntil(b"\n")
        client.holds.add("parrot")
        scripted_child.say("one")
        await client.wait(lambda: client.total == 4, "output")
        batch = await reader.readuntil(b"] ")
        assert b"one" in batch
        await again(papad, how)
        if how != "reload":
            await come_back_by_line(papad, client)
            scripted_child.end()
            return
        writer.write(b"\n")  # the line's watch goes on, and acknowledges while the bus's is away
        scripted_child.say("two")
        assert b"two" in await reader.readuntil(b"] ")
        writer.write(b"\n")
        scripted_child.say("three")
        assert b"three" in await reader.readuntil(b"] ")
        client.holds.clear()
        client.last.clear()
        await client.consume("parrot")
        await client.wait(lambda: client.total == 14, "output")
        assert client.gaps == []
        scripted_child.end()
        await client.wait(lambda: client.exits, "end")


async def come_back_by_line(papad: SupervisedPapad, client: Consumer) -> None:
    """The connection has gone with papad: its client connects again, and finds what it had not acknowledged."""
    client.holds.clear()
    client.last.clear()
    await client.consume("parrot")
    async with asyncio.timeout(PATIENCE):
        await client.wait(lambda: client.received == 8, "output")
    await client.call("ListValues", "as", [])
    async with line(papad) as (reader, writer):
        writer.write(b"watch process parrot\n")
        await reader.readuntil(b"\n")
        assert b"one" in await reader.readuntil(b"] ")


async def test_one_that_does_not_come_back_is_given_up(papad: SupervisedPapad, tmp_path: Path) -> None:
    scripted_child = ScriptedChild(tmp_path)
    async with consumer(papad.address) as stays:
        await stays.make_process("parrot", *scripted_child.command)
        await stays.consume("parrot")
        async with consumer(papad.address) as leaves:
            leaves.holds.add("parrot")
            await leaves.consume("parrot")
            scripted_child.say("one")
            await leaves.wait(lambda: leaves.total == 4, "output")
            await again(papad, "kill")
        stays.last.clear()  # what papad has not read of its acknowledgements comes again
        await stays.consume("parrot")
        await stays.wait(lambda: stays.received >= 4, "output")
        assert limits.ABSENCE < PATIENCE
        await stays.until_buffered("parrot", 0)
        scripted_child.end()
        await stays.wait(lambda: stays.ends, "end")
