"""A socket whose handshake is not over is nobody's other end, nor is one whose connection ended during the question."""

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from papa_dbus import peer_owner
from papa_dbus.errors import AccessDenied
from papa_dbus.service.access import peer_credentials

LOOPBACK = ip_address("127.0.0.1")
SYN_SENT = "02"


def state_of(port: int) -> str | None:
    """Return the state of the socket that connects from a port, as /proc/net/tcp has it."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next((fields[3] for fields in lines if int(fields[1].partition(":")[2], 16) == port), None)


def test_34_a_socket_in_syn_sent_is_nobodys() -> None:
    callers = [socket.socket() for _ in range(4)]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        for caller in callers:  # the queue is full after the first ones: whoever comes then gets no answer
            caller.bind(("127.0.0.1", 0))
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        own_port = callers[-1].getsockname()[1]
        assert state_of(own_port) == SYN_SENT
        ends = (LOOPBACK, own_port), (LOOPBACK, port)
        assert peer_owner.owner(*ends) is None
        assert peer_owner._search_proc(*ends) is None
        for caller in callers:
            caller.close()


def test_34_an_answer_is_not_believed_if_the_connection_has_ended_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        caller = socket.create_connection(listening.getsockname())
        conn, _ = listening.accept()

        def reset(local: peer_owner.End, remote: peer_owner.End) -> int:
            """Reset the connection, and answer about a later one between the same ports."""
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            caller.close()
            return 0

        monkeypatch.setattr(peer_owner, "owner", reset)
        with conn, pytest.raises(OSError, match="not connected"):
            peer_credentials.caller_of(conn)


def test_no_descriptor_to_ask_with_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*of: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        caller = socket.create_connection(listening.getsockname())
        conn, _ = listening.accept()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", none_left)
            with pytest.raises(AccessDenied, match="Too many open files"):
                peer_credentials.caller_of(conn)
        caller.close()
        conn.close()
