"""A client of the line protocol says nothing to another user's listener, and believes nothing that it says."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus import client, peer_owner
from papa_dbus.client.compat.line_connection import Connection
from papa_dbus.errors import NotPapas, Unreachable
from tests.bus.lineclient import Papad
from tests.support import PATIENCE

pytestmark = pytest.mark.root

NOBODY = 65534
SECRET = "s3cret"


class Squatter:
    """A process of another user that listens, greets like papad and keeps what it is told."""

    def __init__(self, listening: socket.socket, greeting: bytes) -> None:
        told, self._told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                listening.listen()  # a Unix socket is now this user's (SO_PEERCRED)
                os.write(self._told, b"up")
                connection, _ = listening.accept()
                with contextlib.suppress(OSError):
                    connection.sendall(greeting)
                    while data := connection.recv(65536):
                        os.write(self._told, data)
                        connection.sendall(b"web pid=1 running=True started=1.0 args=x\n> ")
            finally:
                os._exit(0)
        listening.close()
        os.close(self._told)
        self._told = told
        assert os.read(told, 2) == b"up"

    def end(self) -> bytes:
        """Wait for its end, which is its one connection's; returns what it was told."""
        os.waitpid(self.pid, 0)
        told = b""
        while data := os.read(self._told, 65536):
            told += data
        os.close(self._told)
        return told


def listener(kind: str, tmp_path: Path) -> tuple[socket.socket, int | str]:
    """Bind a socket, and say where."""
    if kind == "unix":
        sock, path = socket.socket(socket.AF_UNIX), str(tmp_path / "line")
        sock.bind(path)
        return sock, path
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, int(sock.getsockname()[1])


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("greeting", [b'Papa is home. Type "help" for commands.\n> ', b"Error: go away\n> ", b"P"])
def test_20_nothing_is_said_to_another_users_listener(kind: str, greeting: bytes, tmp_path: Path) -> None:
    sock, where = listener(kind, tmp_path)
    squatter = Squatter(sock, greeting)
    with pytest.raises(NotPapas, match=rf"{where} is not papad's: user {NOBODY} listens there"):
        client.Papa(where).make_process("web", args=["/srv/web"], env={"DB_PASSWORD": SECRET})
    assert squatter.end() == b""


@pytest.fixture
def papad(tmp_path: Path) -> Iterator[Papad]:
    """A papad of root's."""
    papad = Papad(tmp_path)
    yield papad
    assert papad.stop() == 0


def test_20_roots_papad_is_believed_by_everybody(papad: Papad, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (papad.port, papad.path):
        for uid in (0, 1000):
            with monkeypatch.context() as patch:
                patch.setattr(os, "geteuid", lambda uid=uid: uid)
                connection = Connection.open(where, PATIENCE, PATIENCE)
                assert connection.command(["get", "a"]) == ""
                connection.close()


def test_20_a_users_own_papad_is_believed_by_that_user_alone(papad: Papad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_owner, "owner_of_peer", lambda sock: 1000)
    with pytest.raises(NotPapas, match=f":{papad.port} is not papad's: user 1000 listens there, not root or user 0"):
        Connection.open(papad.port, PATIENCE, PATIENCE)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    Connection.open(papad.port, PATIENCE, PATIENCE).close()


def test_20_a_listener_that_nobody_can_be_found_for_is_not_believed(
    papad: Papad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_owner, "owner_of_peer", lambda sock: None)
    with pytest.raises(Unreachable, match="does not say which user"):
        Connection.open(papad.port, PATIENCE, PATIENCE)
