"""How one circusd's names in Papa begin, and that no other circusd has them.

The first circusd on a machine has ``circus.``, as upstream. Which circusd a prefix belongs to is a value in Papa: its
endpoint, which no two can have at a time. Another circusd is refused, and needs ``papa_prefix``.
"""

import json
import os
import re
from typing import Any
from urllib.parse import quote

import psutil

from papa_dbus import names
from papa_dbus.client.compat import papa

_DEFAULT = "circus."
_VALUE = "circusd"
_VALID = re.compile(r"[A-Za-z0-9_-]+")


class _Mine:
    """What this circusd is."""

    prefix = _DEFAULT
    endpoint = file = ""
    claimed = False


def describe(endpoint: str, file: str, name: str | None) -> None:
    """Say which circusd this is. Raises ValueError for a ``papa_prefix`` that is not valid."""
    if name is not None and not _VALID.fullmatch(name):
        raise ValueError(f"papa_prefix: {name!r} is not valid; it may have letters, digits, '-' and '_'")
    _Mine.prefix = f"{name}." if name is not None else _DEFAULT
    _Mine.endpoint, _Mine.file = endpoint, os.path.abspath(file)


def prefix() -> str:
    """Return what each name in Papa begins with."""
    return _Mine.prefix


def of_watcher(name: str) -> str:
    """Return what the names of a watcher's processes begin with; what a name may not have is written as in a URL."""
    return prefix() + re.sub(r"[\s:*()%]", lambda match: quote(match[0]), name.lower()) + "."


def fault(name: str) -> str | None:
    """Say why a watcher's processes cannot be named in Papa, None if they can."""
    return names.name_error(f"{of_watcher(name)}numprocesses")  # none is longer, with 99,999 processes


def claim(kernel: papa.Papa) -> None:
    """Take the prefix for this circusd. Raises papa.Error if another one has it."""
    if _Mine.claimed:
        return
    other = _owner(kernel)
    if other and other["endpoint"] != _Mine.endpoint and _in_use(kernel, other):
        raise papa.Error(
            f"papa_prefix: names in papa that begin with '{_Mine.prefix}' belong to the circusd of {other['file']}"
            f" (endpoint {other['endpoint']}); set papa_prefix in [circus] of {_Mine.file} to a name of its own, or, if"
            f" the other circusd has gone for good, run 'papactl unset {_value()}'"
        )
    me = psutil.Process()
    said = {"endpoint": _Mine.endpoint, "file": _Mine.file, "pid": me.pid, "since": me.create_time()}
    kernel.set(_value(), json.dumps(said))
    _Mine.claimed = True


def give_up(kernel: papa.Papa) -> None:
    """Let another circusd have the prefix: nothing of this one's is left in Papa."""
    if _Mine.claimed:
        kernel.set(_value())
        _Mine.claimed = False


def claimed() -> bool:
    """Return whether this circusd has anything to do with Papa."""
    return _Mine.claimed


def is_mine(kernel: papa.Papa) -> bool:
    """Return whether this circusd has, or had when it ran last, this prefix."""
    other = _owner(kernel)
    return _Mine.claimed or other.get("endpoint") == _Mine.endpoint


def former(kernel: papa.Papa) -> list[str]:
    """Return the prefixes that this circusd had before its file said another one. Raises papa.Error."""
    found = []
    for name, said in kernel.list_values().items():
        other = name.removesuffix(_VALUE)
        if name == other + _VALUE and other != _Mine.prefix:
            try:
                owner = json.loads(said)
                mine = owner["endpoint"] == _Mine.endpoint or (owner["file"] == _Mine.file and not _runs(owner))
            except (ValueError, TypeError, KeyError):
                continue  # somebody else's value
            if mine:
                found.append(other)
    return found


def _owner(kernel: papa.Papa) -> dict[str, Any]:
    """Return what the circusd that has the prefix has said of itself; empty if there is none. Raises papa.Error."""
    said = kernel.get(_value())
    try:
        owner = json.loads(said or "{}")
        if said and not (isinstance(owner, dict) and owner.keys() >= {"endpoint", "file", "pid", "since"}):
            raise ValueError("a key is missing")
    except ValueError:
        raise papa.Error(f"value '{_value()}' is not valid; run 'papactl unset {_value()}'") from None
    return owner  # type: ignore[no-any-return]


def _value() -> str:
    return f"{_Mine.prefix}{_VALUE}"


def _in_use(kernel: papa.Papa, other: dict[str, Any]) -> bool:
    pattern = f"{_Mine.prefix}*"
    return _runs(other) or bool(kernel.list_processes(pattern) or kernel.list_sockets(pattern))


def _runs(other: dict[str, Any]) -> bool:
    try:
        return bool(abs(psutil.Process(other["pid"]).create_time() - other["since"]) < 1)
    except psutil.Error:
        return False
