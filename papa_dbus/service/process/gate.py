"""A child between its fork and its program, as papad sees it: its gate, and its status pipe.

The child stands at its gate until it is stored and in its scope. If papad dies first, the gate closes and the child
ends without having run anything. What the child itself does meanwhile is in fork/child.py.
"""

import asyncio
import contextlib
import enum
import errno
import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Callable, Iterator

from papa_dbus.errors import Limit, Spawn
from papa_dbus.service import limits
from papa_dbus.service.fork.child import NO_HOME, ExecPlan
from papa_dbus.service.fork.exit_status import reap_by_pid, reaped
from papa_dbus.service.fork.fork import Fork

#: Seconds for a child that was killed to end: in uninterruptible sleep it may take for ever.
_REAP_TIMEOUT = 1.0


@contextlib.contextmanager
def _taking_descriptors() -> Iterator[None]:
    """Raise Limit if none is left."""
    try:
        yield
    except OSError as error:
        raise Limit(
            f"no file descriptor is left for a process ({error.strerror}): raise LimitNOFILE= of papad"
        ) from None


class Status:
    """The pipe by which a child says what it could not do. A successful exec closes it without a word.

    Its read end is kept with the process's other descriptors, and tells the next papad whether the program was
    executed. So nothing is taken out of it before what it says has been stored.
    """

    def __init__(self) -> None:
        with _taking_descriptors():
            self.read, self.write = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # it is kept as long as the process, and a page is enough for a word
            fcntl.fcntl(self.read, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)

    def close_write(self) -> None:
        """Leave the write end to the child."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close(self) -> None:
        """Close what is still open of it."""
        self.close_write()
        os.close(self.read)


class Word(enum.Enum):
    """What a child has said before it executed its program."""

    NOTHING = enum.auto()  # yet
    NO_HOME = enum.auto()  # and nothing else yet
    EXECUTED = enum.auto()
    EXECUTED_WITHOUT_HOME = enum.auto()
    FAILED = enum.auto()  # a text says why


def said(status: int) -> Word:
    """Return what a child has said, and leave it where it is."""
    poll = select.poll()
    poll.register(status, 0)
    closed = bool(poll.poll(0))  # before the size is asked for: nothing comes after it
    size = readable(status)
    if size > len(NO_HOME):  # each text is longer, and written at once
        return Word.FAILED
    if size:
        return Word.EXECUTED_WITHOUT_HOME if closed else Word.NO_HOME
    return Word.EXECUTED if closed else Word.NOTHING


def readable(fd: int) -> int:
    """Return how many bytes a pipe holds now (FIONREAD, pipe(7))."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])


async def executed(status: int, pidfd: int, without_home: Callable[[], None]) -> bool:
    """Wait until a child has executed its program, and return whether it did; START_TIMEOUT, then it is killed.

    ``without_home`` is called, to store it, if the user's home is not there, so that the program runs in /. Raises
    Spawn if the child did not start in time.
    """
    loop = asyncio.get_running_loop()
    decided: asyncio.Future[Word] = loop.create_future()

    def hear() -> None:
        word = said(status)
        if word in (Word.NO_HOME, Word.EXECUTED_WITHOUT_HOME):
            without_home()
            os.read(status, len(NO_HOME))  # else it would be heard for ever
        if word not in (Word.NOTHING, Word.NO_HOME) and not decided.done():
            decided.set_result(word)

    loop.add_reader(status, hear)
    try:
        async with asyncio.timeout(limits.START_TIMEOUT):
            return await decided is not Word.FAILED
    except TimeoutError:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        raise Spawn(
            f"it did not start in {limits.START_TIMEOUT:.0f} s, and was ended; see whether its file can be read"
        ) from None
    finally:
        loop.remove_reader(status)


class PendingChild:
    """A forked process at the gate, before it has executed its program."""

    def __init__(self, pid: int, pidfd: int, gate: int, status: Status) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._gate = gate
        self._status = status

    @classmethod
    async def forked(cls, plan: ExecPlan, fork: Fork, status: Status) -> "PendingChild":
        """Fork one. Raises Spawn, or Limit if there is no descriptor left."""
        with contextlib.ExitStack() as undo:
            with _taking_descriptors():
                gate, ours = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, ours)
            try:
                pid = await fork(plan, gate, status.write)
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "")
                raise Spawn(f"cannot fork: {error.strerror} ({name})") from None
            finally:
                os.close(gate)
                status.close_write()
            try:
                with _taking_descriptors():
                    pidfd = os.pidfd_open(pid)
            except Limit:
                os.kill(pid, signal.SIGKILL)
                await asyncio.wait([reap_by_pid(pid)], timeout=_REAP_TIMEOUT)
                raise
            undo.pop_all()
        return cls(pid, pidfd, ours, status)

    def open_gate(self) -> None:
        """Let it execute its program."""
        with contextlib.suppress(BrokenPipeError):  # it was killed at its gate; its status says nothing, its end does
            os.write(self._gate, b"x")
        os.close(self._gate)

    async def execute(self, without_home: Callable[[], None], failed: Callable[[], None]) -> None:
        """Wait until it has executed its program, after its gate was opened.

        ``without_home``: see `executed`. ``failed`` is called, to store it, if the program cannot be executed. Raises
        Spawn then, with everything cleaned up.
        """
        try:
            if await executed(self._status.read, self.pidfd, without_home):
                return
            failed()
            reason = os.read(self._status.read, 4096).removeprefix(NO_HOME).decode("utf-8", "replace")
        except Spawn as error:
            reason = str(error)
        except BaseException:  # nobody waits for it any more, and it must not run where nobody knows of it
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            await _reap(self.pidfd)
            raise
        await _reap(self.pidfd)
        raise Spawn(reason)

    async def cancel(self) -> None:
        """End the child, which has not executed anything."""
        os.close(self._gate)
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)  # it may have been stopped, or hang on its way to the gate
        await _reap(self.pidfd)


async def _reap(pidfd: int) -> None:
    """Wait for a child that ends or was killed. One that Linux does not let go of in time is reaped when it does."""
    await asyncio.wait([reaped(pidfd)], timeout=_REAP_TIMEOUT)
