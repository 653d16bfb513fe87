"""A connection to the message bus that can be trusted, for papad and its clients alike."""

from papa_dbus.bus.bus import (
    Bus,
    BusLost,
    Message,
    MessageFlag,
    MessageType,
    SignatureBodyMismatchError,
    Variant,
    address_of,
    close_descriptors,
    read_body,
)

__all__ = [
    "Bus",
    "BusLost",
    "Message",
    "MessageFlag",
    "MessageType",
    "SignatureBodyMismatchError",
    "Variant",
    "address_of",
    "close_descriptors",
    "read_body",
]
