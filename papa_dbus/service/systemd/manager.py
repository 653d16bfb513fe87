"""What papad asks systemd, on the bus: its units, their jobs, and whether descriptors are kept."""

import asyncio
import contextlib
import os
from typing import Any

from papa_dbus.bus import Bus
from papa_dbus.errors import PapaError

MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")

#: Seconds for systemd's job to end whose command has asked papad to reload, and between two looks at it.
_JOB_TIMEOUT, _JOB_PAUSE = 5.0, 0.01


async def subscribe(bus: Bus) -> None:
    """Have systemd send its signals: it does so while somebody has asked for them. To ask again is no matter."""
    with contextlib.suppress(PapaError):
        await bus.call(*MANAGER, "Subscribe")


async def socket_units(bus: Bus) -> dict[str, str]:
    """Return which socket unit passes papad descriptors of which name, as far as systemd says."""
    found: dict[str, str] = {}
    with contextlib.suppress(PapaError):
        service = (await bus.call(*MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
        for unit in sorted(await property_of(bus, service, "Unit", "TriggeredBy")):
            if unit.endswith(".socket"):
                path = (await bus.call(*MANAGER, "GetUnit", "s", [unit])).body[0]
                name = await property_of(bus, path, "Socket", "FileDescriptorName")
                found[name] = f"{found[name]}, {unit}" if name in found else unit
    return found


async def keeps_descriptors(bus: Bus) -> bool | None:
    """Return whether systemd, which is ending papad, keeps what is in the descriptor store; None: it does not answer.

    It does so for a restart, and from 254 on for a stop if the unit asks for it (FileDescriptorStorePreserve=); at
    shutdown only for a soft-reboot.
    """
    try:
        if await own_job(bus) == "restart":
            return True
        unit = (await bus.call(*MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
        ends = await property_of(bus, MANAGER[1], "Manager", "SystemState") == "stopping"
    except PapaError:
        return None
    if ends and not await _soft_reboots(bus):
        return False
    try:
        return bool(await property_of(bus, unit, "Service", "FileDescriptorStorePreserve") == "yes")
    except PapaError:
        return False  # before 254


async def reload_job_done(bus: Bus) -> None:
    """Wait until systemd is done with the unit's ExecReload=, as it soon is: it waits for its commands alone.

    RELOADING=1 before that would make the job last until papad is ready again. The bus asks for a start of the unit
    at each call of papad that comes meanwhile, and each of them would have systemd run such a job once more.
    """
    with contextlib.suppress(PapaError, TimeoutError):
        async with asyncio.timeout(_JOB_TIMEOUT):
            unit = (await bus.call(*MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
            while True:
                number, _ = await property_of(bus, unit, "Unit", "Job")
                if not number:
                    return
                await asyncio.sleep(_JOB_PAUSE)


async def _soft_reboots(bus: Bus) -> bool:
    try:
        target = (await bus.call(*MANAGER, "GetUnit", "s", ["soft-reboot.target"])).body[0]
        return bool((await property_of(bus, target, "Unit", "Job"))[1] != "/")
    except PapaError:
        return False  # before 254, or a user's systemd


async def own_job(bus: Bus) -> str:
    """Return what systemd is doing with papad's unit, such as "stop"; "" for nothing."""
    unit = (await bus.call(*MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
    _, job = await property_of(bus, unit, "Unit", "Job")
    return "" if job == "/" else str(await property_of(bus, job, "Job", "JobType"))


async def property_of(bus: Bus, path: str, interface: str, name: str) -> Any:
    where = (MANAGER[0], path, "org.freedesktop.DBus.Properties")
    return (await bus.call(*where, "Get", "ss", [f"org.freedesktop.systemd1.{interface}", name])).body[0].value
