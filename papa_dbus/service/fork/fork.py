"""Who forks a hosted process: papad itself, or a small process beside it, the fork server, which does it in less time.

papad is large. A fork copies its page tables, and after it each page that papad touches has to be copied, too: for one
process that was more than all the rest of making it, and it grew with what papad held. The fork server does nothing
else, and what it forks is papad's child as if papad had forked it (CLONE_PARENT, clone(2)).
"""

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable

from papa_dbus.service import rlimits
from papa_dbus.service.fork.child import ExecPlan, exec_child, fail, libc, prepare, reset_process_state
from papa_dbus.service.fork.errand import Errand
from papa_dbus.service.fork.fork_server import ANSWER, MAX_DESCRIPTORS, MAX_MESSAGE, request, serve
from papa_dbus.service.steps import Turn

log = logging.getLogger(__name__)

#: Forks a process that goes the way of `child.exec_child`: what it is to do, its end of the gate and of the status pipe
#: in; its PID out. The descriptors stay open. Raises OSError.
Fork = Callable[[ExecPlan | Errand, int, int], Awaitable[int]]

#: Seconds for the fork server to answer; a fork takes less than a thousandth of that. So papad waits a moment at once,
#: which takes less than coming back to it.
_ANSWER_TIMEOUT, _BUSY_WAIT = 5.0, 0.001
#: Fork servers in turn that end without an answer, until there is no further one.
_MOST_UNPROVEN = 3
#: Seconds for a fork server that was killed to end, when papad itself ends.
_END_SECONDS = 1.0


async def fork_here(work: ExecPlan | Errand, gate: int, status: int) -> int:
    """Fork as `Fork` says: papad itself, by fork(2)."""
    pid = _fork()
    if pid == 0:
        try:
            reset_process_state()
            ready = prepare(work, gate, status)
        except BaseException as error:  # noqa: BLE001 (above is papad, which this child is not)
            fail("start", error, status)
        exec_child(ready)
    return pid


def _fork() -> int:
    """Fork with as little done in the child as can be: each page that it touches is copied first.

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


class ForkServer:
    """papad's end of the fork server. One that has ended is started again, unless several in turn never answered."""

    def __init__(self) -> None:
        """Start it. Raises OSError."""
        self._turn = Turn()  # one request after the other: an answer does not say whose it is
        self._unproven = 0  # started since the last answer
        self._start()

    def _start(self) -> None:
        self._unproven += 1
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        with theirs:
            number = theirs.fileno()
            call = f"from {serve.__module__} import serve; serve({number}, {rlimits.GIVEN!r})"
            # Without Python's search for packages, which takes longer than the rest.
            code = f"import sys; sys.path = {sys.path!r}; {call}"
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[number],
                start_new_session=True,  # Ctrl-C is for papad
                env={"PATH": os.defpath},  # without any there is no room for a title
            )

    async def fork(self, work: ExecPlan | Errand, gate: int, status: int) -> int:
        """Fork as `fork_here` does, which does it if the fork server cannot."""
        descriptors = [gate, status, *work.descriptors.values()]
        data = request(work)
        if len(data) <= MAX_MESSAGE and len(descriptors) <= MAX_DESCRIPTORS:
            async with self._turn:
                if self._send(data, descriptors):
                    pid = await self._answered()
                    if pid > 0:
                        return pid
                    if pid != -errno.ENOSYS:
                        raise OSError(-pid, os.strerror(-pid))
                    self._end("Linux has no clone3(2)")
        return await fork_here(work, gate, status)

    def _send(self, data: bytes, descriptors: list[int]) -> bool:
        """Send a request, to a new fork server if the old one has ended. Returns whether it was sent."""
        while self._process is not None:
            try:
                socket.send_fds(self._socket, [data], descriptors)
                return True
            except (BrokenPipeError, ConnectionResetError):  # nobody has got it
                self._replace("it has ended")
            except OSError as error:  # too many descriptors are on their way (unix(7), ETOOMANYREFS)
                log.warning("the fork server cannot be asked (%s): papad forks for itself this time", error.strerror)
                return False
        return False

    async def _answered(self) -> int:
        """Return the answer, even if nobody waits for it any more: the child is there, and is to be reaped."""
        if self._poll(_BUSY_WAIT):
            return self._answer()
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        there: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._socket, _note, there)
        late = loop.call_later(_ANSWER_TIMEOUT, _note, there)
        cancelled = False
        try:
            while not there.done():
                try:
                    await asyncio.wait([there])
                except asyncio.CancelledError:
                    cancelled = True
        finally:
            late.cancel()
            loop.remove_reader(self._socket)
        if cancelled and task is not None:  # the next wait ends
            task.uncancel()
            task.cancel()
        return self._answer()

    def _poll(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _answer(self) -> int:
        """Read the answer. If there is none a child may stand at this gate already, and nobody else may then."""
        try:
            answer = self._socket.recv(ANSWER.size)
        except BlockingIOError:
            self._replace(f"it did not answer in {_ANSWER_TIMEOUT:g} s")
            raise OSError(errno.ETIMEDOUT, "the fork server does not answer") from None
        except ConnectionResetError:
            answer = b""
        if not answer:
            self._replace("it has ended")
            raise OSError(errno.ECONNRESET, "the fork server has ended")
        self._unproven = 0
        return int(ANSWER.unpack(answer)[0])

    def _replace(self, reason: str) -> None:
        """End this one, and start another."""
        if self._unproven >= _MOST_UNPROVEN:
            self._end(reason)
            return
        self._let_go()
        try:
            self._start()
            log.warning("the fork server is started again: %s", reason)
        except OSError as error:
            self._end(error.strerror or str(error))

    def _end(self, reason: str) -> None:
        log.warning("the fork server is given up (%s): papad forks for itself now, which takes longer", reason)
        self._let_go()

    def _let_go(self) -> "subprocess.Popen[bytes] | None":
        process, self._process = self._process, None
        self._socket.close()
        if process is not None and process.poll() is None:
            process.kill()
            _bury(process)
        return process

    def close(self) -> None:
        """End it, at papad's end. What it has forked goes on."""
        if (process := self._let_go()) is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)


def _note(there: "asyncio.Future[None]") -> None:
    if not there.done():
        there.set_result(None)


def _bury(process: "subprocess.Popen[bytes]", pause: float = 0.01) -> None:
    """Reap a child that was killed, whenever it ends: nobody waits for it."""
    if process.poll() is None:
        with contextlib.suppress(RuntimeError):  # papad ends, and is not there to reap it
            asyncio.get_running_loop().call_later(pause, _bury, process, min(2 * pause, 1.0))
