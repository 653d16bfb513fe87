"""Removing a socket leaves no other one half removed, and no other's file is removed with it."""

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from papa_dbus.bus import Variant
from tests.bus.conftest import Client, connected
from tests.bus.isolated import SupervisedPapad


@pytest.fixture
def supervised(bus_address: str, tmp_path: Path) -> Iterator[SupervisedPapad]:
    """A papad that finds its descriptors again; no traceback may be in its log."""
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    yield papad
    log = papad.stop()
    assert "Traceback" not in log, log


@pytest.fixture
async def caller(bus_address: str, supervised: SupervisedPapad) -> AsyncIterator[Client]:
    """A client on that papad's bus."""
    async for client in connected(bus_address):
        yield client


async def make(client: Client, name: str, path: Path) -> None:
    await client.call("MakeSocket", "sa{sv}", name, {"path": Variant("s", str(path))})


@pytest.mark.parametrize("other", ["file", "socket"])
async def test_27_what_lies_at_the_path_after_a_restart_may_be_anothers(
    supervised: SupervisedPapad, caller: Client, tmp_path: Path, other: str
) -> None:
    path = tmp_path / "app.sock"
    await make(caller, "a", path)
    supervised.kill()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        if other == "file":
            path.write_text("another's")
        else:
            listening.bind(str(path))
        supervised.start()
        assert await caller.call("RemoveSockets", "as", ["a"]) == ["a"]
        assert path.exists()


async def test_27_papads_own_file_goes_after_a_restart_too(
    supervised: SupervisedPapad, caller: Client, tmp_path: Path
) -> None:
    path = tmp_path / "app.sock"
    await make(caller, "a", path)
    for restart in (supervised.kill, supervised.reload):
        restart()
        if restart == supervised.kill:
            supervised.start()
        assert path.is_socket()
    await caller.call("RemoveSockets", "as", ["a"])
    assert not path.exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own. Needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "papa-test", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_16_a_file_that_cannot_be_removed_keeps_no_socket_from_being_removed(
    supervised: SupervisedPapad, caller: Client, tmp_path: Path, disk: Path
) -> None:
    """What is said to be removed is, now and after a restart, and what is not is served on."""
    await make(caller, "a", disk / "a")
    await make(caller, "b", tmp_path / "b")
    await make(caller, "c", tmp_path / "c")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert await caller.call("RemoveSockets", "as", ["a", "b"]) == ["a", "b"]
    assert list(await caller.call("ListSockets", "as", [])) == ["c"]
    assert len(supervised.kept) == 1
    supervised.kill()
    supervised.start()
    assert list(await caller.call("ListSockets", "as", [])) == ["c"]
    assert os.path.exists(disk / "a")
    assert f"socket 'a': its file {disk}/a stays: Read-only file system" in supervised.log.read_text()
