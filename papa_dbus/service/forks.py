"""Who forks a hosted process: papad itself, or a small process beside it, the launcher, which does it in less time.

papad is large. A fork copies its page tables, and after it each page that papad touches has to be copied, too: for one
process that was more than all the rest of making it, and it grew with what papad held. The launcher does nothing else,
and what it forks is papad's child as if papad had forked it (CLONE_PARENT, clone(2)).
"""

import contextlib
import ctypes
import errno
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

from papa_dbus.service.child import Launch, become, fail, libc, prepare, shed
from papa_dbus.service.launcher import ANSWER, MAX_DESCRIPTORS, MAX_MESSAGE, request, serve

log = logging.getLogger(__name__)

#: Forks a process that goes the way of `child.become`: the launch, its end of the gate and of the status pipe in; its
#: PID out. The descriptors stay open. Raises OSError.
Fork = Callable[[Launch, int, int], int]

#: Seconds for the launcher to answer; a fork takes less than a thousandth of that.
_PATIENCE = 5.0


def fork_here(launch: Launch, gate: int, status: int) -> int:
    """fork(2) of papad itself."""
    pid = _fork()
    if pid == 0:
        try:
            shed()
            ready = prepare(launch, gate, status)
        except BaseException as error:  # noqa: BLE001 (above is papad, which this child is not)
            fail("start", error, status)
        become(ready)
    return pid


def _fork() -> int:
    """With as little done in the child as can be: each page that it touches is copied first.

    Python's own fork makes the child fit to go on as a Python program, which takes longer than all that this one does.
    Only where another thread runs, which may hold the interpreter's locks at this moment, is there no way around it.
    """
    gc.disable()  # in the child it stays so
    pid = -1
    try:
        if threading.active_count() > 1:
            pid = os.fork()
        elif (pid := libc.fork()) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        if pid:
            gc.enable()
    return pid


class Launcher:
    """papad's end of the launcher. To be made before papad raises its own limits: its children get those of then."""

    def __init__(self) -> None:
        """Start it. Raises OSError."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_PATIENCE)
        with theirs:
            number = theirs.fileno()
            # Without Python's search for packages, which takes longer than the rest.
            code = f"import sys; sys.path = {sys.path!r}; from {serve.__module__} import serve; serve({number})"
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[number],
                start_new_session=True,  # Ctrl-C is for papad
                env={"PATH": os.defpath},  # without any there is no room for a title
            )

    def fork(self, launch: Launch, gate: int, status: int) -> int:
        """As `fork_here`, which does it where the launcher cannot."""
        descriptors = [gate, status, *launch.descriptors.values()]
        data = request(launch)
        if self._process is None or len(data) > MAX_MESSAGE or len(descriptors) > MAX_DESCRIPTORS:
            return fork_here(launch, gate, status)
        try:
            socket.send_fds(self._socket, [data], descriptors)
        except OSError as error:
            self._give_up(error.strerror or str(error))
            return fork_here(launch, gate, status)
        pid = self._answer()
        if pid == -errno.ENOSYS:
            self._give_up("Linux has no clone3(2)")
            return fork_here(launch, gate, status)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _answer(self) -> int:
        """Where there is none, a child may stand at this gate already: then nobody else may."""
        try:
            answer = self._socket.recv(ANSWER.size)
        except TimeoutError:
            self._give_up(f"it did not answer in {self._socket.gettimeout():g} s")
            raise OSError(errno.ETIMEDOUT, "the launcher does not answer") from None
        if not answer:
            self._give_up("it has ended")
            raise OSError(errno.ECONNRESET, "the launcher has ended")
        return int(ANSWER.unpack(answer)[0])

    def _give_up(self, reason: str) -> None:
        log.warning("the launcher is given up (%s): papad forks for itself now, which takes longer", reason)
        self.close()

    def close(self) -> None:
        """End it. What it has forked goes on."""
        process, self._process = self._process, None
        self._socket.close()
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
                return
            process.kill()
            process.wait()
