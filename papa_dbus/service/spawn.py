"""From a request to a running program, as papad sees it: whom it is to be, its gate, and what it says if it cannot.

The child stands at a gate until the kernel has stored and placed it. If papad dies first, the gate closes and the child
ends without having run anything. Knows nothing of registries, output or clients.
"""

import asyncio
import contextlib
import errno
import grp
import os
import pwd
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence

from papa_dbus.errors import InvalidArgs, Limit, Spawn
from papa_dbus.service import audit, limits
from papa_dbus.service.child import NO_HOME, Identity, Launch
from papa_dbus.service.exits import reap_by_pid, reaped
from papa_dbus.service.forks import Fork
from papa_dbus.service.lookups import Lookups
from papa_dbus.service.specs import ProcessSpec

#: The PATH that systemd gives to services, systemd.exec(5).
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_UMASK = 0o022
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
#: Seconds for a child that was killed to end: in uninterruptible sleep it may take for ever.
_REAP_TIMEOUT = 1.0


async def identify(spec: ProcessSpec, lookups: Lookups) -> Identity:
    """Return the user and groups that were asked for. Raises InvalidArgs if there is no such user or group.

    The user database may be a directory on another machine: it is asked in a thread, and not at all for papad's own
    user if /etc/passwd has that one. Raises Spawn if there is no answer in time.
    """
    if spec.uid is None and spec.gid is None and (own := _local_user(os.geteuid())) is not None:
        return Identity(os.geteuid(), os.getegid(), None, *own)
    try:
        return await lookups.ask(audit.user(), lambda: _look_up(spec), limits.LOOKUP_TIMEOUT)
    except TimeoutError:
        option = "uid" if spec.uid is not None else "gid"
        asked = spec.uid if spec.uid is not None else spec.gid
        seconds = f"{limits.LOOKUP_TIMEOUT:.0f} s"
        raise Spawn(f"option '{option}': the user database said nothing about {asked!r} in {seconds}") from None


def _local_user(uid: int) -> tuple[str, str] | None:
    """Return the name and home of a user in /etc/passwd (passwd(5))."""
    try:
        with open("/etc/passwd", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                if len(fields) == 7 and fields[2] == str(uid):
                    return fields[0], fields[5]
    except OSError:
        pass
    return None


def _look_up(spec: ProcessSpec) -> Identity:
    """Ask the user database. Waits for it."""
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

    def __init__(self, pid: int, pidfd: int, gate: int, status: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._gate = gate
        self._status = status

    @classmethod
    async def forked(cls, launch: Launch, fork: Fork) -> "Child":
        """Fork one. Raises Spawn, or Limit if there is no descriptor left."""
        with contextlib.ExitStack() as undo:
            with _limit("a process"):
                gate, our_gate = _two_ends(undo)
                our_status, status = _two_ends(undo)
            os.set_blocking(our_status, False)
            try:
                pid = await fork(launch, gate, status)
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "")
                raise Spawn(f"cannot fork: {error.strerror} ({name})") from None
            try:
                pidfd = os.pidfd_open(pid)
            except OSError as error:
                os.kill(pid, signal.SIGKILL)
                await asyncio.wait([reap_by_pid(pid)], timeout=_REAP_TIMEOUT)
                raise Limit(f"no file descriptor is left for a process: {error.strerror}") from None
            undo.pop_all()
        os.close(gate)
        os.close(status)
        return cls(pid, pidfd, our_gate, our_status)

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
        if failure := heard.removeprefix(NO_HOME):
            await _reap(self.pidfd)
            raise Spawn(failure.decode("utf-8", "replace"))
        return heard == NO_HOME

    async def cancel(self) -> None:
        """End the child, which has not executed anything."""
        os.close(self._gate)
        os.close(self._status)
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)  # it may have been stopped, or hang on its way to the gate
        await _reap(self.pidfd)


def _hear(status: int, heard: bytearray, said: "asyncio.Future[bytes]") -> None:
    """What went wrong, or nothing: then exec has closed the pipe."""
    data = os.read(status, 4096)
    heard += data
    if not said.done() and (not data or heard != NO_HOME):
        said.set_result(bytes(heard))


async def _reap(pidfd: int) -> None:
    """Wait for a child that ends or was killed. One that Linux does not let go of in time is reaped when it does."""
    await asyncio.wait([reaped(pidfd)], timeout=_REAP_TIMEOUT)


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
