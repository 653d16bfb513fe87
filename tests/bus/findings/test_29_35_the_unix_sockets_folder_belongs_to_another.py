"""Whoever may read the folder of the Unix socket, or owns it, neither keeps papad from starting nor gains by it."""

import fcntl
import grp
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.errors import Bind
from papa_dbus.service.access.policy import Access
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line import bind as line_bind
from papa_dbus.service.line.server import LineServer
from tests.bus.isolated import as_user
from tests.support import PATIENCE

pytestmark = pytest.mark.root

NOBODY = 65534
GROUP = "daemon"


@pytest.fixture
def server() -> Iterator[LineServer]:
    """A front end whose Unix socket is for a group."""
    kernel = Kernel()
    yield LineServer(kernel, Access(GROUP))
    kernel.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may read, as /run is."""
    for part in [tmp_path, *tmp_path.parents][:-2]:
        part.chmod(part.stat().st_mode | 0o111)
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    yield folder
    assert not list(folder.glob("*.lock"))


def test_29_a_lock_on_the_folder_keeps_nobody_from_starting(folder: Path, server: LineServer) -> None:
    command = [*as_user(NOBODY), "flock", str(folder), "sh", "-c", "echo locked; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
        assert locker.stdout is not None
        assert locker.stdin is not None
        assert locker.stdout.readline() == b"locked\n"
        server.bind_unix(str(folder / "line")).close()
        locker.stdin.close()


def test_29_the_lock_is_not_for_others(folder: Path, server: LineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(path: str) -> None:
        lock = Path(f"{path}.lock")
        seen.append(lock.stat().st_mode & 0o777)
        assert subprocess.run([*as_user(NOBODY), "flock", "-n", str(lock), "true"], capture_output=True).returncode

    monkeypatch.setattr(line_bind, "remove_leftover", look)
    server.bind_unix(str(folder / "line")).close()
    assert seen == [0o600]


def test_29_two_that_start_at_the_same_time_wait_for_each_other(folder: Path, server: LineServer) -> None:
    path = folder / "line"
    other = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(other, fcntl.LOCK_EX)
    bound: list[socket.socket] = []
    starting = threading.Thread(target=lambda: bound.append(server.bind_unix(str(path))))
    starting.start()
    os.unlink(f"{path}.lock")  # as the other one does
    os.close(other)
    starting.join(PATIENCE)
    bound[0].close()


def test_29_a_lock_that_is_never_given_back_is_named(
    folder: Path, server: LineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_bind, "LOCK_WAIT", 0.0)
    path = folder / "line"
    other = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(Bind, match=r"holds the lock .*line\.lock"):
        server.bind_unix(str(path))
    os.unlink(f"{path}.lock")
    os.close(other)


def test_29_a_link_in_the_locks_place_is_not_followed(folder: Path, server: LineServer) -> None:
    target = folder / "precious"
    (folder / "line.lock").symlink_to(target)
    with pytest.raises(Bind, match="symbolic links"):
        server.bind_unix(str(folder / "line"))
    assert not target.exists()
    (folder / "line.lock").unlink()


def test_35_the_socket_has_its_mode_and_group_from_the_first_instant(
    folder: Path, server: LineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the folder's owner puts in its place afterwards is left as it is."""
    precious = folder / "precious"
    precious.touch(0o600)
    path = folder / "line"
    seen = []

    class Swapped(socket.socket):
        def bind(self, address: object) -> None:
            super().bind(address)  # type: ignore[arg-type]
            made = path.lstat()
            seen.append((made.st_mode & 0o777, made.st_uid, made.st_gid))
            path.unlink()
            path.symlink_to(precious)

    before = os.getegid(), os.umask(0o027)
    monkeypatch.setattr(socket, "socket", Swapped)
    server.bind_unix(str(path)).close()
    assert (os.getegid(), os.umask(before[1])) == (before[0], 0o027)
    assert seen == [(0o660, os.geteuid(), grp.getgrnam(GROUP).gr_gid)]
    assert (precious.stat().st_mode & 0o777, precious.stat().st_gid) == (0o600, os.getegid())
