"""The descriptors that papad was started with (sd_listen_fds(3)): of socket units, and of the descriptor store."""

import logging
import os
import re
import socket
from collections.abc import Callable, Collection

from systemd import daemon

from papa_dbus.service.systemd.fd_bundle import contents
from papa_dbus.service.systemd.notify import remove_stored

log = logging.getLogger(__name__)


_STORED_NAME = re.compile(r"[sp]\d+")


class ListenFds:
    """The descriptors that papad was started with: a socket unit's, and those of the descriptor store."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[int]] = {}
        for fd, name in daemon.listen_fds_with_names(unset_environment=True).items():
            self._by_name.setdefault(name, []).append(fd)

    def take(self, name: str, fits: Callable[[int], bool]) -> list[int]:
        """The descriptors of a name that fit, in the order in which they were passed. The others are left."""
        fds = self._by_name.pop(name, [])
        left = [fd for fd in fds if not fits(fd)]
        if left:
            self._by_name[name] = left
        return [fd for fd in fds if fd not in left]

    def sockets(self, name: str) -> list[socket.socket]:
        """The listening stream sockets of a name (FileDescriptorName=, systemd.socket(5))."""
        return [socket.socket(fileno=fd) for fd in self.take(name, is_listening)]

    def others(self, own: Collection[str]) -> dict[str, list[int]]:
        """All that has none of papad's ``own`` names: those of other socket units."""
        names = [name for name in self._by_name if name not in own]
        for name in names:
            remove_stored(name)  # if it is in the store papad has not put it there
        return {name: self._by_name.pop(name) for name in names}

    def kept(self) -> tuple[dict[str, list[int]], dict[str, int]]:
        """Return what the descriptor store gave back, by name, and how many places that has there."""
        given = {name: self._by_name.pop(name) for name in list(self._by_name) if _STORED_NAME.fullmatch(name)}
        slots = {name: len(fds) for name, fds in given.items()}
        return {name: [fd for one in fds for fd in _unpacked(one)] for name, fds in given.items()}, slots

    def close_rest(self) -> None:
        """Close what nobody has asked for, and say so; systemd is not to keep it either."""
        for name, fds in self._by_name.items():
            log.error("what was passed as '%s' is closed: that name is papad's own, for something else", name)
            remove_stored(name)
            for fd in fds:
                os.close(fd)


def _unpacked(fd: int) -> list[int]:
    fds = contents(fd)
    if fds is None:
        return [fd]
    os.close(fd)
    return fds


def is_listening(fd: int) -> bool:
    """Return whether it is a stream socket that listens."""
    return bool(daemon.is_socket(fd, type=socket.SOCK_STREAM, listening=1))


def is_memory_file(fd: int) -> bool:
    """Return whether it is one of memfd_create(2)'s."""
    return os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")


def is_connected(fd: int) -> bool:
    """Return whether it is a stream socket that does not listen."""
    return bool(daemon.is_socket(fd, type=socket.SOCK_STREAM, listening=0))
