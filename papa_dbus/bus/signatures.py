"""D-Bus types, as both directions need them.

dbus-next keeps every signature that it has ever seen: a client that makes them up fills the machine. Here only the
last of them are kept.
"""

import functools
from typing import Final

from dbus_next.signature import SignatureTree

LITTLE_ENDIAN: Final = "<"
#: Types of numbers, and how struct calls them. A descriptor is its number in the message's array of them.
NUMBERS: Final = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
#: D-Bus Specification, "Summary of D-Bus marshalling".
ALIGNMENT: Final = {
    **dict.fromkeys("ygv", 1),
    **dict.fromkeys("nq", 2),
    **dict.fromkeys("iubsoah", 4),
    **dict.fromkeys("xtd({", 8),
}
#: Signatures that are kept. papad's own are some thirty; any client may make up its own.
KEPT: Final = 64


@functools.lru_cache(KEPT)
def tree(signature: str) -> SignatureTree:
    """Return a signature as dbus-next has it. Raises InvalidSignatureError."""
    return SignatureTree(signature)
