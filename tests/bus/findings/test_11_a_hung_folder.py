"""A Unix socket whose folder hangs holds up neither papad's start nor its loop, nor its end."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import Bind
from tests.bus.isolated import SupervisedPapad, ended
from tests.hung import HungFolder
from tests.support import PATIENCE

pytestmark = pytest.mark.root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder that can be made to hang."""
    folder = tmp_path / "hung"
    folder.mkdir()
    return folder


@pytest.fixture
def papad_in(bus_address: str, tmp_path: Path) -> Iterator[SupervisedPapad]:
    """Give a papad that is started again with what it had."""
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    yield papad
    assert "Traceback" not in papad.stop()


async def test_papad_starts_where_the_folder_of_a_hosted_socket_hangs(papad_in: SupervisedPapad, folder: Path) -> None:
    async with aio.connect(papad_in.address, timeout=PATIENCE) as kernel:
        await kernel.make_socket("s", path=str(folder / "s"))
        other = await kernel.make_process("other", ["sleep", "600"])
        hung = HungFolder(folder)
        try:
            with ended(other.pid):
                papad_in.kill()
                papad_in.start()
                assert (await kernel.list_sockets())["s"].path == str(folder / "s")
                await asyncio.to_thread(papad_in.reload)
                assert await kernel.remove_sockets("s") == ["s"]
                assert f"socket 's': its file {folder}/s stays: its folder did not answer" in papad_in.log.read_text()
        finally:
            hung.release()


async def test_others_are_served_while_the_folder_of_a_new_socket_hangs(
    papad_in: SupervisedPapad, folder: Path, tmp_path: Path
) -> None:
    hung = HungFolder(folder)
    try:
        async with (
            aio.connect(papad_in.address, timeout=PATIENCE) as kernel,
            aio.connect(papad_in.address, timeout=PATIENCE) as other,
        ):
            asked = asyncio.ensure_future(kernel.make_socket("s", path=str(folder / "s")))
            await asyncio.to_thread(hung.wait_until_asked)
            await other.make_socket("t", path=str(tmp_path / "t"))
            assert await other.remove_sockets("t") == ["t"]
            assert not (tmp_path / "t").exists()
            assert not asked.done()
            with pytest.raises(Bind, match="option 'path': .*/hung/s: its folder did not answer in 5 s"):
                await asked
            await asyncio.to_thread(papad_in.reload)  # what hangs there is no thread of papad's
            assert await other.list_sockets() == {}
    finally:
        hung.release()


async def test_the_file_of_a_removed_socket_is_removed_after_a_restart(
    papad_in: SupervisedPapad, tmp_path: Path
) -> None:
    """It is known by what was stored when it was made: nobody looks at it when papad starts."""
    async with aio.connect(papad_in.address, timeout=PATIENCE) as kernel:
        for name in "ab":
            await kernel.make_socket(name, path=str(tmp_path / name))
        papad_in.kill()
        (tmp_path / "b").unlink()
        (tmp_path / "b").write_text("another's")
        papad_in.start()
        assert await kernel.remove_sockets("a", "b") == ["a", "b"]
    assert [(tmp_path / name).exists() for name in "ab"] == [False, True]
