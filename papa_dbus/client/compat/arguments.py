"""What a caller may give the drop-in for an argument, as Papa 1.0.6 took it, and what of it goes to papad."""

from collections.abc import Iterable, Mapping
from socket import AddressFamily, SocketKind
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

from papa_dbus.errors import PapaError as Error
from papa_dbus.forms import NO_LIMIT, SIZE

_FAMILIES = {family: family.name[3:].lower() for family in AddressFamily}
_TYPES = {kind: kind.name[5:].lower() for kind in SocketKind}


def is_bus(where: str) -> bool:
    """Return whether a path means a message bus: system, session, or a D-Bus address (a transport and a colon)."""
    return where in ("system", "session") or (":" in where and where[0] != "/")


def texts(args: Iterable[object]) -> list[str]:
    """Return names and patterns as text."""
    return [str(arg) for arg in args]


def command(executable: str | None, args: object) -> list[str]:
    """Return the program, if it is given by itself, and its arguments: one, several, or none."""
    words = [str(executable)] if executable else []
    if isinstance(args, Iterable) and not isinstance(args, str):
        return [*words, *texts(args)]
    return [*words, str(args)] if args else words


def socket_options(
    host: str | None,
    port: int | str | None,
    family: int | None,
    socket_type: int | None,
    backlog: int | str | None,
    path: str | None,
    umask: int | str | None,
    interface: str | None,
    reuseport: bool | None,
) -> dict[str, Any]:
    """Return the options of a socket that were given; with a path only those that it has a use for."""
    options: dict[str, Any] = {
        "family": _known(_FAMILIES, family, "family"),
        "type": _known(_TYPES, socket_type, "type"),
        "backlog": _whole("backlog", backlog),
    }
    if path:
        if path[0] != "/" or path[-1] in "/\\":
            raise Error("Socket path must be absolute to a file")
        return _given(options | {"path": path, "umask": _whole("umask", umask, 8)})
    options |= {"host": host, "port": _whole("port", port), "interface": interface}
    return _given(options | {"reuseport": True if reuseport else None})


def process_options(
    env: Mapping[str, str] | None,
    working_dir: str | None,
    uid: str | int | None,
    gid: str | int | None,
    rlimits: Mapping[str, int] | None,
    stdout: int | None,
    stderr: int | None,
    bufsize: int | str | None,
) -> dict[str, Any]:
    """Return the options of a process that were given."""
    options: dict[str, Any] = {
        "working_dir": None if working_dir is None else str(working_dir),
        "uid": _number_or_name(uid),
        "gid": _number_or_name(gid),
        "bufsize": _size(bufsize),
        "env": {str(key): str(value) for key, value in env.items()} if env else None,
        "rlimits": {key.lower(): _limit(value) for key, value in rlimits.items()} if rlimits else None,
    }
    if bufsize != 0:
        options |= {"stdout": _stdout(stdout), "stderr": _stderr(stderr)}
    return _given(options)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _known(table: Mapping[Any, str], value: int | None, what: str) -> str | None:
    if value is None:
        return None
    if value not in table:
        raise Error(f"Invalid socket {what}")
    return table[value]


def _number_or_name(who: str | int | None) -> str | int | None:
    return int(who) if isinstance(who, str) and who.isdecimal() else who


def _whole(what: str, value: int | str | None, base: int = 10) -> int | None:
    try:
        return int(value, base) if isinstance(value, str) else value
    except ValueError:
        raise Error(f"{what}: {value!r} is no whole number") from None


def _limit(value: object) -> int:
    number = _whole("rlimits", str(value)) or 0
    return number if number >= 0 else NO_LIMIT  # resource.RLIM_INFINITY is -1 (getrlimit(2))


def _size(size: int | str | None) -> Any:
    if not isinstance(size, str):
        return size
    try:
        return SIZE.read(size)
    except ValueError as error:
        raise Error(f"bufsize: {size!r} {error}") from None


def _stdout(stdout: int | None) -> str | None:
    if stdout not in (None, PIPE, DEVNULL):
        raise Error("stdout must be DEVNULL or PIPE")
    return "null" if stdout == DEVNULL else None


def _stderr(stderr: int | None) -> str | None:
    if stderr not in (None, PIPE, DEVNULL, STDOUT):
        raise Error("stderr must be DEVNULL, PIPE or STDOUT")
    words: Mapping[int | None, str] = {DEVNULL: "null", STDOUT: "stdout"}
    return words.get(stderr)
