"""What systemd gives: readiness, status and watchdog, passed sockets, the journal, and a scope for each process.

The only module that knows systemd. Where it does not run, each of these says so and does nothing.
"""

import asyncio
import logging
import os
import socket

from systemd import daemon, journal

from papa_dbus.bus import Bus, Message, Variant
from papa_dbus.errors import PapaError

log = logging.getLogger(__name__)

SLICE = "papa.slice"
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_UNIT_EXISTS = "already loaded or has a fragment file"
_SCOPE_TIMEOUT = 10.0  # seconds; about 2 ms is usual
_BUS_WAIT = 2.0  # seconds that a new process waits for a bus that is being restarted
_MAX_UNIT_NAME = 255  # UNIT_NAME_MAX, systemd.unit(5)


def notify(**fields: str | int) -> None:
    """Tell systemd something, as sd_notify(3) has it; nothing where systemd did not start papad."""
    try:
        daemon.notify("\n".join(f"{key}={value}" for key, value in fields.items()))
    except OSError as error:
        log.debug("systemd cannot be told %s: %s", ", ".join(fields), error)


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, half of what systemd waits (sd_watchdog_enabled(3)); None: nobody waits."""
    micros = os.environ.get("WATCHDOG_USEC")
    if micros is None or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(micros) / 2_000_000


def keep_watchdog_quiet(interval: float) -> None:
    """Send a sign of life now and after every interval, from the loop that serves clients: if that hangs, it stops."""
    notify(WATCHDOG=1)
    asyncio.get_running_loop().call_later(interval, keep_watchdog_quiet, interval)


def passed_sockets(name: str) -> list[socket.socket]:
    """The listening sockets that a socket unit passed under a name (FileDescriptorName=, systemd.socket(5))."""
    found = []
    for fd, given in daemon.listen_fds_with_names(unset_environment=True).items():
        if given == name and daemon.is_socket(fd):
            found.append(socket.socket(fileno=fd))
        else:
            log.warning("descriptor %d, passed as '%s', is none that papad knows; it is closed", fd, given)
            os.close(fd)
    return found


def log_to_journal() -> bool:
    """Send the log to the journal, with its fields, where systemd has connected papad to it."""
    if "JOURNAL_STREAM" not in os.environ:
        return False
    logging.getLogger().addHandler(journal.JournalHandler(SYSLOG_IDENTIFIER="papad"))
    return True


class Scopes:
    """Puts each hosted process in a scope of its own, so that nothing that happens to papa.service touches it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._available = bool(daemon.booted())
        bus.on_connected.append(self._subscribe)
        bus.on_signal.append(self._hear)

    async def _subscribe(self) -> None:
        rule = f"type='signal',sender='{_MANAGER[0]}',interface='{_MANAGER[2]}',member='JobRemoved'"
        bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        await self._bus.call(*bus, "AddMatch", "s", [rule])

    async def place(self, pid: int, name: str) -> str | None:
        """Put a process in its scope and return the scope's name, None where there are no scopes to be had."""
        if not self._available:
            return None
        await self._wait_for_bus()
        reason = ""
        for unit in (scope_name(name), scope_name(name, pid)):
            try:
                await self._start(unit, pid, name)
                return unit
            except PapaError as error:
                reason = str(error)
                if _UNIT_EXISTS not in reason:
                    break
        log.warning("process '%s' (PID %d) has no scope and runs in papad's own: %s", name, pid, reason)
        return None

    async def _wait_for_bus(self) -> None:
        waited = 0.0
        while not self._bus.connected and waited < _BUS_WAIT:
            await asyncio.sleep(0.1)
            waited += 0.1

    async def _start(self, unit: str, pid: int, name: str) -> None:
        properties = [
            ["Description", Variant("s", f"Papa process {name}")],
            ["Slice", Variant("s", SLICE)],
            ["PIDs", Variant("au", [pid])],
            ["CollectMode", Variant("s", "inactive-or-failed")],  # leaves nothing behind, however it ends
        ]
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._jobs[unit] = done
        try:
            async with asyncio.timeout(_SCOPE_TIMEOUT):
                await self._bus.call(
                    *_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", [unit, "fail", properties, []]
                )
                result = await done
        except TimeoutError:
            raise PapaError(f"systemd did not start {unit} in {_SCOPE_TIMEOUT:.0f} s") from None
        finally:
            del self._jobs[unit]
        if result != "done":
            raise PapaError(f"systemd could not start {unit}: {result}")

    def _hear(self, signal: Message) -> None:
        if signal.member == "JobRemoved" and signal.interface == _MANAGER[2]:
            _, _, unit, result = signal.body
            done = self._jobs.get(unit)
            if done is not None and not done.done():
                done.set_result(result)


def scope_name(name: str, pid: int | None = None) -> str:
    """The scope of a process: papa-NAME.scope, with the PID where that is taken or would be too long."""
    escaped = "".join(
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or chr(b) in ":_.-") else f"\\x{b:02x}" for b in name.encode()
    )
    end = ".scope" if pid is None else f"-{pid}.scope"
    return f"papa-{escaped[: _MAX_UNIT_NAME - len('papa-') - len(end)]}{end}"
