"""The message bus as one of those that are called on it: its name, and the rules for the signals that it sends on.

See the D-Bus Specification, "Message Bus Messages" and "Match Rules".
"""

from typing import Final

#: Where the bus itself is called: its name, path and interface.
DRIVER: Final = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


def match_rule(**fields: str) -> str:
    """Return the rule for signals with these fields: ``sender``, ``interface``, ``member``, ``arg0`` and so on."""
    return ",".join(("type='signal'", *(f"{name}='{value}'" for name, value in fields.items())))
