"""What a connection of the line protocol asks of the front end through which it came, and why it may have to end."""

import socket
from typing import TYPE_CHECKING, Protocol

from papa_dbus.errors import Limit
from papa_dbus.service.caller import Caller
from papa_dbus.service.steps import Chores, Pace, Steps

if TYPE_CHECKING:
    from papa_dbus.service.line.session import Session


class TooMuch(Limit):
    """The connections of one user hold too much memory."""


class StuckError(Exception):
    """The client made no room for a reply in time. There is no telling it: that is what it does not read."""


class Server(Protocol):
    """What a connection asks of the front end through which it came."""

    #: What takes long is done in these: that of one connection after the other, a step at each turn of the loop.
    steps: Steps
    #: So is what is not to wait for those.
    chores: Chores
    #: And whatever else is done goes at this pace.
    pace: Pace

    async def admit(self, session: "Session", sock: socket.socket) -> Caller:
        """Let it in, and say whose it is. Raises AccessDenied or Limit."""

    async def check(self, session: "Session") -> None:
        """Raise AccessDenied where its user may not go on."""

    def batch_room(self, session: "Session") -> int:
        """Return the bytes that a watch's next batch may have."""

    def charge(self, session: "Session", more: int, *, always: bool = False) -> None:
        """Note how much memory it takes. Raises TooMuch, and notes nothing, if its user has too much.

        What batch_room() gave is charged ``always``.
        """

    def leave(self, session: "Session") -> None:
        """Forget one that has ended."""
