"""What a process does between its fork and its program, and where it waits in between: at its gate.

Whoever forks it keeps little in memory for it: this module imports no more than it must. It knows nothing of asyncio,
and nobody is above it: what fails is said through the status pipe.
"""

import ctypes
import errno
import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, NoReturn

from papa_dbus.service import rlimits

#: What a child says before it executes where its user has no home.
NO_HOME = b"\0"
#: The soft limit of descriptors that a program can count on, as systemd's services have it: select(2) ends there.
_SOFT_NOFILE = 1024

libc = ctypes.PyDLL(None, use_errno=True)  # it keeps the GIL, which a child is to have


class Identity(NamedTuple):
    """Who a process runs as. ``groups`` None: papad's own, unchanged."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None
    user: str
    home: str


class Launch(NamedTuple):
    """All that the child needs. ``descriptors``: its number in the child, and the forker's descriptor.

    ``rlimits``: resource.RLIMIT_* and the value of both limits, -1 for none.
    ``working_dir`` None: the user's home, or / where there is none. Only the child looks: it may be on a server that
    does not answer.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    identity: Identity
    working_dir: str | None
    umask: int
    rlimits: Mapping[str, int]
    descriptors: Mapping[int, int]
    listen_names: Sequence[str]


def shed() -> None:
    """Give up what papad, its starter or Python have changed, and what no program that it starts is to inherit.

    Signal dispositions by libc's own function: Python's, asked signal by signal, touches more memory than the rest of
    the child's way.
    """
    for number in range(1, signal.NSIG):
        libc.signal(number, None)  # SIG_DFL; two cannot be changed, which need not be
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _reset_oom_score()


def _reset_oom_score() -> None:
    """papad is spared when memory runs out; what it starts is not (systemd.exec(5), OOMScoreAdjust=)."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)
    except OSError:
        pass  # lowering it below an inherited one needs CAP_SYS_RESOURCE: then the inherited one stays


def become(launch: Launch, gate: int, status: int) -> NoReturn:
    """The way from the fork to the program, which is executed once the gate is open. Never returns."""
    doing = "start"
    try:
        os.setsid()
        gate, status = _place_descriptors(launch.descriptors, gate, status)
        doing = "set limits"
        _give_limits_back()
        for limit, value in launch.rlimits.items():
            doing = f"set rlimits {limit} to {value}"
            _set_limit(limit, value)
        doing = f"become user {launch.identity.user}"
        _change_identity(launch.identity)
        os.umask(launch.umask)
        doing = f"enter working_dir {launch.working_dir or launch.identity.home}"
        _enter(launch, status)
        env = dict(launch.env)
        if launch.listen_names:
            env |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(launch.listen_names))}
            env["LISTEN_FDNAMES"] = ":".join(launch.listen_names)
        doing = f"execute {launch.argv[0]}"
        if not os.read(gate, 1):
            os._exit(127)
        os.execvpe(launch.argv[0], list(launch.argv), env)
    except BaseException as error:  # noqa: BLE001 (there is nobody above: this is a forked child)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        os.write(status, f"cannot {doing}: {reason}".encode("utf-8", "surrogateescape")[:4000])
    os._exit(127)


def _enter(launch: Launch, status: int) -> None:
    try:
        os.chdir(launch.identity.home if launch.working_dir is None else launch.working_dir)
    except (FileNotFoundError, NotADirectoryError):
        if launch.working_dir is not None:
            raise
        os.chdir("/")
        os.write(status, NO_HOME)


def _place_descriptors(plan: Mapping[int, int], gate: int, status: int) -> tuple[int, int]:
    """Put each descriptor at its number, and close all others. Returns where gate and status went.

    Closing cannot be left to exec: a child at its gate would hold the other end of its own and of its siblings' gates.
    """
    above = max(plan) + 1
    sources = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for number, fd in plan.items()}
    gate = fcntl.fcntl(gate, fcntl.F_DUPFD_CLOEXEC, above)
    status = fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, above)
    for number, fd in sources.items():
        os.dup2(fd, number)
    kept = sorted({*plan, gate, status, resource.getrlimit(resource.RLIMIT_NOFILE)[0]})
    for below, fd in pairwise(kept):
        if fd > below + 1:  # close_range(2) would take an empty range for all
            os.closerange(below + 1, fd)
    return gate, status


def _give_limits_back() -> None:
    """What papad was started with, but for a limit of descriptors that is papad's alone: it holds thousands."""
    soft, hard = rlimits.GIVEN[resource.RLIMIT_NOFILE]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, _SOFT_NOFILE), hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, rlimits.GIVEN[resource.RLIMIT_FSIZE])


def _set_limit(limit: str, value: int) -> None:
    number = resource.RLIM_INFINITY if value == rlimits.INFINITY else value
    try:
        resource.setrlimit(rlimits.BY_NAME[limit], (number, number))
    except (ValueError, OverflowError) as error:
        raise OSError(errno.EPERM, str(error)) from None


def _change_identity(identity: Identity) -> None:
    if identity.groups is not None:
        os.setgroups(identity.groups)
    if identity.gid != os.getgid():
        os.setgid(identity.gid)
    if identity.uid != os.getuid():
        os.setuid(identity.uid)
