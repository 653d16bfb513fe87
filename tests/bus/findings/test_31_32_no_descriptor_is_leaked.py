"""No descriptor is inherited or leaked, whether an answer comes too late or connecting is given up."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import Late
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.bus.daemon import Papad
from tests.support import PATIENCE, descriptors


async def test_no_child_inherits_what_comes_over_the_bus(papad: Papad) -> None:
    async with aio.connect(papad.address) as kernel:
        await kernel.make_socket("s", port=0)
        made = await kernel.make_process("p", ["/bin/sleep", "600"])
        pidfd = await kernel.open_process("p")
        with await kernel.open_socket("s") as mine:
            assert not mine.get_inheritable()
        assert not os.get_inheritable(pidfd)
        os.close(pidfd)
        os.kill(made.pid, signal.SIGKILL)


@pytest.mark.stops_papad
async def test_a_late_answer_leaves_no_descriptor(papad: Papad) -> None:
    async with aio.connect(papad.address) as kernel:
        await kernel.make_socket("s", port=0)
        before = descriptors()
        os.kill(papad.process.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                with pytest.raises(Late):
                    await kernel.link.bus.call(BUS_NAME, OBJECT_PATH, BUS_NAME, "OpenSocket", "s", ["s"], timeout=0.05)
            cancelled = asyncio.create_task(kernel.open_socket("s"))
            await asyncio.sleep(0)
            cancelled.cancel()
        finally:
            os.kill(papad.process.pid, signal.SIGCONT)
        await kernel.info()  # its answer comes after the others
        assert not descriptors().items() - before.items()  # those of other tests' loops may go meanwhile


@pytest.mark.parametrize("turns", [0, 3, 30, 300])
async def test_connecting_that_is_given_up_leaves_no_connection(tmp_path: Path, turns: int) -> None:
    """The bus lets in and says nothing more; connecting is given up before, while, or after it does."""
    came, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        with contextlib.suppress(ConnectionError):
            while line := (await reader.readline()).lstrip(b"\0"):
                if line.startswith(b"AUTH EXTERNAL"):
                    writer.write(b"OK 1234deadbeef1234deadbeef1234dead\r\n")
                elif line.startswith(b"NEGOTIATE_UNIX_FD"):
                    writer.write(b"AGREE_UNIX_FD\r\n")
                elif line.startswith(b"BEGIN"):
                    await reader.read()
                    break
        writer.close()
        left.set()

    path = str(tmp_path / "deaf")
    async with asyncio.timeout(PATIENCE), await asyncio.start_unix_server(serve, path):
        connecting = asyncio.ensure_future(aio.connect(f"unix:path={path}").__aenter__())
        await came.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await left.wait()
