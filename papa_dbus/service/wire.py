"""Between D-Bus's types and the domain's: options in, results out. Converts, and checks types at the edge."""

from collections.abc import Mapping
from typing import Any

from papa_dbus.bus import Variant
from papa_dbus.errors import InvalidArgs
from papa_dbus.service.options import Option, find
from papa_dbus.service.specs import ProcessInfo, SocketInfo

_SOCKET_TYPES = {"backlog": "u", "port": "q", "umask": "u", "reuseport": "b", "fileno": "u"}
_PROCESS_TYPES = {
    "pid": "u",
    "running": "b",
    "started": "t",
    "args": "as",
    "uid": "u",
    "gid": "u",
    "exit_code": "i",
    "bufsize": "t",
    "buffered": "t",
    "dropped": "t",
    "written": "t",
    "last_seq": "t",
    "acknowledged": "t",
    "memory_max": "t",
    "cpu_quota": "u",
    "tasks_max": "t",
    "journal": "b",
}
_IDS = ("s", "u")  # uid and gid: a name or a number


def options(table: Mapping[str, Option], given: Mapping[str, Variant]) -> dict[str, Any]:
    """The options' values. Raises InvalidArgs that names what is unknown or has the wrong type."""
    return {name: _value(find(dict(table), name), variant) for name, variant in given.items()}


def _value(option: Option, variant: Variant) -> Any:
    if option.signature == "v":
        if variant.signature == "v":
            variant = variant.value
        if variant.signature not in _IDS:
            raise InvalidArgs(f"option '{option.name}': it has type {variant.signature}, not s or u")
    elif variant.signature != option.signature:
        raise InvalidArgs(f"option '{option.name}': it has type {variant.signature}, not {option.signature}")
    return tuple(variant.value) if isinstance(variant.value, list) else variant.value


def text(value: str) -> str:
    """Text that D-Bus can carry: bytes that are no UTF-8 become U+FFFD."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _result(info: SocketInfo | ProcessInfo, types: Mapping[str, str], left_out: tuple[str, ...]) -> dict[str, Variant]:
    result = {}
    for key in info.__dataclass_fields__:
        value = getattr(info, key)
        if value is None or key in left_out:
            continue
        if isinstance(value, tuple):
            value = [text(item) for item in value]
        elif isinstance(value, str):
            value = text(value)
        result[key] = Variant(types.get(key, "s"), value)
    return result


def socket_result(info: SocketInfo) -> dict[str, Variant]:
    """A socket as MakeSocket and ListSockets give it."""
    return _result(info, _SOCKET_TYPES, ())


def process_result(info: ProcessInfo) -> dict[str, Variant]:
    """A process as MakeProcess and ListProcesses give it."""
    how = {"state": Variant("s", info.state), "exit_known": Variant("b", info.exit_known)}
    return _result(info, _PROCESS_TYPES, ("as_user", "as_group")) | how


def socket_properties(info: SocketInfo) -> dict[str, Any]:
    """A socket's object: what does not apply is empty, as D-Bus properties have it."""
    return {
        "Name": info.name,
        "Family": info.family,
        "Type": info.type,
        "Backlog": info.backlog or 0,
        "Host": text(info.host or ""),
        "Port": info.port or 0,
        "Path": text(info.path or ""),
        "Interface": text(info.interface or ""),
        "ReusePort": info.reuseport,
        "FileNumber": info.fileno,
        "Passed": info.unit is not None,
        "Unit": info.unit or "",
    }


def process_properties(info: ProcessInfo) -> dict[str, Any]:
    """A process's object."""
    return {
        "Name": info.name,
        "PID": info.pid,
        "Args": [text(arg) for arg in info.args],
        "Started": info.started,
        "UID": info.uid,
        "GID": info.gid,
        "WorkingDirectory": text(info.working_dir),
        "Unit": info.unit or "",
        "MemoryMax": info.memory_max or 0,
        "CPUQuota": info.cpu_quota or 0,
        "TasksMax": info.tasks_max or 0,
        "Journal": info.journal,
        "Running": info.running,
        "State": info.state,
        "ExitCode": info.exit_code or 0,
        "ExitKnown": info.exit_known,
        "BufferedBytes": info.buffered,
        "DroppedBytes": info.dropped,
        "LastSequence": info.last_seq,
    }
