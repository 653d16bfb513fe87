"""The line protocol's door: the listening sockets, and which connections are let in.

Owns how many there may be, and asks ``access`` who is at the other end; what is said on a connection is the session's.
"""

import asyncio
import contextlib
import errno
import fcntl
import functools
import grp
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from papa_dbus.errors import AccessDenied, Bind, Limit
from papa_dbus.service.access import Access
from papa_dbus.service.kernel import Kernel
from papa_dbus.service.telnet_handover import Connection
from papa_dbus.service.telnet_session import Session

log = logging.getLogger(__name__)

#: Connections at a time, and those of one user, so that none can shut the others out.
MAX_CONNECTIONS: Final = 2048
MAX_CONNECTIONS_OF_USER: Final = 1024
#: Connections at a time that are being told why they are not let in; one more is closed without a word.
MAX_REFUSED: Final = 64
#: Listen backlog: a thousand clients may come at once. Linux cuts it to net.core.somaxconn (4096).
BACKLOG: Final = 4096
#: Seconds that commands have to end when papad stops.
STOP_TIMEOUT: Final = 5.0

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class TelnetDoor:
    """Serves the kernel to whoever ``access`` lets in."""

    def __init__(self, kernel: Kernel, access: Access) -> None:
        self._kernel = kernel
        self._access = access
        self._servers: list[asyncio.Server] = []
        self._sessions: dict[Session, int] = {}  # the user of each
        self._refused: set[Session] = set()
        self._users: Counter[int] = Counter()
        self._removals: list[Callable[[], None]] = []

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    # -------------------------------------------------------------------- sockets

    def bind(self, port: int) -> list[socket.socket]:
        """Listen on the loopback addresses; port 0 lets Linux choose one for both. Raises Bind."""
        sockets: list[socket.socket] = []
        try:
            for family, host in _LOOPBACK:
                if (sock := _bind_tcp(family, host, port)) is not None:
                    sockets.append(sock)
                    port = sock.getsockname()[1]
        except Bind:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def bind_unix(self, path: str) -> socket.socket:
        """Listen on a Unix socket, mode 0660 and of the group that may use it. Raises Bind.

        A file that an earlier papad left is replaced, one on which somebody listens never.
        """
        with _folder_locked(path):
            _remove_leftover(path)
            sock = _bind_unix(path)
        with contextlib.suppress(KeyError, OSError):  # no such group, or not root: then papad's own user may
            os.chown(path, -1, grp.getgrnam(self._access.group).gr_gid)
        made = Path(path).lstat()
        self._removals.append(lambda: _remove_own(path, made))
        return sock

    # ----------------------------------------------------------------------- life

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound; they are the door's from now on."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            server = await loop.create_server(self._session, sock=sock, backlog=BACKLOG)
            self._servers.append(server)

    async def adopt(self, connections: Sequence[Connection]) -> None:
        """Go on with the connections of the papad before this one."""
        loop = asyncio.get_running_loop()
        for connection in connections:
            sock = socket.socket(fileno=connection.fd)
            sock.setblocking(False)
            admit = functools.partial(self._readmit, connection)
            with contextlib.suppress(OSError):  # it has gone
                await loop.connect_accepted_socket(
                    functools.partial(Session, self._kernel, admit, self._leave, connection.left), sock
                )

    def _readmit(self, connection: Connection, session: Session, _: socket.socket) -> str | None:
        if connection.left is None:
            return self._refuse(session, "papad has another version now; please connect again")
        self._let_in(session, connection.uid)
        return None

    async def hand_over(self) -> tuple[list[int], list[Connection]]:
        """What the papad that takes over needs: descriptors of the listening sockets, whose files stay; connections.

        A command that runs has ``STOP_TIMEOUT`` to end; after it only stop() is left to be called.
        """
        self._removals.clear()
        listening = [os.dup(sock.fileno()) for server in self._servers for sock in server.sockets]
        for server in self._servers:
            server.close()
        users = dict(self._sessions)
        for session in users:
            session.leave()
        if tasks := [session.task for session in users if session.task is not None]:
            await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        return listening, [Connection(of.left[0], uid, of.left[1]) for of, uid in users.items() if of.left is not None]

    async def stop(self) -> None:
        """Close the sockets, and the connections with a line that says why, once their commands have ended."""
        for server in self._servers:
            server.close()
        for remove in self._removals:
            remove()
        self._removals.clear()
        sessions = [*self._sessions, *self._refused]
        for session in sessions:
            session.end("papad is stopping")
        tasks = [session.task for session in sessions if session.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    # ---------------------------------------------------------------- connections

    def _session(self) -> Session:
        return Session(self._kernel, self._admit, self._leave)

    def _admit(self, session: Session, sock: socket.socket) -> str | None:
        """Let a connection in, or say why not."""
        try:
            uid = self._uid_of(sock)
            self._check_limits(uid)
        except (AccessDenied, Limit) as error:
            log.warning("a connection was refused: %s", error)
            return self._refuse(session, str(error))
        except OSError:
            return self._refuse(session, "the connection is gone")
        self._let_in(session, uid)
        return None

    def _let_in(self, session: Session, uid: int) -> None:
        self._sessions[session] = uid
        self._users[uid] += 1

    def _refuse(self, session: Session, why: str) -> str:
        if len(self._refused) >= MAX_REFUSED:
            session.end(why)  # at once, without waiting for it to be read
        self._refused.add(session)
        return why

    def _uid_of(self, sock: socket.socket) -> int:
        if sock.family == socket.AF_UNIX:
            return self._access.check_unix(sock).uid
        # Telnet sends its marks as urgent data, half of a command; out of line, the next byte would become that half.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        return self._access.check_tcp(sock).uid

    def _check_limits(self, uid: int) -> None:
        if len(self._sessions) >= MAX_CONNECTIONS:
            raise Limit(f"papad serves {MAX_CONNECTIONS} connections at a time, and there are as many")
        if self._users[uid] >= MAX_CONNECTIONS_OF_USER:
            raise Limit(f"papad serves {MAX_CONNECTIONS_OF_USER} connections of one user, and you have as many")

    def _leave(self, session: Session) -> None:
        self._refused.discard(session)
        uid = self._sessions.pop(session, None)
        if uid is not None:
            self._users[uid] -= 1
            if not self._users[uid]:
                del self._users[uid]


def _bind_tcp(family: int, host: str, port: int) -> socket.socket | None:
    """A listening socket, or None where the machine has no such address."""
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


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o117)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Bind(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return sock


@contextlib.contextmanager
def _folder_locked(path: str) -> Iterator[None]:
    """Keep two that start at the same time from taking each other's new socket for a leftover."""
    try:
        folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Bind(f"cannot listen on {path}: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Bind(f"cannot listen on {path}: somebody holds a lock on its folder") from None
    finally:
        os.close(folder)


def _remove_leftover(path: str) -> None:
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


def _remove_own(path: str, made: os.stat_result) -> None:
    """Remove the socket's file, unless it is another's by now."""
    with contextlib.suppress(OSError):
        if os.path.samestat(Path(path).lstat(), made):
            Path(path).unlink()
