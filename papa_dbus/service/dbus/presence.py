"""Who is on the bus: a client that leaves it is told of."""

from collections.abc import Callable

from papa_dbus.bus import Bus, Message
from papa_dbus.bus.bus import DRIVER
from papa_dbus.errors import PapaError


class Presence:
    """The clients of one bus. ``on_left`` gets the name of each that leaves."""

    def __init__(self, bus: Bus, on_left: Callable[[str], None]) -> None:
        self.bus_id = ""  # another bus gives the same names to others
        self._bus = bus
        self._on_left = on_left
        bus.on_signal.append(self._hear)
        bus.on_connected.append(self._listen)

    async def _listen(self) -> None:
        # One rule for the departures of all clients: a bus bounds how many there may be.
        await self._bus.add_match(sender=DRIVER[0], interface=DRIVER[2], member="NameOwnerChanged", arg2="")
        self.bus_id = (await self._bus.call(*DRIVER, "GetId")).body[0]

    def _hear(self, signal: Message) -> None:
        if signal.sender == DRIVER[0] and signal.member == "NameOwnerChanged" and not signal.body[2]:
            self._on_left(signal.body[0])

    async def check(self, client: str) -> None:
        """Look whether a client is there: it may have left before its call was served."""
        try:
            reply = await self._bus.call(*DRIVER, "NameHasOwner", "s", [client])
        except PapaError:
            return  # the bus has gone, and all clients with it
        if not reply.body[0]:
            self._on_left(client)
