"""Connections of a user that read none of what they watch delay no other connection of the same user."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from papa_dbus.bus import Variant
from papa_dbus.service.line.server import MAX_MEMORY_OF_USER
from papa_dbus.service.line.watch import MAX_BATCH
from tests.bus.client import Client
from tests.bus.daemon import Papad
from tests.support import PATIENCE

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def connections() -> AsyncIterator[list[Connection]]:
    """Those that the test has opened; they are closed."""
    opened: list[Connection] = []
    yield opened
    for _, writer in opened:
        writer.transport.abort()


async def watch(papad: Papad, opened: list[Connection], limit: int) -> Connection:
    reader, writer = await asyncio.open_unix_connection(papad.socket, limit=limit)
    opened.append((reader, writer))
    await reader.readuntil(b"> ")
    writer.write(b"watch process p\n")
    return reader, writer


async def test_a_connection_that_reads_goes_on(papad: Papad, client: Client, connections: list[Connection]) -> None:
    size = 2 * MAX_BATCH
    await client.make_process("p", "sh", "-c", f"head -c {size} /dev/zero", bufsize=Variant("t", size))
    await client.watch("p", window=Variant("t", 1))  # holds everything
    for _ in range(MAX_MEMORY_OF_USER // MAX_BATCH + 10):
        await watch(papad, connections, 1024)
    reader, writer = await watch(papad, connections, 4 * MAX_BATCH)
    got = 0
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(b"Watching 1\n")
        while got < size:
            batch = await reader.readuntil(b"\n] ")
            got += batch.count(b"\0")
            writer.write(b"\n")
