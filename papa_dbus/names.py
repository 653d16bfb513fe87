"""The names both sides agree on: the bus name and path, the port, item names and patterns.

Owns no state and imports nothing of the project's.
"""

from collections.abc import Iterable
from typing import Final

BUS_NAME = "org.papa.Kernel"
OBJECT_PATH = "/org/papa/Kernel"
DEFAULT_PORT = 20202

#: The contract's version: it counts the releases that have added something. One without ``ApiVersion`` is older than 1.
API_VERSION: Final = 1
#: What has been added since, by the names that clients ask for (docs/reference/compatibility.md).
FEATURES: Final = (
    "make-processes",
    "object-paths",
    "object-methods",
    "object-properties",
    "log-control",
    "open-output",
)

#: What Papa 1.0.6's clients get for an exit code that nobody saw. They want a number, and this one can be no exit
#: status (0 to 255) and no signal (below 0): it counts as a failure, and cannot be mistaken for one that happened.
UNKNOWN_EXIT = 256

#: Bytes of an item's name. A scope's name carries it escaped, at up to four bytes each, and ends at 255 (unit names,
#: systemd.unit(5)), so a longer one would not be readable there.
MAX_NAME_BYTES = 200

# What would be ambiguous in a pattern ('*'), in the line protocol (':' and white space end a field) or in the
# $(socket.NAME.port) of a command (the parentheses).
_FORBIDDEN = frozenset(":*()")


def name_error(name: str) -> str | None:
    """Say what is wrong with an item's name, or None where it is a good one."""
    if not name:
        return "a name may not be empty"
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        return f"a name may have {MAX_NAME_BYTES} bytes at most"
    for char in name:
        if char.isspace():
            return "a name may not contain white space"
        if not char.isprintable():
            return f"a name may not contain the unprintable character U+{ord(char):04X}"
        if char in _FORBIDDEN:
            return f"a name may not contain '{char}'"
    return None


def is_prefix(pattern: str) -> bool:
    """Return whether the pattern stands for all names that begin like it, not for one name."""
    return pattern.endswith("*")


def match(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern (an exact name, or a prefix and one final '*') stands for."""
    if is_prefix(pattern):
        return [name for name in names if name.startswith(pattern[:-1])]
    return [name for name in names if name == pattern]
