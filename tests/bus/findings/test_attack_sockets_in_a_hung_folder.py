"""A folder that hangs keeps a few places, however many sockets are asked for there: others have theirs."""

import asyncio
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import Bind
from papa_dbus.service.lookups import MAX_OF_USER
from tests.bus.daemon import Papad
from tests.hung import HungFolder
from tests.support import PATIENCE

pytestmark = pytest.mark.root


async def test_others_have_theirs_made_and_removed(papad: Papad, tmp_path: Path) -> None:
    folder = tmp_path / "hung"
    folder.mkdir()
    hung = HungFolder(folder)
    try:
        async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
            asked = [
                asyncio.ensure_future(kernel.make_socket(f"s{number}", path=str(folder / f"s{number}")))
                for number in range(MAX_OF_USER + 1)
            ]
            await asyncio.to_thread(hung.wait_until_asked)
            for _ in range(2):  # while they wait, and while what was given up hangs on
                await kernel.make_socket("t", path=str(tmp_path / "t"))
                assert await kernel.remove_sockets("t") == ["t"]
                assert not (tmp_path / "t").exists()
                for each in asked:
                    with pytest.raises(Bind, match="its folder did not answer"):
                        await each
    finally:
        hung.release()
    async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
        assert await kernel.list_sockets() == {}
