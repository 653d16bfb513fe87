"""The checks of `papactl doctor`: each asks one thing and gives a finding, whatever happens."""

import grp
import os
import platform
import pwd
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from papa_dbus import __version__
from papa_dbus.bus import Bus, address_of
from papa_dbus.bus.bus import DRIVER
from papa_dbus.client.cli.command import Target
from papa_dbus.client.discovery import find_bus, offers_kernel
from papa_dbus.errors import AccessDenied, PapaError, Unreachable
from papa_dbus.names import BUS_NAME

_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_INSTALL = "'make install', or your system's package, puts it there"
#: Linux that tells the exit code of a process that has another parent (PIDFD_INFO_EXIT).
_EXIT_INFO = (6, 15)


class Grade(Enum):
    """How a finding is to be taken."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found."""

    check: str
    grade: Grade
    message: str


def good(check: str, message: str) -> Finding:
    """Find that it is as it should be."""
    return Finding(check, Grade.GOOD, message)


def note(check: str, message: str) -> Finding:
    """Find that it works, and that somebody may want to know this."""
    return Finding(check, Grade.NOTE, message)


def bad(check: str, message: str) -> Finding:
    """Find that it does not work so; the message says what to do."""
    return Finding(check, Grade.BAD, message)


async def all_findings(target: Target) -> list[Finding]:
    """Make all checks, from what the others stand on to what stands on it."""
    findings = [] if target.host is not None else _linux()
    try:
        bus = await find_bus(target.bus, target.host)
    except Unreachable as error:
        here = "start it (systemctl start dbus), or name another with --bus"
        there = f"'ssh {target.host} systemd-stdio-bridge' has to work without a terminal"
        return [*findings, bad("bus", f"{error}: {here if target.host is None else there}")]
    try:
        findings.append(good("bus", f"{bus.described} answers"))
        if target.host is None and bus.address == address_of("system"):
            findings += [_policy(), _group()]
        findings += [finding async for finding in _on_the_bus(bus)]
    finally:
        await bus.close()
    return findings


def _linux() -> list[Finding]:
    findings = []
    release = platform.release()
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    for feature, since in (("memfd_create", "3.17"), ("pidfd_open", "5.3")):
        if hasattr(os, feature):
            try:
                os.close(os.memfd_create("papactl") if feature == "memfd_create" else os.pidfd_open(os.getpid()))
                continue
            except OSError as error:
                findings.append(bad("Linux", f"{feature} does not work ({error.strerror}): Linux {since} has it"))
    if findings:
        return findings
    if version >= _EXIT_INFO:
        return [good("Linux", f"{release}: exit codes of processes that end while papad is down are preserved")]
    needed = ".".join(map(str, _EXIT_INFO))
    lost = "exit codes of processes that end while papad is down are lost"
    return [note("Linux", f"{release}: {lost}; Linux {needed} keeps them")]


def _group() -> Finding:
    try:
        group = grp.getgrnam("papa")
    except KeyError:
        return bad("group", "there is no group papa, so only root may talk to papad: systemd-sysusers makes it")
    user = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0 or group.gr_gid in {os.getegid(), *os.getgroups()}:
        return good("group", f"{user} may talk to the system's papad")
    if user in group.gr_mem:
        return bad("group", f"{user} is in the group papa, but was not yet at this log-in: log in again")
    return bad("group", f"{user} is not in the group papa: an administrator runs 'usermod -aG papa {user}'")


async def _on_the_bus(bus: Bus) -> AsyncIterator[Finding]:
    try:
        if not await offers_kernel(bus):
            yield bad("papad", f"{BUS_NAME} is neither there nor can be started: start papad --bus, or {_INSTALL}")
            return
        running = bool((await bus.call(*DRIVER, "NameHasOwner", "s", [BUS_NAME])).body[0])
        if running:
            yield await _kernel(bus)
        else:
            yield note("papad", "it does not run; the first call, or 'systemctl start papa', starts it")
        if not (await bus.call(*DRIVER, "NameHasOwner", "s", [_SYSTEMD[0]])).body[0]:
            yield note("systemd", "it is not on this bus, so all that papad holds is lost when it ends")
            return
        for unit in ("papa.service", "papa.socket"):
            yield await _unit(bus, unit)
        if running:
            yield await _store(bus)
    except PapaError as error:
        yield bad("bus", str(error))


async def _kernel(bus: Bus) -> Finding:
    try:
        reply = await bus.call(BUS_NAME, "/org/papa/Kernel", _PROPERTIES, "Get", "ss", [BUS_NAME, "Version"], timeout=5)
    except AccessDenied:
        return bad("papad", "it runs, and this user may not talk to it: see group; or use sudo")
    except PapaError as error:
        return bad("papad", f"it runs and does not answer ({error}): 'systemctl restart papa' keeps what it holds")
    version = reply.body[0].value
    if version == __version__:
        return good("papad", f"version {version} runs, as papactl's")
    return note("papad", f"version {version} runs, papactl is {__version__}: 'systemctl reload papa' upgrades in place")


async def _properties(bus: Bus, unit: str, kind: str) -> dict[str, Any]:
    """Return the properties of a unit, and of its kind (Service, Socket)."""
    path = (await bus.call(*_SYSTEMD, f"{_SYSTEMD[0]}.Manager", "LoadUnit", "s", [unit])).body[0]
    found: dict[str, Any] = {}
    for interface in ("Unit", kind):
        reply = await bus.call(_SYSTEMD[0], path, _PROPERTIES, "GetAll", "s", [f"{_SYSTEMD[0]}.{interface}"])
        found |= {name: variant.value for name, variant in reply.body[0].items()}
    return found


async def _unit(bus: Bus, unit: str) -> Finding:
    of = await _properties(bus, unit, unit.rpartition(".")[2].capitalize())
    state, enabled, count = of["ActiveState"], of["UnitFileState"], of.get("NRestarts")
    if of["LoadState"] == "masked":
        return bad(unit, f"it is masked, so that nothing starts it: systemctl unmask {unit}")
    if of["LoadState"] != "loaded":
        return bad(unit, f"systemd does not have it ({of['LoadState']}): {_INSTALL}")
    if state == "failed" and unit == "papa.socket":
        return bad(unit, "it has failed, so nobody is served on port 20202: 'journalctl -u papa.socket' says why, and"
                   " 'ss -ltnp sport = 20202' who has the port; then 'systemctl restart papa'")  # fmt: skip
    if state == "failed":
        return bad(unit, f"it has failed: 'journalctl -u {unit}' says why")
    if count and (state == "activating" or (state == "deactivating" and of["Result"] != "success")):
        return bad(unit, f"it does not start, though tried {count + 1} times: 'journalctl -u {unit}' says why")
    if of["NeedDaemonReload"]:
        return note(unit, "its file has changed since systemd read it: systemctl daemon-reload")
    if unit == "papa.socket" and state != "active":
        return note(unit, f"{state}, so nobody is served on port 20202: 'systemctl restart papa' opens it again")
    restarts = f", started again {count} time{'' if count == 1 else 's'}" if count else ""
    return good(unit, f"{state}, {enabled or 'static'}{restarts}")


async def _store(bus: Bus) -> Finding:
    check = "descriptors"
    of = await _properties(bus, "papa.service", "Service")
    pid = (await bus.call(*DRIVER, "GetConnectionUnixProcessID", "s", [BUS_NAME])).body[0]
    if of["MainPID"] != pid:
        return bad(check, f"papad (PID {pid}) was not started by systemd, so all that it holds is lost when it"
                   " ends: stop it, then 'systemctl start papa'")  # fmt: skip
    most, used = of["FileDescriptorStoreMax"], of["NFileDescriptorStore"]
    if of["LoadState"] == "masked":
        return bad(check, "systemd keeps nothing for papad while papa.service is masked, so papad's next start loses"
                   " all that it holds: 'systemctl unmask papa.service' has all kept again")  # fmt: skip
    if used < (held := await _processes(bus)):
        return bad(check, f"systemd's store keeps {used} for papad, and processes are {held}, so its next start loses"
                   " some: 'systemctl reload papa' has all kept again")  # fmt: skip
    if not most:
        return bad(check, "papa.service has no descriptor store: set FileDescriptorStoreMax=, as the unit that"
                   " comes with Papa does")  # fmt: skip
    left = most - used  # a process takes one place, however many descriptors it has
    return (good if left > most // 10 else bad)(
        check, f"systemd's store keeps {used} of {most} for papad, room for about {left} more processes"
    )


async def _processes(bus: Bus) -> int:
    """Return how many processes papad lists, each of which has a place in the store; 0 if it does not say."""
    try:
        asked = [BUS_NAME, "ProcessCount"]
        reply = await bus.call(BUS_NAME, "/org/papa/Kernel", _PROPERTIES, "Get", "ss", asked, timeout=5)
    except PapaError:
        return 0
    return int(reply.body[0].value)


def _policy() -> Finding:
    folders = ("/etc/dbus-1/system.d", "/usr/share/dbus-1/system.d", "/run/dbus-1/system.d")
    found = [path for folder in folders if (path := Path(folder) / f"{BUS_NAME}.conf").exists()]
    if found:
        return good("policy", str(found[0]))
    return bad("policy", f"the bus has no policy for {BUS_NAME}, so papad cannot take its name: {_INSTALL}")
