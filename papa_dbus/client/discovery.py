"""Which bus has papad: the one that is asked for, or the first on which papad is, or could be."""

import os

from papa_dbus.bus import Bus, address_of
from papa_dbus.bus.bus import DRIVER
from papa_dbus.bus.unixexec import ssh_address
from papa_dbus.errors import PapaError, Unreachable
from papa_dbus.names import BUS_NAME


async def find_bus(address: str | None = None, host: str | None = None) -> Bus:
    """Connect to papad's bus: ``address``, else PAPA_BUS_ADDRESS; else the system bus where org.papa.Kernel is
    owned or can be started; else the session bus.

    An address may be ``system`` or ``session``. On another machine, ``host``, it is ``address`` or the system bus.
    Raises Unreachable, saying what was tried.
    """
    if host is not None:
        bus = Bus(ssh_address(host, address or "system"))
        await bus.start()
        return bus
    address = address or os.environ.get("PAPA_BUS_ADDRESS")
    if address:
        bus = Bus(address_of(address))
        await bus.start()
        return bus
    tried = []
    for name in ("system", "session"):
        try:
            bus = Bus(address_of(name))
            await bus.start()
        except Unreachable as error:
            tried.append(str(error))
            continue
        offered = False
        try:
            if offered := await offers_kernel(bus):
                return bus
            tried.append(f"{BUS_NAME} is neither on the {name} bus nor can it be started there")
        except PapaError as error:
            tried.append(str(error))
        finally:
            if not offered:
                await bus.close()
    raise Unreachable("; ".join(tried))


async def offers_kernel(bus: Bus) -> bool:
    """Return whether org.papa.Kernel is owned on the bus, or can be started there."""
    if (await bus.call(*DRIVER, "NameHasOwner", "s", [BUS_NAME])).body[0]:
        return True
    return BUS_NAME in (await bus.call(*DRIVER, "ListActivatableNames")).body[0]
