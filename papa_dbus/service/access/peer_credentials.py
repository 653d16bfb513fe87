"""The caller at the other end of a connection: asked of Linux, never of the one who connects.

Knows no protocol, and nothing of who may come in: that is policy.py's.
"""

import errno
import os
import socket

from papa_dbus import peer_owner
from papa_dbus.errors import AccessDenied
from papa_dbus.service.caller import Caller


def caller_of(sock: socket.socket, uid: int | None = None) -> Caller:
    """Return who has connected; ``uid`` if that is known. Raises AccessDenied if it cannot be told, or OSError."""
    return _unix_caller(sock) if sock.family == socket.AF_UNIX else _tcp_caller(sock, uid)


def _unix_caller(sock: socket.socket) -> Caller:
    pid, uid = peer_owner.unix_credentials(sock)
    return Caller(uid, pid, os.fsdecode(sock.getsockname()))


def _tcp_caller(sock: socket.socket, uid: int | None) -> Caller:
    name = sock.getpeername()
    peer, _ = peer_owner.end_of(name)
    if not peer.is_loopback:
        raise AccessDenied(
            f"papad serves this machine only, and you are at {peer}; log in here, as by ssh, and ask then"
        )
    uid = _owner(sock) if uid is None else uid
    if uid is None:
        raise AccessDenied("Linux does not say whose this connection is; connect anew, or use the message bus")
    # Which of the user's processes it is Linux tells only to who searches all descriptors of all of them.
    return Caller(uid, None, f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}")


def _owner(sock: socket.socket) -> int | None:
    try:
        return peer_owner.owner_of_peer(sock)
    except OSError as error:
        if error.errno == errno.ENOTCONN:  # it has gone
            raise
        raise AccessDenied(
            f"papad cannot see whose this connection is: {error.strerror}; use the message bus"
        ) from None
