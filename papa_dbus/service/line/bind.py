"""The sockets of the line protocol: port 20202 on the loopback addresses, and a Unix socket with its file."""

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from papa_dbus.errors import Bind

#: Listen backlog: a thousand clients may come at once. Linux cuts it to net.core.somaxconn (4096).
BACKLOG: Final = 4096
#: Seconds that another papad, which starts at the same time, may hold the lock on the path of the Unix socket.
LOCK_WAIT: Final = 2.0
_LOCK_PAUSE = 0.02

LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def bind_loopback(port: int) -> list[socket.socket]:
    """Listen on the loopback addresses; port 0 lets Linux choose one for both. Raises Bind."""
    sockets: list[socket.socket] = []
    try:
        for family, host in LOOPBACK:
            if (sock := bind_tcp(family, host, port)) is not None:
                sockets.append(sock)
                port = sock.getsockname()[1]
    except Bind:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def bind_path(path: str, group: str | None) -> tuple[socket.socket, Callable[[], None]]:
    """Listen on a Unix socket of a group, mode 0660; return it, and what removes its file. Raises Bind.

    A file that an earlier papad left is replaced, one on which somebody listens never.
    """
    with locked(path):
        remove_leftover(path)
        sock = bind_unix(path, _group_id(group))
    made = Path(path).lstat()
    return sock, lambda: remove_own(path, made)


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:  # there is no such group: root and papad's own user may
        return None


def bind_tcp(family: int, host: str, port: int) -> socket.socket | None:
    """Return a listening socket, or None if the machine has no such address."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        if error.errno in _NO_IPV6:
            return None
        raise Bind(f"cannot listen on {host} port {port}: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno in _NO_IPV6:
            return None
        raise Bind(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return sock


def bind_unix(path: str, gid: int | None) -> socket.socket:
    """Bind a Unix socket whose file has its mode and group from the first instant on.

    A change afterwards would follow the path, which is by then whatever the folder's owner has put there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask, own_gid = os.umask(0o117), os.getegid()
    try:
        if gid is not None:
            with contextlib.suppress(PermissionError):  # not root: then papad's own user may
                os.setegid(gid)
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Bind(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.setegid(own_gid)
        os.umask(mask)
    return sock


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep two that start at the same time from taking each other's new socket for a leftover.

    The lock is a file that no other user can open, unlike the folder, and that is removed while it is locked.
    """
    lock = f"{path}.lock"
    try:
        fd = _lock(lock)
    except BlockingIOError:
        raise Bind(f"cannot listen on {path}: another process holds the lock {lock}") from None
    except OSError as error:
        raise Bind(f"cannot listen on {path}: {error.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)
        os.close(fd)


def _lock(lock: str) -> int:
    """Make a file and lock it, within ``LOCK_WAIT`` seconds. Raises BlockingIOError, or OSError."""
    end = time.monotonic() + LOCK_WAIT
    while True:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.lstat(lock)):
                return fd
        except FileNotFoundError:  # the one that had it has removed it
            pass
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(fd)
                raise
            time.sleep(_LOCK_PAUSE)
        os.close(fd)


def remove_leftover(path: str) -> None:
    """Remove a socket's file on which nobody listens."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Bind(f"cannot listen on {path}: it is there, and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except OSError as error:
            raise Bind(f"cannot listen on {path}: it is in use ({error.strerror})") from None
    raise Bind(f"cannot listen on {path}: somebody listens there")


def remove_own(path: str, made: os.stat_result) -> None:
    """Remove the socket's file, unless it is another's by now."""
    with contextlib.suppress(OSError):
        if os.path.samestat(Path(path).lstat(), made):
            Path(path).unlink()
