"""What is removed is what was looked at, though the folder's owner has its path lead elsewhere meanwhile."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.service.fork import errand as fork_errand


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder; ``precious`` has a file of the same name."""
    monkeypatch.chdir(tmp_path)  # an errand leaves it
    (tmp_path / "folder").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/s").write_text("not the user's")
    return tmp_path / "folder"


def swapping(folder: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    def swap(*arguments: Any) -> Any:
        result = function(*arguments)
        folder.rename(folder.with_name("moved"))
        folder.symlink_to("precious")
        return result

    return swap


def test_a_sockets_file_that_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "s"))
    whose = fork_errand.identity(str(folder / "s"))
    assert whose is not None
    monkeypatch.setattr(fork_errand, "identity", swapping(folder, fork_errand.identity))
    fork_errand._remove(str(folder / "s"), whose)
    assert (folder / "s").read_text() == "not the user's"
    assert not (folder.with_name("moved") / "s").exists()


def test_a_leftover(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "s"))
    connect = socket.socket.connect_ex
    monkeypatch.setattr(socket.socket, "connect_ex", swapping(folder, connect))
    path = str(folder / "s")
    fork_errand._clear_leftover(fork_errand._enter(path), path, socket.SOCK_STREAM)
    assert (folder / "s").read_text() == "not the user's"


def test_a_folder_that_has_gone(folder: Path) -> None:
    fork_errand._remove(str(folder / "gone/s"), (1, 2, 3))
