"""A user database or a name server that does not answer holds up whoever asks it, and nobody else."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import Bind, InvalidArgs
from tests.bus.isolated import SupervisedPapad
from tests.bus.lineclient import LineClient
from tests.hung import SlowDirectory
from tests.support import PATIENCE

pytestmark = pytest.mark.root


@pytest.fixture
def directory(tmp_path: Path) -> SlowDirectory:
    """Give a slow directory."""
    return SlowDirectory(tmp_path)


@pytest.fixture
def slow_papad(bus_address: str, tmp_path: Path, directory: SlowDirectory) -> Iterator[SupervisedPapad]:
    """Give a papad whose libc asks the slow directory."""
    papad = SupervisedPapad(bus_address, tmp_path, environment=directory.environment)
    papad.start()
    yield papad
    assert "Traceback" not in papad.stop()


async def others_are_served(papad: SupervisedPapad) -> None:
    """Both front ends answer, and a process of papad's own user starts: that one is not looked up."""
    async with aio.connect(papad.address, timeout=PATIENCE) as other:
        await other.set_value("v", "text")
        assert (await other.make_process("own", ["/bin/true"])).uid == 0
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(papad.socket))
        client = LineClient(sock)
        client.reply()
        assert client.ask("get v") == "text"


async def test_a_user_who_is_looked_up_for_long(slow_papad: SupervisedPapad, directory: SlowDirectory) -> None:
    async with aio.connect(slow_papad.address, timeout=PATIENCE) as kernel:
        asked = asyncio.ensure_future(kernel.make_process("x", ["/bin/true"], uid="slowuser"))
        async with directory.asked():
            await others_are_served(slow_papad)
            assert not asked.done()
        with pytest.raises(InvalidArgs, match="option 'uid': there is no user 'slowuser'"):
            await asked


async def test_a_host_that_is_looked_up_for_long(slow_papad: SupervisedPapad, directory: SlowDirectory) -> None:
    async with aio.connect(slow_papad.address, timeout=PATIENCE) as kernel:
        asked = asyncio.ensure_future(kernel.make_socket("s", host="web.slow"))
        async with directory.asked():
            await others_are_served(slow_papad)
            assert not asked.done()
        with pytest.raises(Bind, match="option 'host': 'web.slow'"):
            await asked
