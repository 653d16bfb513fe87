"""Hosted sockets: bound, listening where they can, held for the processes that will serve on them.

Knows Linux's sockets and nothing of names, processes or clients.
"""

import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from papa_dbus.errors import Bind, InvalidArgs, Limit
from papa_dbus.service import audit, limits
from papa_dbus.service.lookups import Lookups
from papa_dbus.service.specs import SocketInfo, SocketSpec
from papa_dbus.service.store import FileIdentity, StoredSocket

log = logging.getLogger(__name__)

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6, "unix": socket.AF_UNIX}
_TYPES = {
    "stream": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
    "raw": socket.SOCK_RAW,
    "rdm": socket.SOCK_RDM,
}
#: Of a socket's file where nothing else was asked for: systemd's own for services.
DEFAULT_UMASK = 0o022
_DEVICE_BYTES = 16  # IFNAMSIZ (netdevice(7))
_LISTENING = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)

_Address = str | tuple[str, int] | tuple[str, int, int, int]


class HostedSocket:
    """A socket that the kernel holds. ``file``: what identifies the file that papad has made for it."""

    def __init__(
        self, spec: SocketSpec, sock: socket.socket, address: _Address, file: FileIdentity | None = None
    ) -> None:
        self.spec = spec
        self._sock = sock
        self._address = address
        self.key = 0  # in the store
        self.unit = "" if spec.passed else None  # see SocketInfo
        self.file = file

    @property
    def fileno(self) -> int:
        """papad's own descriptor."""
        return self._sock.fileno()

    @property
    def port(self) -> int | None:
        """The port that is bound, None for a Unix socket."""
        if self.spec.family == "unix":
            return None
        return int(self._sock.getsockname()[1])

    def info(self) -> SocketInfo:
        """What a client may know."""
        spec = self.spec
        return SocketInfo(
            name=spec.name,
            family=spec.family,
            type=spec.type,
            backlog=None if spec.passed else spec.backlog,
            fileno=self.fileno,
            host=spec.host,
            port=self.port,
            path=spec.path,
            umask=spec.umask,
            interface=spec.interface,
            reuseport=spec.reuseport,
            unit=self.unit,
        )

    def duplicate(self) -> int:
        """A descriptor of the same socket, for a client."""
        return os.dup(self.fileno)

    def for_process(self) -> socket.socket:
        """The socket that one process gets: this one, or with ``reuseport`` a new one on the same port.

        The caller closes it once the process has it.
        """
        if not self.spec.reuseport:
            return self._sock.dup()
        address = _with_port(self._address, self.port or 0)
        sock = _bound(self.spec, address)
        if sock.type in _LISTENING:
            sock.listen(self.spec.backlog)
        return sock

    def close(self) -> None:
        """Let the socket go, and its file if papad has made that and it is still the same. Never raises OSError."""
        self._sock.close()
        path = self.spec.path
        if path is None or self.file is None:
            return
        try:
            if _file_identity(path) == self.file:
                os.unlink(path)
        except OSError as error:
            log.warning("socket '%s': its file %s stays: %s", self.spec.name, path, error.strerror)


async def open_socket(spec: SocketSpec, lookups: Lookups) -> HostedSocket:
    """Bind a socket. Raises Bind with what Linux says, Limit where there is no descriptor left."""
    address = await _resolve(spec, lookups)
    sock = _bound_unix(spec, str(spec.path)) if spec.family == "unix" else _bound(spec, address)
    try:
        if spec.reuseport:
            _stand_aside(sock)
        elif sock.type in _LISTENING:
            sock.listen(spec.backlog)
    except OSError as error:
        sock.close()
        raise _bind_error(spec, error) from None
    return HostedSocket(spec, sock, address, _file_identity(str(spec.path)) if spec.family == "unix" else None)


def recover_socket(stored: StoredSocket, fds: Sequence[int]) -> HostedSocket:
    """A socket that was kept while papad was away."""
    for duplicate in fds[1:]:
        os.close(duplicate)
    sock = socket.socket(fileno=fds[0])
    address: _Address = str(stored.spec.path) if stored.spec.family == "unix" else _address(sock.getsockname())
    hosted = HostedSocket(stored.spec, sock, address, stored.file)
    hosted.key = stored.key
    return hosted


def passed_socket(name: str, fd: int) -> HostedSocket:
    """A socket that somebody else has bound. Raises InvalidArgs where it cannot be hosted; ``fd`` stays open then."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        raise InvalidArgs("it is no socket")
    sock = socket.socket(fileno=fd)
    try:
        spec = _spec_of(name, sock)
    except BaseException:
        sock.detach()
        raise
    return HostedSocket(spec, sock, str(spec.path) if spec.family == "unix" else _address(sock.getsockname()))


def _spec_of(name: str, sock: socket.socket) -> SocketSpec:
    family = next((word for word, number in _FAMILIES.items() if number == sock.family), None)
    kind = next((word for word, number in _TYPES.items() if number == sock.type), None)
    if family is None or kind is None:
        raise InvalidArgs("it is a socket of another family than inet, inet6 and unix")
    if sock.type in _LISTENING and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise InvalidArgs("it is a socket that does not listen")
    bound = sock.getsockname()
    if family == "unix":
        path = f"@{os.fsdecode(bound[1:])}" if isinstance(bound, bytes) else bound  # abstract, as systemd writes it
        return SocketSpec(name, family, kind, path=path or None, backlog=0, passed=True)
    device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _DEVICE_BYTES).rstrip(b"\0")
    interface = os.fsdecode(device) or None
    return SocketSpec(name, family, kind, bound[0], bound[1], backlog=0, interface=interface, passed=True)


def _bound(spec: SocketSpec, address: _Address) -> socket.socket:
    with _new_socket(spec) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if spec.reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if spec.interface is not None:
            _bind_to_device(sock, spec.interface)
        sock.bind(address)
    return sock


def _bound_unix(spec: SocketSpec, path: str) -> socket.socket:
    with _new_socket(spec) as sock:
        _clear_leftover(path, sock.type)
        with _umask(spec.umask):
            sock.bind(path)
    return sock


@contextmanager
def _new_socket(spec: SocketSpec) -> Iterator[socket.socket]:
    """A socket to be bound, which is closed where that fails."""
    sock = _unbound(spec)
    try:
        yield sock
    except OSError as error:
        sock.close()
        raise _bind_error(spec, error) from None
    except Bind:
        sock.close()
        raise


def _unbound(spec: SocketSpec) -> socket.socket:
    # A raw socket without a protocol is none (raw(7)).
    protocol = socket.IPPROTO_RAW if spec.type == "raw" else 0
    try:
        return socket.socket(_FAMILIES[spec.family], _TYPES[spec.type], protocol)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Limit(f"socket '{spec.name}': no file descriptor is left: {error.strerror}") from None
        raise Bind(f"socket '{spec.name}': Linux has no {spec.family} {spec.type} socket: {error.strerror}") from None


def _bind_to_device(sock: socket.socket, interface: str) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError as error:
        raise Bind(f"option 'interface': {interface}: {error.strerror}") from None


def _stand_aside(sock: socket.socket) -> None:
    """Keep a shared port without taking what is meant for the processes on it.

    A stream socket that does not listen gets nothing. A datagram socket is connected to nowhere: Linux leaves connected
    sockets out when it chooses among those of a port (reuseport_select_sock, since 5.4).
    """
    if sock.type == socket.SOCK_DGRAM:
        host = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
        address = sock.getsockname()
        sock.connect((host, address[1], *address[2:]))


def _clear_leftover(path: str, kind: socket.SocketKind) -> None:
    """Remove a socket file that nobody listens on. Raises Bind where somebody does, or where it is something else."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Bind(f"option 'path': {path} is there and is no socket")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result == errno.ECONNREFUSED:
        os.unlink(path)
    elif result != errno.ENOENT:
        raise Bind(f"option 'path': {path} is in use: somebody listens on it")


@contextmanager
def _umask(mask: int | None) -> Iterator[None]:
    """For a socket's file. papad's own mask lets nobody else at its files."""
    before = os.umask(DEFAULT_UMASK if mask is None else mask)
    try:
        yield
    finally:
        os.umask(before)


async def _resolve(spec: SocketSpec, lookups: Lookups) -> _Address:
    """The address to bind. A host that is a name is looked up outside the loop: it may take seconds."""
    if spec.family == "unix":
        return str(spec.path)
    family, host, port = _FAMILIES[spec.family], str(spec.host), spec.port or 0
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return await _look_up(spec, host, port, family, lookups)
    return _address(found[0][4])


def _address(found: tuple[object, ...]) -> _Address:
    """getaddrinfo's address of the family that was asked for."""
    return found  # type: ignore[return-value]


async def _look_up(spec: SocketSpec, host: str, port: int, family: int, lookups: Lookups) -> _Address:
    def question() -> list[tuple[Any, ...]]:
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)

    try:
        found = await lookups.ask(audit.user(), question, limits.RESOLVE_TIMEOUT)
        return _address(found[0][4])
    except TimeoutError:
        raise Bind(f"option 'host': {host!r} was not resolved in {limits.RESOLVE_TIMEOUT:.0f} s") from None
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Bind(f"option 'host': {host!r} is no {spec.family} address: {reason}") from None


def _with_port(address: _Address, port: int) -> _Address:
    if isinstance(address, str):
        return address
    return _address((address[0], port, *address[2:]))


def _bind_error(spec: SocketSpec, error: OSError) -> Bind | Limit:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Limit(f"socket '{spec.name}': no file descriptor is left: {error.strerror}")
    where = spec.path if spec.family == "unix" else f"{spec.host} port {spec.port}"
    return Bind(f"socket '{spec.name}': cannot bind {where}: {error.strerror or error}")


def _file_identity(path: str) -> FileIdentity | None:
    """Return what tells a socket's file from another of the same path; an inode's number alone may come again."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns
