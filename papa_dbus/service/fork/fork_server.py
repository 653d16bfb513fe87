"""The fork server: a process that forks for papad. It is small, so that a fork of it is quick, and ends with papad."""

import ctypes
import errno
import fcntl
import gc
import marshal
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from setproctitle import setproctitle

from papa_dbus.service import rlimits
from papa_dbus.service.fork.child import (
    ExecPlan,
    Identity,
    Ready,
    close_all_but,
    exec_child,
    first_free,
    libc,
    prepare,
    reset_process_state,
)
from papa_dbus.service.fork.errand import Errand

#: Bytes of a request, within what a socket of Linux takes (net.core.wmem_default), and descriptors that go with it
#: (SCM_MAX_FD is 253, unix(7)).
MAX_MESSAGE: Final = 128 * 1024
MAX_DESCRIPTORS: Final = 250
#: The PID, or an errno with a minus.
ANSWER: Final = struct.Struct("=i")

_HIGH = 1024  # a fork copies the table of descriptors up to the highest
_SYS_CLONE3 = 435  # on every architecture
_CLONE_PARENT = 0x00008000
#: struct clone_args of clone3(2), Linux 5.3: with CLONE_PARENT, exit_signal must be 0 and is the fork server's own.
_CLONE_ARGS = struct.pack("=8Q", _CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0)


def request(work: ExecPlan | Errand) -> bytes:
    """Return what to send for it, without the descriptors, which go with it: gate, status, the child's."""
    plain = work._asdict() | {"descriptors": tuple(work.descriptors)}
    if isinstance(work, ExecPlan):  # marshal knows Python's own types alone
        plain |= {"env": dict(work.env), "identity": tuple(work.identity), "rlimits": dict(work.rlimits)}
    return marshal.dumps(plain)  # both ends are one Python's


def _requested(data: bytes, descriptors: Sequence[int]) -> tuple[ExecPlan | Errand, int, int]:
    plain = marshal.loads(data)  # noqa: S302 (papad's own)
    gate, status, *others = descriptors
    plain["descriptors"] = dict(zip(plain["descriptors"], others, strict=True))
    if "what" in plain:
        return Errand(**plain), gate, status
    return ExecPlan(**plain | {"identity": Identity(*plain["identity"])}), gate, status


def serve(number: int, given: Mapping[int, tuple[int, int]]) -> NoReturn:
    """Fork for whoever has the other end of the socket ``number``, until that is closed.

    ``given``: the limits that papad was started with, by RLIMIT_*. It may have raised its own since.
    """
    setproctitle("papa fork server")
    reset_process_state()
    rlimits.GIVEN.update(given)
    rlimits.raise_own()
    gc.disable()
    requests = socket.socket(fileno=number)
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, MAX_MESSAGE, MAX_DESCRIPTORS)
        if not data:
            os._exit(0)
        try:
            work, gate, status = _requested(data, descriptors)
            above = first_free(work)
            if requests.fileno() < above:
                requests = _moved(requests, above)
            pid = _fork(prepare(work, gate, status, requests.fileno()))
        except Exception as error:  # noqa: BLE001 (it has many more to fork)
            pid = -(getattr(error, "errno", None) or errno.EINVAL)
        close_all_but({requests.fileno()})
        if requests.fileno() > _HIGH:
            requests = _moved(requests, 0)
        requests.send(ANSWER.pack(pid))


def _fork(ready: Ready) -> int:
    pid = int(libc.syscall(_SYS_CLONE3, _CLONE_ARGS, len(_CLONE_ARGS)))
    if pid == 0:
        exec_child(ready)
    return pid if pid > 0 else -ctypes.get_errno()


def _moved(requests: socket.socket, least: int) -> socket.socket:
    with requests:
        return socket.socket(fileno=fcntl.fcntl(requests, fcntl.F_DUPFD_CLOEXEC, least))
