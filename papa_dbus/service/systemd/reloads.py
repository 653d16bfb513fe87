"""Hear that systemd has read its units anew, as `systemctl daemon-reload`, `mask` and `unmask` have it do."""

import contextlib
from collections.abc import Awaitable, Callable

from papa_dbus.bus import Bus, Message
from papa_dbus.bus.name_owner import NameOwner
from papa_dbus.errors import PapaError
from papa_dbus.service.background import BackgroundTasks
from papa_dbus.service.systemd.manager import MANAGER, subscribe


class Reloads:
    """``then`` is run after each; of those that come while it runs, once more after the last."""

    def __init__(self, bus: Bus, then: Callable[[], Awaitable[None]]) -> None:
        self._bus = bus
        self._then = then
        self._manager = ""  # systemd's unique name
        self._name = NameOwner(bus, MANAGER[0], self._set_manager)
        self._due = self._runs = False
        self._tasks = BackgroundTasks()
        bus.on_connected.append(self._subscribe)
        bus.on_signal.append(self._hear)

    async def _subscribe(self) -> None:
        await self._bus.add_match(sender=MANAGER[0], interface=MANAGER[2], member="Reloading")
        self._set_manager(None)
        with contextlib.suppress(PapaError):  # no systemd on this bus
            await self._name.find()
            await subscribe(self._bus)

    def _set_manager(self, owner: str | None) -> None:
        self._manager = owner or ""

    def _hear(self, signal: Message) -> None:
        # Anybody whom the bus lets can send papad a signal of that name.
        if signal.member == "Reloading" and signal.sender == self._manager and not signal.body[0]:  # it is over
            self._due = True
            if not self._runs:
                self._runs = True
                self._tasks.start(self._run())

    async def _run(self) -> None:
        try:
            while self._due:
                self._due = False
                await self._then()
        finally:
            self._runs = False

    def close(self) -> None:
        """Hear nothing more."""
        self._manager = ""
        self._tasks.cancel()
