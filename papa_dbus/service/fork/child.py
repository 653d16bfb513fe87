"""What a process does between its fork and its program, and where it waits in between: at its gate.

Whoever forks it keeps little in memory for it: this module imports no more than it must. It knows nothing of asyncio,
and nobody is above a child: what fails in one is said through its status pipe.
"""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, NoReturn

from papa_dbus.service import rlimits
from papa_dbus.service.fork import errand as fork_errand
from papa_dbus.service.fork.errand import Errand

#: What a child says before it executes where its user has no home.
NO_HOME = b"\0"
#: The soft limit of descriptors that a program can count on, as systemd's services have it: select(2) ends there.
_SOFT_NOFILE = 1024
#: Of the pipes of a program's output: its user's to read, and everybody's to write who comes to them.
_PIPE_MODE = 0o622

#: keyctl(2)'s number by machine, of 64 bits, and what it is to do.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280}
_KEYCTL_JOIN_SESSION_KEYRING = 1

libc = ctypes.PyDLL(None, use_errno=True)  # it keeps the GIL, which a child is to have


class Identity(NamedTuple):
    """Who a process runs as. ``groups`` None: papad's own, unchanged."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None
    user: str
    home: str


class ExecPlan(NamedTuple):
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


def reset_process_state() -> None:
    """Give up what papad, its starter or Python have changed, and what no program that it starts is to inherit.

    Signal dispositions by libc's own function: Python's, asked signal by signal, touches more memory than the rest of
    the child's way.
    """
    for number in range(1, signal.NSIG):
        libc.signal(number, None)  # SIG_DFL; two cannot be changed, which need not be
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _reset_oom_score() -> None:
    """Let memory running out end a program, while papad and its fork server are spared (OOMScoreAdjust=)."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)
    except OSError:
        pass  # lowering it below an inherited one needs CAP_SYS_RESOURCE: then the inherited one stays


class Step(NamedTuple):
    """A call, and what it is for, as an error says it."""

    doing: str
    call: Callable[..., object]
    arguments: tuple[object, ...]


class Ready(NamedTuple):
    """What is left for the child to do: as little as can be, since each page that it touches is copied first."""

    steps: Sequence[Step]
    gate: int
    status: int
    execute: Step


def prepare(work: ExecPlan | Errand, gate: int, status: int, requests: int | None = None) -> Ready:
    """Put the child's descriptors in their places, and close all others but ``requests``, which the child closes.

    Returns what is left for the child to do. Whose descriptors these are: the child's own, or the fork server's before
    it forks. ``requests`` is above all numbers of the child. Closing cannot be left to exec: a child at its gate would
    hold its siblings' pipes. Raises OSError.
    """
    above = first_free(work)
    sources = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for number, fd in work.descriptors.items()}
    gate = fcntl.fcntl(gate, fcntl.F_DUPFD_CLOEXEC, above)
    status = fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, above)
    for number, fd in sources.items():
        os.dup2(fd, number)
    kept = {*work.descriptors, gate, status}
    steps = [Step("start", os.setsid, ())]
    if requests is not None:
        kept.add(requests)
        steps.append(Step("start", os.close, (requests,)))
    close_all_but(kept)
    if isinstance(work, Errand):
        return Ready(steps, gate, status, Step("do an errand", fork_errand.run, (status, *work[:2])))
    plan = work
    steps.append(Step("start", _reset_oom_score, ()))
    if os.geteuid() == 0:
        steps.append(Step("join a session keyring of its own", _join_session_keyring, ()))
    steps += (Step("set limits", resource.setrlimit, each) for each in _given_limits())
    for limit, value in plan.rlimits.items():
        steps.append(Step(f"set option 'rlimits {limit}' to {value}", _set_limit, (limit, value)))
    _open_pipes_to(plan.identity.uid)
    steps += _identity_steps(plan.identity)
    steps.append(Step("start", os.umask, (plan.umask,)))
    if plan.working_dir is None:
        steps.append(Step(f"enter the home {plan.identity.home}", _enter_home, (plan.identity.home, status)))
    else:
        steps.append(Step(f"enter {plan.working_dir} (option 'working_dir')", os.chdir, (plan.working_dir,)))
    env = dict(plan.env)
    if plan.listen_names:
        steps.append(Step("start", _name_sockets, (env, plan.listen_names)))
    program = plan.argv[0]
    execute = os.execve if os.path.dirname(program) else os.execvpe  # only it looks into the child's PATH
    return Ready(steps, gate, status, Step(f"execute {program}", execute, (program, list(plan.argv), env)))


def _open_pipes_to(uid: int) -> None:
    """Let the program open its output by name, /dev/stdout: Linux looks whose the pipe is, and papad made it.

    It is the user's, and whoever the program becomes may write to it: only who has the pipe, or may trace somebody who
    has, comes to it by that name (proc_pid_fd(5)). /dev/null stays as it is.
    """
    for number in (1, 2):
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            try:
                os.fchmod(number, _PIPE_MODE)
                os.fchown(number, uid, -1)
            except PermissionError:
                pass  # without CAP_CHOWN it may write all the same


def first_free(work: ExecPlan | Errand) -> int:
    """Return the number above all that the child has."""
    return max(work.descriptors, default=0) + 1


def exec_child(ready: Ready) -> NoReturn:
    """The way from the fork to the program, or errand, which is executed once the gate is open. Never returns."""
    doing = "start"
    try:
        for doing, call, arguments in ready.steps:  # noqa: B007 (doing is for whoever catches the error)
            call(*arguments)
        doing, call, arguments = ready.execute
        if not os.read(ready.gate, 1):  # the next papad must see that this one has not run
            raise OSError(errno.ECANCELED, "papad ended before it opened the gate")
        call(*arguments)
    except BaseException as error:  # noqa: BLE001 (there is nobody above: this is a forked child)
        fail(doing, error, ready.status)
    os._exit(127)


def fail(doing: str, error: BaseException, status: int) -> NoReturn:
    """End a forked child, which says through its status pipe what it could not do."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
    try:
        os.write(status, f"cannot {doing}: {reason}".encode("utf-8", "surrogateescape")[:4000])
    finally:
        os._exit(127)


def close_all_but(kept: set[int]) -> None:
    """Close the other descriptors."""
    bounds = sorted({-1, *kept, resource.getrlimit(resource.RLIMIT_NOFILE)[0]})
    for below, fd in pairwise(bounds):
        if fd > below + 1:  # close_range(2) would take an empty range for all
            os.closerange(below + 1, fd)


def _join_session_keyring() -> None:
    """Leave papad's session keyring: whoever has that one reads the keys in it, whatever his user (keyrings(7)).

    For root's papad alone: the programs of any other are one user's, and may need the keys of his session. As root, the
    new keyring counts as root's, who may have a million; a user may have 200 (/proc/sys/kernel/keys).
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is None or sys.maxsize < 2**32 or libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None) >= 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.ENOSYS, errno.EPERM):  # a Linux or a container without keyrings: no program reads one there
        raise OSError(code, os.strerror(code))


def _given_limits() -> list[tuple[int, tuple[int, int]]]:
    """Return what papad was started with, but for a limit of descriptors that is papad's alone: it holds thousands."""
    soft, hard = rlimits.GIVEN[resource.RLIMIT_NOFILE]
    file_size = (resource.RLIMIT_FSIZE, rlimits.GIVEN[resource.RLIMIT_FSIZE])
    return [(resource.RLIMIT_NOFILE, (min(soft, _SOFT_NOFILE), hard)), file_size]


def _set_limit(limit: str, value: int) -> None:
    """Set both limits. Infinity is the hard limit if that cannot be raised, as Circus has it."""
    which = rlimits.BY_NAME[limit]
    if value == rlimits.INFINITY:
        try:
            resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (ValueError, OSError):  # even root cannot raise nofile above fs.nr_open
            value = resource.getrlimit(which)[1]
        else:
            return
    try:
        resource.setrlimit(which, (value, value))
    except (ValueError, OverflowError) as error:
        raise OSError(errno.EPERM, str(error)) from None


def _identity_steps(identity: Identity) -> list[Step]:
    doing = f"become user {identity.user}"
    steps = []
    if identity.groups is not None:
        steps.append(Step(doing, os.setgroups, (identity.groups,)))
    if identity.gid != os.getgid():
        steps.append(Step(doing, os.setgid, (identity.gid,)))
    if identity.uid != os.getuid():
        steps.append(Step(doing, os.setuid, (identity.uid,)))
    return steps


def _enter_home(home: str, status: int) -> None:
    try:
        os.chdir(home)
    except (FileNotFoundError, NotADirectoryError):
        os.chdir("/")
        os.write(status, NO_HOME)


def _name_sockets(env: dict[str, str], names: Sequence[str]) -> None:
    """sd_listen_fds(3)."""
    env["LISTEN_PID"] = str(os.getpid())
    env["LISTEN_FDS"] = str(len(names))
    env["LISTEN_FDNAMES"] = ":".join(names)
