"""Sockets by name: a change is done whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from papa_dbus.errors import PapaError
from papa_dbus.service.items.rows import Gone
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.changes import Change
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import remove_sockets


async def test_16_one_socket_that_cannot_be_removed_leaves_the_others_as_they_are(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that stays is said in the journal; a row that stays is an error, and its socket stays with it."""
    for name in "abc":
        await kernel.make_socket(SocketSpec(name, path=str(tmp_path / name)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", _read_only)
        assert await remove_sockets(kernel, "a") == ["a"]
    assert f"socket 'a': its file {tmp_path}/a stays: Read-only file system" in caplog.text
    heard: list[Change] = []
    kernel.listeners.append(heard.append)
    rows = kernel._store.remove_socket

    def remove(key: int, gone: Gone | None) -> None:
        if key == kernel._sockets.hosted["c"].key:
            raise PapaError("papad cannot store this")
        rows(key, gone)

    with monkeypatch.context() as patch:
        patch.setattr(kernel._store, "remove_socket", remove)
        with pytest.raises(PapaError, match="cannot store"):
            kernel.remove_sockets(["b", "c"])
    assert [change.name for change in heard] == ["b"]
    assert [info.name for info in kernel.list_sockets()] == ["c"]
    assert kernel.remove_sockets(["c"]) == ["c"]


def _read_only(path: str) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
