"""Sockets of watches that have ended, from which their clients have not read all.

What is in one stays with Linux, as papad's memory, for as long as the client keeps its end: so it counts as a socket
of that client's until then.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import Final

from papa_dbus.service.shares import Share

#: Seconds before it is seen again what has been read meanwhile.
_LOOK_AGAIN: Final = 0.5


class Remains:
    """Those of one bus."""

    def __init__(self) -> None:
        self._left: dict[socket.socket, Share] = {}
        self._timer: asyncio.TimerHandle | None = None

    def close(self, own: socket.socket, share: Share) -> None:
        """Close papad's end of a socket, and give its place back once all has been read, or the client has closed."""
        if not _unread(own):
            own.close()
            share.give()
            return
        with contextlib.suppress(OSError):
            own.shutdown(socket.SHUT_RDWR)
        self._left[own] = share
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._look()
        if self._left:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)

    def leave_room(self, share: Share) -> bool:
        """Return whether there is room for one more."""
        if not share.has_room():
            self._look()
        return share.has_room()

    def _look(self) -> None:
        for own in [own for own in self._left if not _unread(own)]:
            own.close()
            self._left.pop(own).give()

    def clear(self) -> None:
        """Let all go: the bus has gone, and with it all that was counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for own, share in self._left.items():
            own.close()
            share.give()
        self._left.clear()


def _unread(own: socket.socket) -> int:
    """Return about how many bytes are in a socket that its other end has not read (SIOCOUTQ, unix(7))."""
    count: int = struct.unpack("i", fcntl.ioctl(own, termios.TIOCOUTQ, bytes(4)))[0]
    return count
