"""From a request to a running program: fork, what the child does before it executes, and what it says if it cannot.

The child stands at a gate until the kernel has stored and placed it. If papad dies first, the gate closes and the child
ends without having run anything. Knows nothing of registries, output or clients.
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import gc
import grp
import os
import pwd
import resource
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

from papa_dbus.errors import InvalidArgs, Limit, Spawn
from papa_dbus.service import limits
from papa_dbus.service.specs import RLIM_INFINITY, RLIMITS, ProcessSpec

#: The PATH that systemd gives to services, systemd.exec(5).
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_UMASK = 0o022
#: The soft limit of descriptors that a program can count on, as systemd's services have it: select(2) ends there.
_SOFT_NOFILE = 1024
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
#: What a child says before it executes where its user has no home.
_NO_HOME = b"\0"
#: Seconds for a child that was killed to end: in uninterruptible sleep it may take for ever.
_REAP_TIMEOUT = 1.0
_libc = ctypes.PyDLL(None, use_errno=True)  # it keeps the GIL, which the child is to have


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process runs as. ``groups`` None: papad's own, unchanged."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None
    user: str
    home: str


def identify(spec: ProcessSpec) -> Identity:
    """The user and groups that were asked for. Raises InvalidArgs where there is no such user or group."""
    entry = _user(spec.uid)
    gid = _gid(spec.gid)
    if gid is None:
        if entry is None and spec.uid is not None:
            raise InvalidArgs(f"option 'uid': there is no user {spec.uid}, so its group must be given as 'gid'")
        gid = os.getegid() if spec.uid is None or entry is None else entry.pw_gid
    if entry is None and spec.uid is None:
        return Identity(os.geteuid(), gid, None, str(os.geteuid()), "/")
    if entry is None:
        return Identity(int(str(spec.uid)), gid, (gid,), str(spec.uid), "/")
    changed = spec.uid is not None or spec.gid is not None
    groups = tuple(os.getgrouplist(entry.pw_name, gid)) if changed and os.geteuid() == 0 else None
    return Identity(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


def _user(uid: str | int | None) -> pwd.struct_passwd | None:
    try:
        if isinstance(uid, str):
            return pwd.getpwnam(uid)
        return pwd.getpwuid(os.geteuid() if uid is None else uid)
    except KeyError:
        if isinstance(uid, str):
            raise InvalidArgs(f"option 'uid': there is no user {uid!r}") from None
        return None


def _gid(gid: str | int | None) -> int | None:
    if not isinstance(gid, str):
        return gid
    try:
        return grp.getgrnam(gid).gr_gid
    except KeyError:
        raise InvalidArgs(f"option 'gid': there is no group {gid!r}") from None


@dataclass(frozen=True, slots=True)
class Launch:
    """All that the child needs. ``descriptors``: its number in the child, and papad's descriptor.

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


def environment(spec: ProcessSpec, identity: Identity) -> dict[str, str]:
    """What was asked for, or a login-like minimum as systemd gives it (systemd.exec(5))."""
    if spec.env is not None:
        return dict(spec.env)
    return {
        "PATH": _DEFAULT_PATH,
        "HOME": identity.home,
        "USER": identity.user,
        "LOGNAME": identity.user,
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }


@contextlib.contextmanager
def _limit(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Limit(f"no file descriptor is left for {what}: {error.strerror}") from None


def _two_ends(undo: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    for fd in ends:
        undo.callback(os.close, fd)
    return ends


class Child:
    """A forked process at the gate, before it has executed its program."""

    def __init__(self, launch: Launch) -> None:
        with _limit("a process"), contextlib.ExitStack() as undo:
            gate, self._gate = _two_ends(undo)
            self._status, status = _two_ends(undo)
            undo.pop_all()
        os.set_blocking(self._status, False)
        try:
            self.pid = _fork()
            if self.pid == 0:
                _become(launch, gate, status)
        except OSError as error:
            os.close(self._gate)
            os.close(self._status)
            name = errno.errorcode.get(error.errno or 0, "")
            raise Spawn(f"cannot fork: {error.strerror} ({name})") from None
        finally:
            os.close(gate)
            os.close(status)
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError as error:
            self._give_up()
            raise Limit(f"no file descriptor is left for a process: {error.strerror}") from None

    def _give_up(self) -> None:
        os.close(self._gate)
        os.close(self._status)
        os.kill(self.pid, signal.SIGKILL)  # it may have been stopped, and is waited for
        os.waitpid(self.pid, 0)

    async def execute(self) -> bool:
        """Open the gate; returns whether the user's home was not there, so that the program runs in /.

        Raises Spawn, with everything cleaned up, where the program cannot be executed.
        """
        with contextlib.suppress(BrokenPipeError):  # it was killed at its gate; its status says nothing, its end does
            os.write(self._gate, b"x")
        os.close(self._gate)
        loop = asyncio.get_running_loop()
        said: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(self._status, _hear, self._status, bytearray(), said)
        try:
            async with asyncio.timeout(limits.START_TIMEOUT):
                heard = await said
        except TimeoutError:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            heard = f"it did not start in {limits.START_TIMEOUT:.0f} s".encode()
        except BaseException:  # nobody waits for it any more, and it must not run where nobody knows of it
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            await _reap(self.pidfd)
            raise
        finally:
            loop.remove_reader(self._status)
            os.close(self._status)
        if failure := heard.removeprefix(_NO_HOME):
            await _reap(self.pidfd)
            raise Spawn(failure.decode("utf-8", "replace"))
        return heard == _NO_HOME

    def cancel(self) -> None:
        """Close the gate: the child ends without having executed anything."""
        os.close(self.pidfd)
        self._give_up()


def _hear(status: int, heard: bytearray, said: "asyncio.Future[bytes]") -> None:
    """What went wrong, or nothing: then exec has closed the pipe."""
    data = os.read(status, 4096)
    heard += data
    if not said.done() and (not data or heard != _NO_HOME):
        said.set_result(bytes(heard))


async def _reap(pidfd: int) -> None:
    """Wait for a child that ends or was killed. One that Linux does not let go of in time is reaped when it does."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def bury() -> None:
        loop.remove_reader(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, bury)
    await asyncio.wait([ended], timeout=_REAP_TIMEOUT)


def _fork() -> int:
    """fork(2), with as little done in the child as can be: each page that it touches is copied first.

    Python's own fork makes the child fit to go on as a Python program, which takes longer than all that this one does.
    Only where another thread runs, which may hold the interpreter's locks at this moment, is there no way around it.
    """
    gc.disable()  # in the child it stays so
    pid = -1
    try:
        if threading.active_count() > 1:
            pid = os.fork()
        elif (pid := _libc.fork()) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        if pid:
            gc.enable()
    return pid


def _become(launch: Launch, gate: int, status: int) -> NoReturn:
    """The child's way from the fork to its program. Never returns."""
    doing = "start"
    try:
        os.setsid()
        _reset_signals()
        gate, status = _place_descriptors(launch.descriptors, gate, status)
        if not os.read(gate, 1):
            os._exit(127)
        doing = "set limits"
        _reset_oom_score()
        _give_limits_back()
        for limit, value in launch.rlimits.items():
            doing = f"set rlimits {limit} to {value}"
            _set_limit(limit, value)
        doing = f"become user {launch.identity.user}"
        _change_identity(launch.identity)
        os.umask(launch.umask)
        doing = f"enter working_dir {launch.working_dir or launch.identity.home}"
        _enter(launch, status)
        doing = f"execute {launch.argv[0]}"
        env = dict(launch.env)
        if launch.listen_names:
            env |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(launch.listen_names))}
            env["LISTEN_FDNAMES"] = ":".join(launch.listen_names)
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
        os.write(status, _NO_HOME)


def _reset_signals() -> None:
    """Give the program the dispositions that a shell would: papad, Python and papad's starter have changed some.

    By libc's own function: Python's, asked signal by signal, touches more memory than the rest of the child's way.
    """
    for number in range(1, signal.NSIG):
        _libc.signal(number, None)  # SIG_DFL; two cannot be changed, which need not be
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


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


def _reset_oom_score() -> None:
    """papad is spared when memory runs out; what it starts is not (systemd.exec(5), OOMScoreAdjust=)."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)
    except OSError:
        pass  # lowering it below an inherited one needs CAP_SYS_RESOURCE: then the inherited one stays


def _give_limits_back() -> None:
    """What papad was started with, but for a limit of descriptors that is papad's alone: it holds thousands."""
    soft, hard = limits.GIVEN[resource.RLIMIT_NOFILE]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, _SOFT_NOFILE), hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits.GIVEN[resource.RLIMIT_FSIZE])


def _set_limit(limit: str, value: int) -> None:
    number = resource.RLIM_INFINITY if value == RLIM_INFINITY else value
    try:
        resource.setrlimit(RLIMITS[limit], (number, number))
    except (ValueError, OverflowError) as error:
        raise OSError(errno.EPERM, str(error)) from None


def _change_identity(identity: Identity) -> None:
    if identity.groups is not None:
        os.setgroups(identity.groups)
    if identity.gid != os.getgid():
        os.setgid(identity.gid)
    if identity.uid != os.getuid():
        os.setuid(identity.uid)


def plan_descriptors(
    out: int, err: int, null: int, passed: Sequence[socket.socket], named: Mapping[str, tuple[int, socket.socket]]
) -> tuple[dict[int, int], dict[str, int]]:
    """The child's descriptor numbers, and those of the sockets its command names.

    ``passed`` come first, by the LISTEN_FDS protocol. A named one keeps papad's number, as Papa's clients expect,
    unless that is taken.
    """
    plan = {0: null, 1: out, 2: err}
    for number, sock in enumerate(passed, _LISTEN_FDS_START):
        plan[number] = sock.fileno()
    numbers: dict[str, int] = {}
    for name, (wanted, sock) in named.items():
        number = wanted if wanted not in plan else max(plan) + 1
        plan[number] = sock.fileno()
        numbers[name] = number
    return plan, numbers
