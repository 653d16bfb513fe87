"""Scopes: each hosted process in a unit of its own, so that nothing that happens to papa.service touches it.

Where systemd does not run there are none.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from systemd import daemon

from papa_dbus.bus import Bus, Message, Variant
from papa_dbus.bus.name_owner import NameOwner
from papa_dbus.errors import PapaError, Spawn
from papa_dbus.service.systemd import cgroups
from papa_dbus.service.systemd.manager import MANAGER, own_job, subscribe
from papa_dbus.service.systemd.notify import notify

log = logging.getLogger(__name__)


SLICE = "papa.slice"

_UNIT_EXISTS = "already loaded or has a fragment file"
_SCOPE_TIMEOUT = 10.0  # seconds; about 2 ms is usual
_BUS_WAIT = 2.0  # seconds that a new process waits for a bus that is being restarted

_IS_DESTRUCTIVE = "is destructive"  # what systemd answers while it ends the slice, or the machine
_GRACE = 0.5  # seconds until `systemctl stop papa.service papa.slice` has come to the second unit
_EXTENSION = 30.0  # seconds for which papad's stop is put off at a time
#: The options that limit a process as properties of its scope (org.freedesktop.systemd1(5)). A quota is in microseconds
#: of processor time for each second: 10,000 of them are 1 %.
_LIMITS = {"memory_max": ("MemoryMax", 1), "cpu_quota": ("CPUQuotaPerSecUSec", 10_000), "tasks_max": ("TasksMax", 1)}

_MAX_UNIT_NAME = 255  # UNIT_NAME_MAX, systemd.unit(5)


class Scopes:
    """Puts each hosted process in a scope of its own, so that nothing that happens to papa.service touches it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._manager = ""  # systemd's unique name
        self._name = NameOwner(bus, MANAGER[0], self._set_manager)
        self._some_ended = asyncio.Event()
        self._available = bool(daemon.booted())
        bus.on_connected.append(self._subscribe)
        bus.on_signal.append(self._hear)

    async def _subscribe(self) -> None:
        await self._bus.add_match(sender=MANAGER[0], interface=MANAGER[2], member="JobRemoved")
        self._set_manager(None)
        with contextlib.suppress(PapaError):  # no systemd on this bus
            await self._name.find()

    def _set_manager(self, owner: str | None) -> None:
        self._manager = owner or ""

    async def assign_scope(self, pid: int, name: str, resources: Mapping[str, int]) -> str | None:
        """Put a process in its scope and return the scope's name, None if there are no scopes to be had.

        Raises Spawn if one of the limits in ``resources`` does not hold, and if systemd is ending all scopes.
        """
        if not self._available:
            return None
        await self._wait_for_bus()
        reason = ""
        for unit in (scope_name(name), scope_name(name, pid)):
            try:
                await self._start(unit, pid, name, resources)
                if not cgroups.has(pid, unit):
                    await self._stop(unit)
                else:
                    cgroups.check(pid, resources)
                return unit
            except Spawn:
                raise
            except PapaError as error:
                reason = str(error)
                if _IS_DESTRUCTIVE in reason:
                    raise Spawn(
                        f"systemd is ending {SLICE} or the machine, and starts nothing more: {reason}"
                    ) from None
                if _UNIT_EXISTS not in reason:
                    break
        if resources:
            raise Spawn(f"option '{next(iter(resources))}': it has no scope that could be limited: {reason}")
        log.warning("process '%s' (PID %d) has no scope and runs in papad's own: %s", name, pid, reason)
        return None

    async def _wait_for_bus(self) -> None:
        waited = 0.0
        while not self._bus.connected and waited < _BUS_WAIT:
            await asyncio.sleep(0.1)
            waited += 0.1

    async def _start(self, unit: str, pid: int, name: str, resources: Mapping[str, int]) -> None:
        properties = [
            ["Description", Variant("s", f"Papa process {name}")],
            ["Slice", Variant("s", SLICE)],
            ["PIDs", Variant("au", [pid])],
            ["CollectMode", Variant("s", "inactive-or-failed")],  # leaves nothing behind, however it ends
            ["OOMPolicy", Variant("s", "continue")],  # if Linux kills one of its processes its manager decides
        ]
        for option, value in resources.items():
            setting, factor = _LIMITS[option]
            properties.append([setting, Variant("t", value * factor)])
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._jobs[unit] = done
        try:
            async with asyncio.timeout(_SCOPE_TIMEOUT):
                await self._bus.call(*MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", [unit, "fail", properties, []])
                result = await done
        except TimeoutError:
            raise PapaError(f"systemd did not start {unit} in {_SCOPE_TIMEOUT:.0f} s") from None
        finally:
            del self._jobs[unit]
        if result != "done":
            raise PapaError(f"systemd could not start {unit}: {result}")

    async def _stop(self, unit: str) -> None:
        """End a scope whose process has ended before it was in there: systemd never notices that it is empty."""
        with contextlib.suppress(PapaError):  # it was in there, and systemd has noticed
            await self._bus.call(*MANAGER, "StopUnit", "ss", [unit, "replace"])

    def _hear(self, signal: Message) -> None:
        # Anybody whom the bus lets can send papad a signal of that name.
        if signal.member == "JobRemoved" and signal.sender == self._manager:
            _, _, unit, result = signal.body
            done = self._jobs.get(unit)
            if done is not None and not done.done():
                done.set_result(result)
            self._some_ended.set()

    async def read_to_their_end(self) -> None:
        """Wait at papad's stop for the scopes that systemd is ending as well, so that papad reads their last words.

        At shutdown papa.slice is ordered after papa.service, so that they have ended before. But somebody may name the
        service first: `systemctl stop papa.service papa.slice` begins with it, and comes to the slice a moment later.
        """
        if await own_job(self._bus) != "stop":
            return
        await subscribe(self._bus)  # to jobs that are not papad's own, too
        scopes = await self._scopes()
        if scopes and not any(scopes.values()):
            await asyncio.sleep(_GRACE)
        said = False
        self._some_ended.clear()
        while ending := [unit for unit, ends in (await self._scopes()).items() if ends]:
            if not said:
                said = True
                log.info("papad reads on until these have ended: %s", ", ".join(sorted(ending)))
            notify(EXTEND_TIMEOUT_USEC=round(_EXTENSION * 1_000_000))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EXTENSION / 3):
                    await self._some_ended.wait()
            self._some_ended.clear()  # before the next look: what ends after that is heard

    async def _scopes(self) -> dict[str, bool]:
        """Return the scopes of hosted processes, and whether systemd is ending each."""
        states, patterns = ["active", "deactivating"], ["papa-*.scope"]
        listed = await self._bus.call(*MANAGER, "ListUnitsByPatterns", "asas", [states, patterns])
        return {unit[0]: unit[3] == "deactivating" or unit[8] == "stop" for unit in listed.body[0]}


def scope_name(name: str, pid: int | None = None) -> str:
    """Return the scope of a process: papa-NAME.scope, with the PID where that is taken or would be too long."""
    escaped = "".join(
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or chr(b) in ":_.-") else f"\\x{b:02x}" for b in name.encode()
    )
    end = ".scope" if pid is None else f"-{pid}.scope"
    return f"papa-{escaped[: _MAX_UNIT_NAME - len('papa-') - len(end)]}{end}"
