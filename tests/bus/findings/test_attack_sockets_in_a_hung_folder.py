"""A folder that hangs keeps a few places, however many sockets are asked for there: others have theirs."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import Bind, Limit
from papa_dbus.service import limits
from papa_dbus.service.items import socket_files
from papa_dbus.service.lookups import MAX_OF_USER
from tests.bus.daemon import Papad
from tests.bus.findings.inside import papad_inside
from tests.hung import HungFolder
from tests.support import PATIENCE, until

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


async def test_a_file_server_that_hangs_with_many_folders_holds_up_no_other_folder(
    papad: Papad, tmp_path: Path
) -> None:
    folder = tmp_path / "hung"
    folder.mkdir()
    hung = None
    try:
        async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
            await kernel.make_socket("before", path=str(tmp_path / "before"))
            hung = HungFolder(folder)
            asked = [
                asyncio.ensure_future(kernel.make_socket(f"s{number}", path=str(folder / f"d{number}/s")))
                for number in range(MAX_OF_USER)
            ]
            for each in asked:
                with pytest.raises(Bind, match="its folder did not answer"):
                    await each
            await kernel.make_socket("t", path=str(tmp_path / "t"))
            await kernel.remove_sockets("before")
            assert not (tmp_path / "before").exists()
            await kernel.remove_sockets("t")
    finally:
        if hung is not None:
            hung.release()


@pytest.mark.parametrize("bound", ["MAX_HUNG_OF_USER", "MAX_HUNG"])
async def test_what_hangs_is_bounded(
    bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(limits, "PATH_TIMEOUT", 0.1)
    monkeypatch.setattr(socket_files, bound, 1)
    folder = tmp_path / "hung"
    folder.mkdir()
    hung = HungFolder(folder)
    async with papad_inside(bus_address), aio.connect(bus_address, timeout=PATIENCE) as kernel:
        try:
            with pytest.raises(Bind, match="its folder did not answer"):
                await kernel.make_socket("s", path=str(folder / "s"))
            with pytest.raises(Limit, match=r"option 'path': .*/t: 1 files of sockets wait already for folders"):
                await kernel.make_socket("t", path=str(tmp_path / "t"))
        finally:
            hung.release()
        monkeypatch.setattr(limits, "PATH_TIMEOUT", PATIENCE)

        async def is_made() -> bool:
            with contextlib.suppress(Limit):
                await kernel.make_socket("t", path=str(tmp_path / "t"))
                return True
            return False

        await until(is_made, "the end of what hung")
        await kernel.remove_sockets("t")
