"""Whose the other end of a connection is: real sockets, real users."""

import os
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from papa_dbus import peer_owner
from papa_dbus.errors import AccessDenied
from papa_dbus.service.access import peer_credentials
from papa_dbus.service.caller import Caller
from tests.support import PATIENCE

NOBODY = 65534


class Way(NamedTuple):
    """One way over which IPv4 and IPv6 may meet: the listener's address and the caller's."""

    listens: str
    calls: str


WAYS = [
    Way("127.0.0.1", "127.0.0.1"),
    Way("::1", "::1"),
    Way("::", "127.0.0.1"),
    Way("127.0.0.1", "::ffff:127.0.0.1"),
    Way("::", "::ffff:127.0.0.1"),
]


class Listener:
    """A listening socket, and how to connect to it."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._sock = socket.socket(self._family(way.listens))
        if self._sock.family == socket.AF_INET6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._sock.settimeout(PATIENCE)
        self._sock.bind((way.listens, 0))
        self._sock.listen()

    @staticmethod
    def _family(address: str) -> int:
        return socket.AF_INET6 if ":" in address else socket.AF_INET

    def connect(self) -> socket.socket:
        """A caller."""
        client = socket.socket(self._family(self._way.calls))
        client.connect((self._way.calls, self._sock.getsockname()[1]))
        return client

    def accept(self) -> socket.socket:
        """The caller's other end."""
        return self._sock.accept()[0]

    def close(self) -> None:
        """Listen no more."""
        self._sock.close()


@pytest.fixture(params=WAYS, ids=str)
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """One for each way."""
    listener = Listener(request.param)
    yield listener
    listener.close()


class Other:
    """A process of another user that does one thing and then waits to be told to end."""

    def __init__(self, uid: int, gid: int, what: Callable[[], object]) -> None:
        done_read, done_write = os.pipe()
        end_read, self._end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setgroups([])
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
                kept = what()
                os.write(done_write, b"!")
                os.close(self._end)
                os.read(end_read, 1)
                del kept
            finally:
                os._exit(0)
        os.close(done_write)
        os.close(end_read)
        assert os.read(done_read, 1) == b"!"
        os.close(done_read)

    def end(self) -> None:
        """Let it end, and see that it has."""
        os.close(self._end)
        os.waitpid(self.pid, 0)


def test_own_user(listener: Listener) -> None:
    with listener.connect(), listener.accept() as conn:
        assert peer_credentials.caller_of(conn).uid == os.geteuid()


@pytest.mark.root
@pytest.mark.parametrize("half_closed", [False, True])
def test_another_user(
    listener: Listener,
    half_closed: bool,
) -> None:

    def connect_and_stay() -> socket.socket:
        client = listener.connect()
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        return client

    other = Other(NOBODY, NOBODY, connect_and_stay)
    with listener.accept() as conn:
        peer, here = peer_owner.end_of(conn.getpeername()), peer_owner.end_of(conn.getsockname())
        assert peer_owner._ask_diag(peer, here) == NOBODY
        assert peer_owner._search_proc(peer, here) == NOBODY
        caller = peer_credentials.caller_of(conn)
        assert (caller.uid, caller.pid) == (NOBODY, None)
        assert caller.at.rpartition(":")[2] == str(conn.getpeername()[1])
        other.end()


@pytest.mark.root
def test_defect_01_who_closes_at_once_is_not_taken_for_root(
    listener: Listener,
) -> None:
    """Linux shows a socket that its owner has closed as one of root's."""

    def connect_send_and_close() -> None:
        with listener.connect() as client:
            client.sendall(b"make process evil /bin/id\n")

    Other(NOBODY, NOBODY, connect_send_and_close).end()
    with listener.accept() as conn:
        assert conn.recv(4) == b"make"
        peer, here = peer_owner.end_of(conn.getpeername()), peer_owner.end_of(conn.getsockname())
        assert peer_owner._ask_diag(peer, here) is None
        assert peer_owner._search_proc(peer, here) is None
        with pytest.raises(AccessDenied, match="does not say whose"):
            peer_credentials.caller_of(conn)


@pytest.mark.root
def test_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("open") / "sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        path.chmod(0o777)
        for folder in path.parents[:3]:
            folder.chmod(0o755)

        def connect() -> socket.socket:
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            return client

        with connect(), sock.accept()[0] as conn:
            assert peer_credentials.caller_of(conn).uid == 0
        other = Other(NOBODY, NOBODY, connect)
        with sock.accept()[0] as conn:
            assert peer_credentials.caller_of(conn) == Caller(NOBODY, other.pid, str(path))
        other.end()


def test_a_listener_on_the_callers_port_is_not_the_caller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as decoy:
        here = peer_owner.end_of(decoy.getsockname())
        nowhere = peer_owner.end_of(("127.0.0.1", 1))
        assert peer_owner.owner(here, nowhere) is None


def test_without_sock_diag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_owner, "_ask_diag", lambda local, remote: None)
    listener = Listener(WAYS[0])
    with listener.connect(), listener.accept() as conn:
        assert peer_credentials.caller_of(conn).uid == os.geteuid()
    listener.close()


def own_address() -> str:
    """An address of this machine that is not its loopback; without a network OSError is raised."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_only_this_machine() -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:
        client = socket.create_connection((own_address(), sock.getsockname()[1]))
        with client, sock.accept()[0] as conn, pytest.raises(AccessDenied, match="this machine only"):
            peer_credentials.caller_of(conn)
