"""polkit's word on who may do what, where polkit is there: for callers whom papad's own rules do not admit.

Asked on the system bus alone, by the caller's bus name, which polkit resolves itself. No polkit means no.
"""

import logging
from typing import Any, Final

from papa_dbus.bus import Bus, Variant
from papa_dbus.bus.bus import DRIVER
from papa_dbus.errors import PapaError
from papa_dbus.service.access.policy import Right

log = logging.getLogger(__name__)

_AUTHORITY = (
    "org.freedesktop.PolicyKit1",
    "/org/freedesktop/PolicyKit1/Authority",
    "org.freedesktop.PolicyKit1.Authority",
)
_ALLOW_USER_INTERACTION: Final = 1
#: Seconds for polkit alone, and with a person who types a password.
TIMEOUT: Final = 5.0
PERSON_TIMEOUT: Final = 120.0


class Polkit:
    """Asks polkit."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def __call__(self, bus_name: str, right: Right, interactive: bool) -> bool:
        """Return whether polkit authorizes the caller."""
        subject = ["system-bus-name", {"name": Variant("s", bus_name)}]
        body: list[Any] = [subject, right.value, {}, _ALLOW_USER_INTERACTION if interactive else 0, ""]
        timeout = PERSON_TIMEOUT if interactive else TIMEOUT
        try:
            reply = await self._bus.call(*_AUTHORITY, "CheckAuthorization", "(sa{sv})sa{ss}us", body, timeout)
            owner = await self._bus.call(*DRIVER, "GetNameOwner", "s", [_AUTHORITY[0]])
        except PapaError as error:
            log.debug("polkit does not say whether %s may %s: %s", bus_name, right.value, error)
            return False
        # A policy of the bus that is wrong may let others answer in its place.
        return reply.sender == owner.body[0] and bool(reply.body[0][0])
