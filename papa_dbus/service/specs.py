"""What may be asked of the kernel: a socket, a process, a watch, each checked once, when it is made.

Plain data, no I/O. Every fault is InvalidArgs in the words of the one who asked: the option's name and what is wrong.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from papa_dbus import schema
from papa_dbus.errors import InvalidArgs
from papa_dbus.names import name_fault
from papa_dbus.service import limits, rlimits

Family = Literal["inet", "inet6", "unix"]
SocketType = Literal["stream", "dgram", "seqpacket", "raw", "rdm"]

FAMILIES = ("inet", "inet6", "unix")
SOCKET_TYPES = ("stream", "dgram", "seqpacket", "raw", "rdm")

#: The options that limit a process's scope, and the most that each can be.
_MOST = {
    "memory_max": schema.MAX_MEMORY_MAX,
    "cpu_quota": schema.MAX_CPU_QUOTA,
    "tasks_max": schema.MAX_TASKS_MAX,
}
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{limits.MAX_TOKEN}}}")
_MAX_UNIX_PATH = 107  # sun_path has 108 bytes with its end (unix(7))
_MAX_INTERFACE = 15  # IFNAMSIZ has 16 bytes with its end (netdevice(7))


def check_name(kind: str, name: str) -> None:
    """Raise InvalidArgs where a new item may not be called that."""
    if fault := name_fault(name):
        raise InvalidArgs(f"{kind} name {name[:60]!r}: {fault}")


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgs(f"option '{option}': {value!r} is none of {', '.join(choices)}")


def _check_range(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidArgs(f"option '{option}': {value} is out of range ({least} to {most})")


def _check_umask(value: int | None) -> None:
    if value is not None and not 0 <= value <= 0o777:
        raise InvalidArgs(f"option 'umask': {value:#o} is out of range (0 to 0777)")


def _check_token(token: str | None) -> None:
    if token is not None and not _TOKEN.fullmatch(token):
        raise InvalidArgs(
            f"option 'token': {token[:80]!r} is not 1 to {limits.MAX_TOKEN} letters, digits, '-' or '_' of ASCII"
        )


def _check_text(option: str, value: str) -> None:
    if "\0" in value:
        raise InvalidArgs(f"option '{option}': a NUL byte is not possible there")


@dataclass(frozen=True, slots=True)
class SocketSpec:
    """A socket to be hosted. ``umask`` is of its file; ``port`` 0 lets Linux choose.

    ``passed``: somebody else has bound it and passed it to papad. No client asks for that. ``token`` is the request's.
    """

    name: str
    family: str = ""
    type: str = "stream"
    host: str | None = None
    port: int | None = None
    path: str | None = None
    umask: int | None = None
    backlog: int = limits.DEFAULT_BACKLOG
    interface: str | None = None
    reuseport: bool = False
    passed: bool = False
    token: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_name("socket", self.name)
        _check_token(self.token)
        if self.passed:
            return  # it is there, so Linux has such a one
        if not self.family:
            object.__setattr__(self, "family", "inet" if self.path is None else "unix")
        _check_choice("family", self.family, FAMILIES)
        _check_choice("type", self.type, SOCKET_TYPES)
        _check_range("backlog", self.backlog, 0, 2**31 - 1)
        _check_umask(self.umask)
        if self.family == "unix":
            self._check_unix()
        else:
            self._check_inet()

    def _check_unix(self) -> None:
        for option in ("host", "port", "interface"):
            if getattr(self, option) is not None:
                raise InvalidArgs(f"option '{option}': goes with family inet or inet6, not with unix")
        if self.reuseport:
            raise InvalidArgs("option 'reuseport': goes with family inet or inet6, not with unix")
        if self.type == "raw":
            raise InvalidArgs("option 'type': Linux has no raw Unix sockets")
        if self.path is None:
            raise InvalidArgs("option 'path': a Unix socket needs one")
        _check_text("path", self.path)
        if not os.path.isabs(self.path) or self.path.endswith("/"):
            raise InvalidArgs(f"option 'path': {self.path!r} is not the absolute path of a file")
        if len(os.fsencode(self.path)) > _MAX_UNIX_PATH:
            raise InvalidArgs(f"option 'path': a Unix socket's path may have {_MAX_UNIX_PATH} bytes at most")

    def _check_inet(self) -> None:
        for option in ("path", "umask"):
            if getattr(self, option) is not None:
                raise InvalidArgs(f"option '{option}': goes with family unix, not with {self.family}")
        if self.port is None:
            object.__setattr__(self, "port", 0)
        _check_range("port", self.port or 0, 0, 65535)
        if self.host is not None:
            _check_text("host", self.host)
        else:
            object.__setattr__(self, "host", _default_host(self.family, self.interface))
        if self.interface is not None:
            _check_text("interface", self.interface)
            if not self.interface or len(os.fsencode(self.interface)) > _MAX_INTERFACE:
                raise InvalidArgs(f"option 'interface': a name of 1 to {_MAX_INTERFACE} bytes is wanted")
        if self.reuseport and self.type not in ("stream", "dgram"):
            raise InvalidArgs(f"option 'reuseport': goes with type stream or dgram, not with {self.type}")

    def asks_for(self, other: "SocketSpec", port: int | None) -> bool:
        """Whether this asks for what ``other`` asked for; ``port`` is the one that it got (0 asks for any).

        The backlog and the file's mode of one that was passed are the affair of whoever bound it.
        """
        if other.passed:
            port = self.port or other.port
            return replace(self, passed=True, port=port, backlog=other.backlog, umask=other.umask) == other
        return self == other or (self.port == port and replace(self, port=other.port) == other)


def _default_host(family: str, interface: str | None) -> str:
    """Loopback, or every address of an interface where one is named: as Papa 1.0.6 has it."""
    if family == "inet6":
        return "::" if interface else "::1"
    return "0.0.0.0" if interface else "127.0.0.1"  # noqa: S104 (one named interface only)


@functools.lru_cache(maxsize=8)
def _shared(env: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """One environment for all processes that have the same: it is the largest part of what is kept of a process."""
    return dict(env)


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to be started. ``env`` None means a login-like minimum; ``bufsize`` is in bytes, 0 keeps no output.

    ``token`` is the request's.

    The limits of its scope, None where there is none: ``memory_max`` in bytes, ``cpu_quota`` in per cent of one
    processor, ``tasks_max`` processes and threads.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] | None = None
    working_dir: str | None = None
    uid: str | int | None = None
    gid: str | int | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)
    umask: int | None = None
    stdout: str = "pipe"
    stderr: str = "pipe"
    bufsize: int = limits.DEFAULT_BUFSIZE
    overflow: str = "drop"
    sockets: tuple[str, ...] = ()
    memory_max: int | None = None
    cpu_quota: int | None = None
    tasks_max: int | None = None
    journal: bool = False
    token: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_name("process", self.name)
        _check_token(self.token)
        self._check_command()
        self._check_env()
        if self.working_dir is not None:
            _check_text("working_dir", self.working_dir)
            if not os.path.isabs(self.working_dir):
                raise InvalidArgs(f"option 'working_dir': {self.working_dir!r} is not an absolute path")
        for option in ("uid", "gid"):
            value = getattr(self, option)
            if isinstance(value, int):
                _check_range(option, value, 0, 2**32 - 2)  # (uid_t) -1 means none
        for limit, value in self.rlimits.items():
            if limit not in rlimits.BY_NAME:
                raise InvalidArgs(f"option 'rlimits': {limit!r} is none of {', '.join(sorted(rlimits.BY_NAME))}")
            _check_range(f"rlimits {limit}", value, 0, rlimits.INFINITY)
        _check_umask(self.umask)
        _check_choice("stdout", self.stdout, ("pipe", "null"))
        _check_choice("stderr", self.stderr, ("pipe", "null", "stdout"))
        _check_range("bufsize", self.bufsize, 0, schema.MAX_BUFSIZE)
        _check_choice("overflow", self.overflow, ("drop", "block"))
        for option, value in self.resources.items():
            _check_range(option, value, 1, _MOST[option])
        if self.journal and not self.bufsize:
            raise InvalidArgs("option 'journal': goes with a bufsize, from which the journal is served, not with 0")
        if self.env is not None:
            object.__setattr__(self, "env", _shared(tuple(self.env.items())))

    @property
    def resources(self) -> dict[str, int]:
        """Those limits of its scope that were asked for, by option."""
        return {option: value for option in _MOST if (value := getattr(self, option)) is not None}

    def _check_command(self) -> None:
        if not self.command or not self.command[0]:
            raise InvalidArgs("command: there is no program in it")
        for arg in self.command:
            if "\0" in arg:
                raise InvalidArgs("command: a NUL byte is not possible there")
        env = self.env or {}
        size = len(os.fsencode("\0".join((*self.command, *env, *env.values(), ""))))
        if size > limits.MAX_COMMAND_BYTES:
            raise InvalidArgs(
                f"command: arguments and environment have {size} bytes, {limits.MAX_COMMAND_BYTES} are possible"
            )

    def _check_env(self) -> None:
        for key, value in (self.env or {}).items():
            if not key or "=" in key:
                raise InvalidArgs(f"option 'env': {key!r} is no name of a variable")
            _check_text("env", key + value)


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """A subscription to output. ``window``: bytes that may be sent ahead of an acknowledgement."""

    mode: str = "consume"
    window: int = limits.DEFAULT_WINDOW
    follow: bool = False

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, ("consume", "observe"))
        _check_range("window", self.window, 1, schema.MAX_WINDOW)
        if self.follow and self.mode != "observe":
            raise InvalidArgs("option 'follow': goes with mode observe")


@dataclass(frozen=True, slots=True)
class SocketInfo:
    """A hosted socket as it is. ``fileno`` is papad's own descriptor; None is what does not apply.

    ``unit`` is the socket unit that passed it, empty where that is not known; None: papad bound it, with ``backlog``.
    """

    name: str
    family: str
    type: str
    backlog: int | None
    fileno: int
    host: str | None = None
    port: int | None = None
    path: str | None = None
    umask: int | None = None
    interface: str | None = None
    reuseport: bool = False
    unit: str | None = None

    def short(self) -> "SocketInfo":
        """Return what a listing of many says of it."""
        return self


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A hosted process as it is: ``started`` in µs of CLOCK_REALTIME, sizes in bytes.

    ``exit_code`` is None while it runs or if it is not known, negative if a signal ended it; ``unit`` is its systemd
    scope, None if it has none. ``acknowledged``: the last sequence number that every consumer has acknowledged; a watch
    begins after it. ``as_user`` and ``as_group`` say whether a uid or gid was asked for.
    """

    name: str
    pid: int
    running: bool
    started: int
    args: tuple[str, ...]
    uid: int
    gid: int
    working_dir: str
    exit_code: int | None
    bufsize: int
    buffered: int
    dropped: int
    written: int
    last_seq: int
    unit: str | None
    journal: bool = False
    as_user: bool = False
    as_group: bool = False
    memory_max: int | None = None
    cpu_quota: int | None = None
    tasks_max: int | None = None
    acknowledged: int = 0

    @property
    def state(self) -> str:
        """Return 'running', or how it ended: 'exited', 'killed' or 'unknown'."""
        if self.running:
            return "running"
        if self.exit_code is None:
            return "unknown"
        return "killed" if self.exit_code < 0 else "exited"

    @property
    def exit_known(self) -> bool:
        """Return whether it has ended, and somebody has seen how."""
        return self.exit_code is not None

    def short(self) -> "ProcessInfo":
        """Return what a listing of many says of it: as many arguments as fit, and '…' for the others."""
        room = limits.MAX_LISTED_ARGS
        for number, arg in enumerate(self.args):
            room -= len(os.fsencode(arg))
            if room < 0:
                return replace(self, args=(*self.args[:number], "…"))
        return self
