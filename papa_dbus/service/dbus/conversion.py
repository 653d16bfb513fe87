"""Between D-Bus's types and the domain's: options in, results out. Converts, and checks types at the edge."""

from collections.abc import Callable, Mapping
from typing import Any

from papa_dbus.bus import Variant
from papa_dbus.errors import InvalidArgs
from papa_dbus.schema import PROCESS_KEYS, SOCKET_KEYS, Key, Option
from papa_dbus.service.dbus import objects
from papa_dbus.service.items.options import find
from papa_dbus.service.items.results import ProcessInfo, SocketInfo

_IDS = ("s", "u")  # uid and gid: a name or a number


def options(table: Mapping[str, Option], given: Mapping[str, Variant]) -> dict[str, Any]:
    """The options' values. Raises InvalidArgs that names what is unknown or has the wrong type."""
    return {name: _value(find(table, name), variant) for name, variant in given.items()}


def _value(option: Option, variant: Variant) -> Any:
    if option.signature == "v":
        if variant.signature == "v":
            variant = variant.value
        if variant.signature not in _IDS:
            raise InvalidArgs(f"option '{option.name}': it has type {variant.signature}, not s or u")
    elif variant.signature != option.signature:
        raise InvalidArgs(f"option '{option.name}': it has type {variant.signature}, not {option.signature}")
    return tuple(variant.value) if isinstance(variant.value, list) else variant.value


def replace_invalid_utf8(value: str) -> str:
    """Text that D-Bus can carry: bytes that are no UTF-8 become U+FFFD."""
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


#: To what D-Bus has, by its types; None, which no property can be, to what is empty.
_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "s": lambda value: replace_invalid_utf8(value or ""),
    "as": lambda value: [replace_invalid_utf8(item) for item in value],
    "b": bool,
    **dict.fromkeys("uqti", lambda value: value or 0),
}


def _shown(keys: Mapping[str, Key]) -> list[tuple[str, str, Callable[[Any], Any]]]:
    return [(key.property, name, _PLAIN[key.signature]) for name, key in keys.items() if key.property]


_SOCKET_PROPERTIES, _PROCESS_PROPERTIES = _shown(SOCKET_KEYS), _shown(PROCESS_KEYS)


def _result(kind: str, info: SocketInfo | ProcessInfo, keys: Mapping[str, Key]) -> dict[str, Variant]:
    result = {
        name: Variant(key.signature, _PLAIN[key.signature](value))
        for name, key in keys.items()
        if (value := getattr(info, name)) != key.absent
    }
    result["object_path"] = Variant("o", objects.child_path(kind, info.name))
    return result


def socket_result(info: SocketInfo) -> dict[str, Variant]:
    """Return a socket as MakeSocket and ListSockets give it."""
    return _result("socket", info, SOCKET_KEYS)


def process_result(info: ProcessInfo) -> dict[str, Variant]:
    """Return a process as MakeProcess and ListProcesses give it."""
    return _result("process", info, PROCESS_KEYS)


def socket_properties(info: SocketInfo) -> dict[str, Any]:
    """Return the properties of a socket's object."""
    properties = {name: plain(getattr(info, key)) for name, key, plain in _SOCKET_PROPERTIES}
    return properties | {"Passed": info.unit is not None}


def process_properties(info: ProcessInfo) -> dict[str, Any]:
    """Return the properties of a process's object."""
    return {name: plain(getattr(info, key)) for name, key, plain in _PROCESS_PROPERTIES}
