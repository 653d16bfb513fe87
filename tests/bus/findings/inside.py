"""A papad within the test's own process, on a real bus: a test can lower its limits, and hold up what it does."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from papa_dbus.bus import Bus
from papa_dbus.service.access.policy import Access
from papa_dbus.service.dbus.server import DBusServer
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import end


@dataclass
class Inside:
    """Its parts."""

    kernel: Kernel
    bus: Bus
    server: DBusServer
    access: Access


@contextlib.asynccontextmanager
async def papad_inside(address: str, access: Access | None = None) -> AsyncIterator[Inside]:
    """Run one as long as it is needed."""
    access = access or Access()
    kernel, bus = Kernel(), Bus(address)
    server = DBusServer(kernel, bus, access)
    await bus.start()
    try:
        yield Inside(kernel, bus, server, access)
    finally:
        await server.close()
        end(kernel)
        await kernel.settle()
