"""How a process ended, by its pidfd: as its parent, or as one who is no longer its parent.

After papad has been started again its processes are systemd's children. Linux 6.15 and up then tells the exit code all
the same, by the PIDFD_GET_INFO ioctl with PIDFD_INFO_EXIT (linux/pidfd.h), once the process has been reaped.
"""

import asyncio
import enum
import fcntl
import os
import select
import signal
import struct
from contextlib import suppress

# _IOWR(0xFF, 11, struct pidfd_info), whose size at its first version is 64 bytes; newer ones are longer.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
# mask, cgroupid; pid, tgid, ppid, then eight ids; exit_code (signed)
_INFO = struct.Struct("=QQ11Ii")

#: Tests switch the ioctl off with this, to see what an older Linux does.
WITHOUT_INFO = "PAPA_WITHOUT_PIDFD_INFO"


class ExitState(enum.Enum):
    RUNNING = enum.auto()
    NOT_REAPED = enum.auto()


STILL_RUNNING = ExitState.RUNNING
NOT_YET_REAPED = ExitState.NOT_REAPED


def how_ended(code: int | None) -> str:
    """Describe an exit code in words; None if it is not known."""
    if code is None:
        return "ended, and nobody could see its exit code"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"{-code}"
        return f"ended by signal {name}"
    return f"ended with exit status {code}"


def poll_exit_status(pidfd: int) -> int | ExitState | None:
    """Return the exit code (negative: the signal), None if it cannot be known, or that there is none yet."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return _poll_exit_status_of_stranger(pidfd)
    if result is None:
        return STILL_RUNNING
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _poll_exit_status_of_stranger(pidfd: int) -> int | ExitState | None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(0):
        return STILL_RUNNING
    if WITHOUT_INFO in os.environ:
        return None
    try:
        answer = fcntl.ioctl(pidfd, _PIDFD_GET_INFO, _INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    except ProcessLookupError:
        return NOT_YET_REAPED  # it is just being reaped
    except OSError:
        return _code_of_zombie(pidfd)  # an older Linux
    mask, *_, status = _INFO.unpack(answer)
    if not mask & _PIDFD_INFO_EXIT:
        code = _code_of_zombie(pidfd)
        return NOT_YET_REAPED if code is None else code
    return os.waitstatus_to_exitcode(status)


def _code_of_zombie(pidfd: int) -> int | None:
    """Return the exit code of a process that nobody has reaped yet, None if there is none or papad may not know it.

    /proc tells it to whoever may trace the process (proc_pid_stat(5), exit_code), and tells 0 to all others; io is for
    the same readers. No other process gets its PID before it is reaped, and the pidfd says afterwards whether it was.
    """
    try:
        pid = pid_of(pidfd)
        if pid <= 0:
            return None
        with open(f"/proc/{pid}/io", "rb") as may, open(f"/proc/{pid}/stat", "rb") as file:
            may.read()
            state, *fields = file.read().rpartition(b")")[2].split()
        if state != b"Z" or pid_of(pidfd) != pid:
            return None
    except OSError:
        return None
    return os.waitstatus_to_exitcode(int(fields[-1]))


def pid_of(fd: int) -> int:
    """Return the PID of a pidfd's process (pidfd_open(2)); -1 if it has been reaped, 0 if it is another descriptor."""
    with suppress(OSError), open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return 0


def reaped(pidfd: int) -> "asyncio.Future[None]":
    """Reap a child when it ends, and close its pidfd. Returns what is done then."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def bury() -> None:
        loop.remove_reader(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, bury)
    return ended


def reap_by_pid(pid: int) -> "asyncio.Future[None]":
    """Reap a child that was killed, as reaped() does, if there is no descriptor left for it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def look(pause: float) -> None:
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            loop.call_later(pause, look, min(2 * pause, 1.0))
        elif not ended.done():
            ended.set_result(None)

    look(0.001)
    return ended
