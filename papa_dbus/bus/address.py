"""D-Bus addresses: which bus is meant, and by which transports it is reached.

The format is the D-Bus Specification's, "Server Addresses".
"""

import os
import re
from urllib.parse import unquote

from dbus_next.errors import InvalidAddressError

from papa_dbus.errors import Unreachable

_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_UNESCAPED = re.compile(r"[^-0-9A-Za-z_/.%]")  # what a value must escape


class BusLost(Unreachable):
    """The message bus is not there."""

    code = "bus-lost"


def address_of(bus: str) -> str:
    """Return the address of the bus that is called ``system``, ``session`` or by its address.

    Raises BusLost if there is no session bus.
    """
    if bus == "system":
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", _SYSTEM_BUS)
    if bus != "session":
        return bus
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"unix:path={runtime}/bus"
    raise BusLost("there is no session bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set")


def parse(address: str) -> list[tuple[str, dict[str, str]]]:
    """Return the transports that an address names, each with its options, in the order in which they are tried.

    Raises InvalidAddressError.
    """
    transports = []
    for entry in filter(None, address.split(";")):
        transport, colon, options = entry.partition(":")
        if not colon:
            raise InvalidAddressError(f"'{entry}' names no transport, such as unix:")
        transports.append((transport, dict(_option(option) for option in options.split(",") if option)))
    if not transports:
        raise InvalidAddressError("the address is empty")
    return transports


def _option(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals:
        raise InvalidAddressError(f"option '{name}' has no value")
    if _UNESCAPED.search(value):
        raise InvalidAddressError(f"option '{name}': '{value}' must be escaped")
    return name, unquote(value)
