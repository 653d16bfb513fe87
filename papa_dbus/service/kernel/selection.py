"""Checks of the patterns with which a request selects items, and of what they have found."""

from collections.abc import Mapping, Sequence

from papa_dbus import names
from papa_dbus.errors import InvalidArgs, NotFound
from papa_dbus.service.kernel.changes import Kind


def check_some(patterns: Sequence[str], kind: Kind) -> Sequence[str]:
    """Raise InvalidArgs if a request to remove has no pattern; else return them."""
    if not patterns:
        raise InvalidArgs(f"name at least one {kind} to remove")
    return patterns


_PLURALS: Mapping[Kind, str] = {"socket": "sockets", "process": "processes", "value": "values"}


def not_there(kind: Kind, name: str) -> NotFound:
    """Return what is said of an item that is wanted and not there."""
    return NotFound(f"{kind} '{name}' is not there; list {_PLURALS[kind]} to see which are")


def all_found(found: list[str], missing: list[str], kind: Kind) -> list[str]:
    """Raise NotFound for the first name that is missing; else return those that were found."""
    if missing:
        raise not_there(kind, missing[0])
    return found


def check_lengths(patterns: Sequence[str]) -> None:
    """Raise InvalidArgs for a pattern that can stand for no name: it would be kept all the same."""
    for pattern in patterns:
        if len(pattern.encode()) > names.MAX_NAME_BYTES + 1:
            raise InvalidArgs(f"{pattern[:40]!r}… is longer than a name may be ({names.MAX_NAME_BYTES} bytes)")
