"""Hosted sockets: bound, listening where they can, held for the processes that will serve on them.

Knows Linux's sockets and nothing of names, processes or clients.
"""

import encodings.idna  # noqa: F401 (getaddrinfo's: Python reads it at the first use, when there may be no descriptor left)
import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from papa_dbus.errors import Bind, InvalidArgs, Limit
from papa_dbus.schema import Family, SocketType
from papa_dbus.service import limits
from papa_dbus.service.caller import acting_user
from papa_dbus.service.fork.errand import FileIdentity
from papa_dbus.service.items.results import SocketInfo
from papa_dbus.service.items.rows import StoredSocket
from papa_dbus.service.items.socket_files import SocketFiles
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.lookups import Lookups

_FAMILIES: dict[Family, int] = {"inet": socket.AF_INET, "inet6": socket.AF_INET6, "unix": socket.AF_UNIX}
_TYPES: dict[SocketType, int] = {
    "stream": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
    "raw": socket.SOCK_RAW,
    "rdm": socket.SOCK_RDM,
}
#: Of a socket's file where nothing else was asked for: systemd's own for services.
DEFAULT_UMASK = 0o022
#: What to do if bind(2) fails.
_REMEDIES = {
    errno.EADDRINUSE: "; another program has it: end that ('ss -ltnup' shows it), or choose another",
    errno.EADDRNOTAVAIL: "; no interface of this machine has it: 'ip address' shows what they have",
    errno.EACCES: "; papad's user may not: choose another",
    errno.ENOENT: "; make its folder first",
}
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
        """Return papad's own descriptor."""
        return self._sock.fileno()

    @property
    def port(self) -> int | None:
        """Return the port that is bound, None for a Unix socket."""
        if self.spec.family == "unix":
            return None
        return int(self._sock.getsockname()[1])

    def info(self) -> SocketInfo:
        """Return what a client may know."""
        spec = self.spec
        now = {"backlog": None if spec.passed else spec.backlog, "port": self.port}
        return SocketInfo(name=spec.name, **spec.shown | now, fileno=self.fileno, unit=self.unit)

    def duplicate(self) -> int:
        """Return a descriptor of the same socket, for a client."""
        return os.dup(self.fileno)

    def for_process(self) -> socket.socket:
        """Return the socket that one process gets: this one, or with ``reuseport`` a new one on the same port.

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
        """Let the socket go. Its file stays."""
        self._sock.close()


async def open_socket(spec: SocketSpec, lookups: Lookups, files: SocketFiles) -> HostedSocket:
    """Bind a socket. Raises Bind with what Linux says, Limit if there is no descriptor left."""
    address = await _resolve(spec, lookups)
    if spec.family == "unix":
        sock, file = await _bound_unix(spec, files)
    else:
        sock, file = _bound(spec, address), None
    try:
        if spec.reuseport:
            _stand_aside(sock)
        elif sock.type in _LISTENING:
            sock.listen(spec.backlog)
    except OSError as error:
        sock.close()
        raise _bind_error(spec, error) from None
    return HostedSocket(spec, sock, address, file)


def recover_socket(stored: StoredSocket, fds: Sequence[int]) -> HostedSocket:
    """Return a socket that was kept while papad was away."""
    for duplicate in fds[1:]:
        os.close(duplicate)
    sock = socket.socket(fileno=fds[0])
    address: _Address = str(stored.spec.path) if stored.spec.family == "unix" else _address(sock.getsockname())
    hosted = HostedSocket(stored.spec, sock, address, stored.file)
    hosted.key = stored.key
    return hosted


def passed_socket(name: str, fd: int) -> HostedSocket:
    """Return a socket that somebody else has bound. Raises InvalidArgs if it cannot be; ``fd`` stays open then."""
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
        return SocketSpec(name, family=family, type=kind, path=path or None, backlog=0, passed=True)
    device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _DEVICE_BYTES).rstrip(b"\0")
    interface = os.fsdecode(device) or None
    address = {"host": bound[0], "port": bound[1]}
    return SocketSpec(name, family=family, type=kind, **address, backlog=0, interface=interface, passed=True)


def _bound(spec: SocketSpec, address: _Address) -> socket.socket:
    with _new_socket(spec) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if spec.reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if spec.interface is not None:
            _bind_to_device(sock, spec.interface)
        sock.bind(address)
    return sock


async def _bound_unix(spec: SocketSpec, files: SocketFiles) -> tuple[socket.socket, FileIdentity | None]:
    with _new_socket(spec) as sock:
        umask = DEFAULT_UMASK if spec.umask is None else spec.umask  # papad's own lets nobody else at its files
        file = await files.bind(sock.fileno(), str(spec.path), umask)
    return sock, file


@contextmanager
def _new_socket(spec: SocketSpec) -> Iterator[socket.socket]:
    """Return a socket to be bound, which is closed where that fails."""
    sock = _unbound(spec)
    try:
        yield sock
    except OSError as error:
        sock.close()
        raise _bind_error(spec, error) from None
    except BaseException:
        sock.close()
        raise


def _unbound(spec: SocketSpec) -> socket.socket:
    # A raw socket without a protocol is none (raw(7)).
    protocol = socket.IPPROTO_RAW if spec.type == "raw" else 0
    try:
        return socket.socket(_FAMILIES[spec.family], _TYPES[spec.type], protocol)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Limit(
                f"socket '{spec.name}': no file descriptor is left ({error.strerror}): raise LimitNOFILE= of papad"
            ) from None
        raise Bind(
            f"socket '{spec.name}': Linux has no {spec.family} {spec.type} socket: {error.strerror};"
            " choose another type or family"
        ) from None


def _bind_to_device(sock: socket.socket, interface: str) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError as error:
        remedy = "; 'ip link' shows which there are" if error.errno == errno.ENODEV else ""
        raise Bind(f"option 'interface': {interface}: {error.strerror}{remedy}") from None


def _stand_aside(sock: socket.socket) -> None:
    """Keep a shared port without taking what is meant for the processes on it.

    A stream socket that does not listen gets nothing. A datagram socket is connected to nowhere: Linux leaves connected
    sockets out when it chooses among those of a port (reuseport_select_sock, since 5.4).
    """
    if sock.type == socket.SOCK_DGRAM:
        host = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
        address = sock.getsockname()
        sock.connect((host, address[1], *address[2:]))


async def _resolve(spec: SocketSpec, lookups: Lookups) -> _Address:
    """Return the address to bind. A host that is a name is looked up outside the loop: it may take seconds."""
    if spec.family == "unix":
        return str(spec.path)
    family, host, port = _FAMILIES[spec.family], str(spec.host), spec.port or 0
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return await _look_up(spec, host, port, family, lookups)
    return _address(found[0][4])


def _address(found: tuple[object, ...]) -> _Address:
    """Return getaddrinfo's address of the family that was asked for."""
    return found  # type: ignore[return-value]


async def _look_up(spec: SocketSpec, host: str, port: int, family: int, lookups: Lookups) -> _Address:
    def question() -> list[tuple[Any, ...]]:
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)

    try:
        found = await lookups.ask(acting_user(), question, limits.RESOLVE_TIMEOUT)
        return _address(found[0][4])
    except TimeoutError:
        seconds = f"{limits.RESOLVE_TIMEOUT:.0f} s"
        raise Bind(f"option 'host': {host!r} was not resolved in {seconds}; give an address, or try again") from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Bind(f"option 'host': {host!r} is not an {spec.family} address, or a name of one: {reason}") from None


def _with_port(address: _Address, port: int) -> _Address:
    if isinstance(address, str):
        return address
    return _address((address[0], port, *address[2:]))


def _bind_error(spec: SocketSpec, error: OSError) -> Bind | Limit:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Limit(
            f"socket '{spec.name}': no file descriptor is left ({error.strerror}): raise LimitNOFILE= of papad"
        )
    where = spec.path if spec.family == "unix" else f"{spec.host} port {spec.port}"
    remedy = _REMEDIES.get(error.errno or 0, "")
    return Bind(f"socket '{spec.name}': cannot bind {where}: {error.strerror or error}{remedy}")
