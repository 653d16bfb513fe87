"""What may be asked of the kernel: a socket, a process, a watch, each checked once, when it is made.

The options are papa_dbus.schema's; here are papad's defaults, and what goes with what. Plain data, no I/O. Every fault
is InvalidArgs in the words of the one who asked: the option's name and what is wrong.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from papa_dbus import schema
from papa_dbus.errors import InvalidArgs
from papa_dbus.names import name_error
from papa_dbus.service import limits, rlimits

_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{limits.MAX_TOKEN}}}")
_RESOURCES = [option.name for option in schema.PROCESS_OPTIONS.values() if option.of_scope]
#: What a result says as it was asked for.
_SOCKET_SHOWN = [name for name, key in schema.SOCKET_KEYS.items() if key.in_line and name in schema.SOCKET_OPTIONS]
_PROCESS_SHOWN = [name for name, key in schema.PROCESS_KEYS.items() if key.in_line and name in schema.PROCESS_OPTIONS]
_SOCKET_COMPARED = [name for name in schema.SOCKET_OPTIONS if name != "token"]
_MAX_UNIX_PATH = 107  # sun_path has 108 bytes with its end (unix(7))
_MAX_INTERFACE = 15  # IFNAMSIZ has 16 bytes with its end (netdevice(7))


def check_name(kind: str, name: str) -> None:
    """Raise InvalidArgs where a new item may not be called that."""
    if problem := name_error(name):
        raise InvalidArgs(f"{kind} name {name[:60]!r}: {problem}")


def _check(spec: "SocketSpec | ProcessSpec | WatchSpec", table: Mapping[str, schema.Option]) -> None:
    for name, option in table.items():
        if problem := option.problem(getattr(spec, name)):
            raise InvalidArgs(f"option '{name}': {problem}")


def _check_token(token: str | None) -> None:
    if token is not None and not _TOKEN.fullmatch(token):
        raise InvalidArgs(
            f"option 'token': {token[:80]!r} is not 1 to {limits.MAX_TOKEN} letters, digits, '-' or '_' of ASCII"
        )


def differences(one: "ProcessSpec", other: "ProcessSpec") -> str:
    """Name what differs between two, the command or options; empty if nothing does."""
    compared = [each.name for each in fields(one) if each.compare]
    found = [name for name in compared if getattr(one, name) != getattr(other, name)]
    return ", ".join(name if name == "command" else f"option '{name}'" for name in found)


@dataclass(frozen=True, slots=True)
class SocketSpec(schema.SocketRequest):
    """A socket to be hosted. ``umask`` is of its file; ``port`` 0 lets Linux choose.

    ``passed``: somebody else has bound it and passed it to papad. No client asks for that. ``token`` is the request's.
    """

    family: schema.Family = ""  # type: ignore[assignment]  # it follows from the path
    type: schema.SocketType = "stream"
    backlog: int = limits.DEFAULT_BACKLOG
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
        _check(self, schema.SOCKET_OPTIONS)
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
        if self.host is None:
            object.__setattr__(self, "host", _default_host(self.family, self.interface))
        if self.interface is not None and not 1 <= len(os.fsencode(self.interface)) <= _MAX_INTERFACE:
            raise InvalidArgs(f"option 'interface': a name of 1 to {_MAX_INTERFACE} bytes is wanted")
        if self.reuseport and self.type not in ("stream", "dgram"):
            raise InvalidArgs(f"option 'reuseport': goes with type stream or dgram, not with {self.type}")

    @property
    def shown(self) -> dict[str, Any]:
        """Return what a result says of the options as they were asked for, by key."""
        return {name: getattr(self, name) for name in _SOCKET_SHOWN}

    def differences(self, other: "SocketSpec", port: int | None) -> str:
        """Return what ``other``, which got ``port``, has otherwise than is asked here; empty if nothing.

        The backlog and the file's mode of one that was passed are the affair of whoever bound it.
        """
        mine = {name: getattr(self, name) for name in _SOCKET_COMPARED}
        its = {name: getattr(other, name) for name in _SOCKET_COMPARED} | {"port": port}
        if other.passed:
            mine |= {name: its[name] for name in ("backlog", "umask")}
        if self.port == 0 and (other.passed or other.port == 0):  # it asks for any
            mine["port"] = port
        found = {name: value for name, value in its.items() if mine[name] != value}
        if "family" in found:  # what belongs to the other family says nothing more
            found = {name: value for name, value in found.items() if value not in (None, False)}
        return ", ".join(_has(name, value) for name, value in found.items())


def _has(name: str, value: object) -> str:
    if value is None or value is False:
        return f"no {name}"
    return name if value is True else f"{name} {schema.SOCKET_OPTIONS[name].form.write(value)}"


def _default_host(family: str, interface: str | None) -> str:
    """Return loopback, or every address of an interface if one is named: as Papa 1.0.6 has it."""
    if family == "inet6":
        return "::" if interface else "::1"
    return "0.0.0.0" if interface else "127.0.0.1"  # noqa: S104 (one named interface only)


@functools.lru_cache(maxsize=8)
def _shared(env: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Return one environment for all that have the same: it is the largest part of what is kept of a process."""
    return dict(env)


@dataclass(frozen=True, slots=True)
class ProcessSpec(schema.ProcessRequest):
    """A process to be started. ``env`` None means a login-like minimum; ``bufsize`` is in bytes, 0 keeps no output.

    ``token`` is the request's.
    """

    command: tuple[str, ...]
    rlimits: Mapping[str, int] = field(default_factory=dict)
    stdout: schema.Stdout = "pipe"
    stderr: schema.Stderr = "pipe"
    bufsize: int = limits.DEFAULT_BUFSIZE
    overflow: schema.Overflow = "drop"
    sockets: tuple[str, ...] = ()
    journal: bool = False
    token: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_name("process", self.name)
        _check_token(self.token)
        _check(self, schema.PROCESS_OPTIONS)
        self._check_command()
        self._check_env()
        if self.working_dir is not None and not os.path.isabs(self.working_dir):
            raise InvalidArgs(f"option 'working_dir': {self.working_dir!r} is not an absolute path")
        for limit, value in self.rlimits.items():
            if limit not in rlimits.BY_NAME:
                raise InvalidArgs(f"option 'rlimits {limit[:60]}': is none of {', '.join(sorted(rlimits.BY_NAME))}")
            if not 0 <= value <= rlimits.INFINITY:
                raise InvalidArgs(f"option 'rlimits {limit}': {value} is out of range (0 to {rlimits.INFINITY})")
        if self.journal and not self.bufsize:
            raise InvalidArgs("option 'journal': goes with a bufsize, from which the journal is served, not with 0")
        if self.env is not None:
            object.__setattr__(self, "env", _shared(tuple(self.env.items())))

    @property
    def resources(self) -> dict[str, int]:
        """Return those limits of its scope that were asked for, by option."""
        return {name: value for name in _RESOURCES if (value := getattr(self, name)) is not None}

    @property
    def shown(self) -> dict[str, Any]:
        """Return what a result says of the options as they were asked for, by key."""
        return {name: getattr(self, name) for name in _PROCESS_SHOWN}

    def _check_command(self) -> None:
        if not self.command or not self.command[0]:
            raise InvalidArgs("command: must not be empty; give a program and its arguments")
        for arg in self.command:
            if "\0" in arg:
                raise InvalidArgs("command: a NUL byte is not possible there")
        env = self.env or {}
        size = len(os.fsencode("\0".join((*self.command, *env, *env.values(), ""))))
        if size > limits.MAX_COMMAND_BYTES:
            raise InvalidArgs(
                f"command: arguments and environment have {size} bytes, {limits.MAX_COMMAND_BYTES} are possible;"
                " pass less, as the name of a file that has it"
            )

    def _check_env(self) -> None:
        for key, value in (self.env or {}).items():
            if not key or "=" in key:
                raise InvalidArgs(f"option 'env {key[:60]}': a variable's name may be neither empty nor contain '='")
            if "\0" in key + value:
                raise InvalidArgs(f"option 'env {key[:60]}': a NUL byte is not possible there")


@dataclass(frozen=True, slots=True)
class WatchSpec(schema.WatchRequest):
    """A subscription to output. ``window``: bytes that may be sent ahead of an acknowledgement."""

    mode: schema.Mode = "consume"
    window: int = limits.DEFAULT_WINDOW
    follow: bool = False

    def __post_init__(self) -> None:
        _check(self, schema.WATCH_OPTIONS)
        if self.follow and self.mode != "observe":
            raise InvalidArgs("option 'follow': goes with mode observe")
