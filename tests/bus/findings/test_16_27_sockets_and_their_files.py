"""Removing a socket leaves no other one half removed, and no other's file is removed with it."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.bus import Variant
from tests.bus.client import Client
from tests.bus.isolated import SupervisedPapad
from tests.support import until

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def started(supervised: SupervisedPapad) -> None:
    """Have it started before each test."""
    supervised.start()


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
    await until(lambda: len(supervised.kept) == 1, lambda: f"one of {supervised.kept}")
    supervised.kill()
    supervised.start()
    assert list(await caller.call("ListSockets", "as", [])) == ["c"]
    assert os.path.exists(disk / "a")
    assert f"socket 'a': its file {disk}/a stays: Read-only file system" in supervised.log.read_text()
