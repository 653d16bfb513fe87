"""Several descriptors as one: they wait in the queue of a Unix socket, as long as its receiving end is open somewhere.

systemd compares what its descriptor store is given with all that is in it, one kcmp(2) each: with five descriptors of
each process, 1,100 in all, the next process took 5,700 of them. An fd bundle is one. It can be looked into any number
of times, since it is only peeked at (MSG_PEEK gives duplicates, unix(7)): another papad finds in it what this one did.
"""

import array
import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from typing import Final

_MARK: Final = b"papa parcel"  # as the first version has it: bundles outlive papad
_MOST: Final = 253  # descriptors of one message (SCM_MAX_FD, unix(7))
_SO_PEEK_OFF: Final = 42  # asm-generic/socket.h, Linux 3.4: where the next peek looks


class FdBundle:
    """To be filled with put(). ``end`` is what holds it, and is to be closed where somebody else has a duplicate."""

    def __init__(self) -> None:
        self._socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.end = end.detach()

    @classmethod
    def of(cls, fds: Sequence[int]) -> int:
        """Return the end of one with these in it, to which nothing will be put. Raises OSError."""
        bundle = cls()
        try:
            bundle.put(fds)
            return os.dup(bundle.end)
        finally:
            bundle.close()

    def put(self, fds: Sequence[int]) -> None:
        """Put duplicates of these into it. Raises OSError."""
        socket.send_fds(self._socket, [_MARK], fds)

    def close(self) -> None:
        """Nothing more comes. What is in it stays as long as somebody has its end."""
        self._socket.close()
        os.close(self.end)


def contents(fd: int) -> list[int] | None:
    """Return duplicates of what is in an fd bundle, for the caller to close; None: it is none. It is not changed."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return None
    with socket.socket(fileno=os.dup(fd)) as bundle:
        if (bundle.family, bundle.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            return None
        found: list[int] = []
        with contextlib.suppress(OSError):  # nothing more is there; or it listens, say
            bundle.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
            while (more := _peek(bundle)) is not None:
                found += more
        bundle.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, -1)  # as it was: it may be another's
        return found or None


def _peek(bundle: socket.socket) -> list[int] | None:
    flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    room = socket.CMSG_LEN(_MOST * array.array("i").itemsize)
    data, ancillary, _, _ = bundle.recvmsg(len(_MARK), room, flags)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if data == _MARK:
        return list(fds)
    for fd in fds:
        os.close(fd)
    return None
