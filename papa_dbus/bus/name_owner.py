"""Follow the owner of a name on the bus, without missing a change."""

from collections.abc import Callable

from papa_dbus.bus.bus import Bus, Message
from papa_dbus.bus.driver import DRIVER
from papa_dbus.errors import Unreachable


class NameOwner:
    """``on_told`` is told the unique name that has ``name``, None if none has, after find() and with each change."""

    def __init__(self, bus: Bus, name: str, on_told: Callable[[str | None], None]) -> None:
        self._bus = bus
        self._name = name
        self._on_told = on_told
        self._heard = False  # of a change, since find() began
        bus.on_signal.append(self._hear)

    async def find(self) -> None:
        """Ask who has the name; to be called for each connection to the bus. Raises as Bus.call() does."""
        self._heard = False
        await self._bus.add_match(sender=DRIVER[0], member="NameOwnerChanged", arg0=self._name)
        try:
            owner = (await self._bus.call(*DRIVER, "GetNameOwner", "s", [self._name])).body[0]
        except Unreachable:
            owner = None
        if not self._heard:  # a change that came close behind the answer was heard before whoever awaits that goes on
            self._on_told(owner)

    def _hear(self, signal: Message) -> None:
        if signal.sender == DRIVER[0] and signal.member == "NameOwnerChanged" and signal.body[0] == self._name:
            self._heard = True
            self._on_told(signal.body[2] or None)
