"""From a request to a running program, as papad sees it: whom it is to be, its gate, and what it says if it cannot.

The child stands at a gate until the kernel has stored and placed it. If papad dies first, the gate closes and the child
ends without having run anything. Knows nothing of registries, output or clients.
"""

import asyncio
import contextlib
import enum
import errno
import fcntl
import grp
import os
import pwd
import select
import signal
import socket
import struct
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence

from papa_dbus.errors import InvalidArgs, Limit, Spawn
from papa_dbus.service import limits
from papa_dbus.service.caller import acting_user
from papa_dbus.service.fork.child import NO_HOME, ExecPlan, Identity
from papa_dbus.service.fork.exit_status import reap_by_pid, reaped
from papa_dbus.service.fork.fork import Fork
from papa_dbus.service.group_list import groups_of
from papa_dbus.service.items.specs import ProcessSpec
from papa_dbus.service.lookups import Lookups

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
        return await lookups.ask(acting_user(), lambda: _look_up(spec), limits.LOOKUP_TIMEOUT)
    except TimeoutError:
        option = "uid" if spec.uid is not None else "gid"
        asked = spec.uid if spec.uid is not None else spec.gid
        seconds = f"{limits.LOOKUP_TIMEOUT:.0f} s"
        raise Spawn(f"option '{option}': no word of {asked!r} from the user database in {seconds}; try again") from None


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
            raise InvalidArgs(f"option 'uid': there is no user {spec.uid}, so option 'gid' must be given, too")
        gid = os.getegid() if spec.uid is None or entry is None else entry.pw_gid
    if entry is None and spec.uid is None:
        return Identity(os.geteuid(), gid, None, str(os.geteuid()), "/")
    if entry is None:
        return Identity(int(str(spec.uid)), gid, (gid,), str(spec.uid), "/")
    changed = spec.uid is not None or spec.gid is not None
    groups = tuple(groups_of(entry.pw_name, gid)) if changed and os.geteuid() == 0 else None
    return Identity(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


def _user(uid: str | int | None) -> pwd.struct_passwd | None:
    try:
        if isinstance(uid, str):
            return pwd.getpwnam(uid)
        return pwd.getpwuid(os.geteuid() if uid is None else uid)
    except KeyError:
        if isinstance(uid, str):
            raise InvalidArgs(f"option 'uid': there is no user {uid!r}; 'getent passwd' lists them") from None
        return None


def _gid(gid: str | int | None) -> int | None:
    if not isinstance(gid, str):
        return gid
    try:
        return grp.getgrnam(gid).gr_gid
    except KeyError:
        raise InvalidArgs(f"option 'gid': there is no group {gid!r}; 'getent group' lists them") from None


def environment(spec: ProcessSpec, identity: Identity) -> dict[str, str]:
    """Return what was asked for, or a login-like minimum as systemd gives it (systemd.exec(5))."""
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
        raise Limit(f"no file descriptor is left for {what} ({error.strerror}): raise LimitNOFILE= of papad") from None


class Status:
    """The pipe by which a child says what it could not do. A successful exec closes it without a word.

    Its read end is kept with the process's other descriptors, and tells the next papad whether the program was
    executed. So nothing is taken out of it before what it says has been stored.
    """

    def __init__(self) -> None:
        with _limit("a process"):
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
    async def forked(cls, launch: ExecPlan, fork: Fork, status: Status) -> "PendingChild":
        """Fork one. Raises Spawn, or Limit if there is no descriptor left."""
        with contextlib.ExitStack() as undo:
            with _limit("a process"):
                gate, ours = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, ours)
            try:
                pid = await fork(launch, gate, status.write)
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "")
                raise Spawn(f"cannot fork: {error.strerror} ({name})") from None
            finally:
                os.close(gate)
                status.close_write()
            try:
                pidfd = os.pidfd_open(pid)
            except OSError as error:
                os.kill(pid, signal.SIGKILL)
                await asyncio.wait([reap_by_pid(pid)], timeout=_REAP_TIMEOUT)
                raise Limit(
                    f"no file descriptor is left for a process ({error.strerror}): raise LimitNOFILE= of papad"
                ) from None
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
