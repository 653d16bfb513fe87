"""What systemd gives: readiness, status and watchdog, passed sockets, the journal, and a scope for each process.

The only module that knows systemd. Where it does not run, each of these says so and does nothing.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import resource
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from systemd import daemon, journal

from papa_dbus.bus import Bus, Message, Variant
from papa_dbus.bus.bus import DRIVER
from papa_dbus.errors import Limit, PapaError, Spawn
from papa_dbus.service import rlimits
from papa_dbus.service.systemd import cgroups
from papa_dbus.service.systemd.fd_bundle import Parcel, contents
from papa_dbus.service.systemd.notify_queue import Notifications

log = logging.getLogger(__name__)

SLICE = "papa.slice"
#: What papad's own log is called in the journal.
LOG_IDENTIFIER = "papad"
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_UNIT_EXISTS = "already loaded or has a fragment file"
_SCOPE_TIMEOUT = 10.0  # seconds; about 2 ms is usual
_BUS_WAIT = 2.0  # seconds that a new process waits for a bus that is being restarted
#: Seconds for systemd's job to end whose command has asked papad to reload, and between two looks at it.
_JOB_TIMEOUT, _JOB_PAUSE = 5.0, 0.01
_IS_DESTRUCTIVE = "is destructive"  # what systemd answers while it ends the slice, or the machine
_GRACE = 0.5  # seconds until `systemctl stop papa.service papa.slice` has come to the second unit
_EXTENSION = 30.0  # seconds for which papad's stop is put off at a time
#: The options that limit a process as properties of its scope (org.freedesktop.systemd1(5)). A quota is in microseconds
#: of processor time for each second: 10,000 of them are 1 %.
_LIMITS = {"memory_max": ("MemoryMax", 1), "cpu_quota": ("CPUQuotaPerSecUSec", 10_000), "tasks_max": ("TasksMax", 1)}
_STORED_NAME = re.compile(r"[sp]\d+")
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_MAX_NAMES = 120 * 1024  # LISTEN_FDNAMES is one string of the environment, and those end at 128 KiB (execve(2))
_RESERVE = 64  # descriptors that papad is started with beside the kept ones: a socket unit's, and systemd's own
_MAX_UNIT_NAME = 255  # UNIT_NAME_MAX, systemd.unit(5)


#: As papad was started: it leaves its environment as it is.
_systemd = Notifications(os.environ.get("NOTIFY_SOCKET", ""))


def notify(**fields: str | int) -> None:
    """Tell systemd something, as sd_notify(3) has it; nothing if systemd did not start papad."""
    _systemd.tell("\n".join(f"{key}={value}" for key, value in fields.items()))


def finish_notifying(seconds: float) -> None:
    """Tell systemd what it has not taken yet, at papad's end, and wait for so long at most."""
    _systemd.finish(seconds)


def _let_go(name: str) -> None:
    _systemd.demand(f"FDSTOREREMOVE=1\nFDNAME={name}")


def notify_reloading() -> None:
    """Tell systemd that papad is becoming its new version (sd_notify(3))."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS="Reloading")


def runtime_directory() -> Path | None:
    """Return the folder for papad's state, the unit's own if a drop-in has added others (systemd.exec(5))."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


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


class Passed:
    """The descriptors that papad was started with: a socket unit's, and those of the descriptor store."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[int]] = {}
        for fd, name in daemon.listen_fds_with_names(unset_environment=True).items():
            self._by_name.setdefault(name, []).append(fd)

    def take(self, name: str, fits: Callable[[int], bool]) -> list[int]:
        """The descriptors of a name that fit, in the order in which they were passed. The others are left."""
        fds = self._by_name.pop(name, [])
        left = [fd for fd in fds if not fits(fd)]
        if left:
            self._by_name[name] = left
        return [fd for fd in fds if fd not in left]

    def sockets(self, name: str) -> list[socket.socket]:
        """The listening stream sockets of a name (FileDescriptorName=, systemd.socket(5))."""
        return [socket.socket(fileno=fd) for fd in self.take(name, is_listening)]

    def others(self, own: Collection[str]) -> dict[str, list[int]]:
        """All that has none of papad's ``own`` names: those of other socket units."""
        names = [name for name in self._by_name if name not in own]
        for name in names:
            _let_go(name)  # if it is in the store papad has not put it there
        return {name: self._by_name.pop(name) for name in names}

    def kept(self) -> tuple[dict[str, list[int]], dict[str, int]]:
        """What the descriptor store gave back, by name, and how many places that has there."""
        given = {name: self._by_name.pop(name) for name in list(self._by_name) if _STORED_NAME.fullmatch(name)}
        places = {name: len(fds) for name, fds in given.items()}
        return {name: [fd for one in fds for fd in _unpacked(one)] for name, fds in given.items()}, places

    def close_rest(self) -> None:
        """Close what nobody has asked for, and say so; systemd is not to keep it either."""
        for name, fds in self._by_name.items():
            log.error("what was passed as '%s' is closed: that name is papad's own, for something else", name)
            _let_go(name)
            for fd in fds:
                os.close(fd)


def _unpacked(fd: int) -> list[int]:
    fds = contents(fd)
    if fds is None:
        return [fd]
    os.close(fd)
    return fds


def is_listening(fd: int) -> bool:
    """Whether it is a stream socket that listens."""
    return bool(daemon.is_socket(fd, type=socket.SOCK_STREAM, listening=1))


def is_memory_file(fd: int) -> bool:
    """Whether it is one of memfd_create(2)'s."""
    return os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")


def is_connected(fd: int) -> bool:
    """Whether it is a stream socket that does not listen."""
    return bool(daemon.is_socket(fd, type=socket.SOCK_STREAM, listening=0))


#: Device and inode: what a descriptor is, whatever its number; None: it is closed.
_Identity = tuple[int, int] | None


def _identity(fd: int) -> _Identity:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Kept:
    """What is kept under one name. ``places``: how many descriptors systemd has for it; fewer where a parcel is."""

    def __init__(self) -> None:
        self.descriptors: list[tuple[int, _Identity]] = []
        self.places = 0
        self.parcel: Parcel | None = None  # more may come into it

    def note(self, fds: Sequence[int], places: int) -> None:
        self.descriptors += ((fd, _identity(fd)) for fd in fds)
        self.places += places

    def seal(self) -> None:
        """Nothing more comes."""
        if self.parcel is not None:
            self.parcel.close()
            self.parcel = None

    def still_there(self) -> list[int]:
        # A pipe that has come to its end is closed here, and its number may be another descriptor's by now.
        return [fd for fd, what in self.descriptors if what == _identity(fd)]


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ETOOMANYREFS, unix(7): as many as papad may open are on their way
        raise Limit(f"no more descriptors can be kept: {error.strerror}") from None


class DescriptorStore:
    """systemd's descriptor store (sd_notify(3), FDSTORE=1): what is in it comes back when papad is started again."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._name_bytes = 0
        self._count = 0
        self._most = int(os.environ.get("FDSTORE", "16384"))  # as the unit has it, until learn_limit()
        # systemd cannot start papad with more than it may open, and then never could again.
        self._most_open = rlimits.GIVEN[resource.RLIMIT_NOFILE][0] - _RESERVE

    async def learn_limit(self, bus: Bus) -> None:
        """Ask how many descriptors systemd keeps: before 254 it does not tell, and closes what is too much."""
        if "FDSTORE" not in os.environ:
            with contextlib.suppress(PapaError):
                unit = (await bus.call(*_MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
                self._most = await _property(bus, unit, "Service", "FileDescriptorStoreMax")

    @staticmethod
    def available() -> Path | None:
        """The folder for what goes with it, None where systemd did not start papad as its unit does."""
        return runtime_directory() if "NOTIFY_SOCKET" in os.environ else None

    def adopt(self, kept: Mapping[str, Sequence[int]], places: Mapping[str, int]) -> None:
        """Count what is in the store already."""
        for name, fds in kept.items():
            self._note(name, fds, places[name])

    def _note(self, name: str, fds: Sequence[int], places: int) -> _Kept:
        kept = self._kept.setdefault(name, _Kept())
        kept.note(fds, places)
        self._count += places
        self._name_bytes += places * (len(name) + 1)
        return kept

    def keep(self, name: str, fds: Sequence[int], more: bool = False) -> None:
        """Store descriptors; several are one there. With ``more``, others of that name come into the same place.

        Raises Limit where no more would come back.
        """
        kept = self._kept.get(name)
        if kept is None or kept.parcel is None:
            kept = self._begin(name, fds, more)
        else:
            with _limit():
                kept.parcel.put(fds)
            kept.note(fds, 0)
        if not more:
            kept.seal()

    def _begin(self, name: str, fds: Sequence[int], more: bool) -> _Kept:
        self._check_room(name)
        if len(fds) == 1 and not more:
            self._give(name, fds[0])
            return self._note(name, fds, 1)
        with _limit():
            parcel = Parcel()
        try:
            with _limit():
                parcel.put(fds)
            self._give(name, parcel.end)
        except BaseException:
            parcel.close()
            raise
        kept = self._note(name, fds, 1)
        kept.parcel = parcel
        return kept

    def _check_room(self, name: str) -> None:
        if self._count + 1 > self._most:
            raise Limit(f"systemd keeps {self._most} descriptors for papad at most (FileDescriptorStoreMax=)")
        if self._count + 1 > self._most_open:
            raise Limit(f"papad may be started with {self._most_open} kept descriptors at most (LimitNOFILE=)")
        if self._name_bytes + len(name) + 1 > _MAX_NAMES:
            raise Limit(f"the names of all kept descriptors have {_MAX_NAMES} bytes at most: they come in one variable")

    @staticmethod
    def _give(name: str, fd: int) -> None:
        # FDPOLL=0: systemd would drop a pipe whose writer has gone, with what is unread in it.
        _systemd.keep(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", fd)

    async def kept(self) -> None:
        """Wait until systemd has what it was given. Raises Limit if it does not take that in time."""
        await _systemd.kept()

    def execute_again(self, others: Mapping[str, Sequence[int]]) -> NoReturn:
        """Become papad's new version: the same PID, started with the descriptors as systemd would start it."""
        pairs = [(name, fd) for name, fds in others.items() for fd in fds]
        for name, kept in self._kept.items():
            if fds := kept.still_there():
                as_stored = [Parcel.of(fds)] if kept.places < len(kept.descriptors) else fds
                pairs += ((name, fd) for fd in as_stored)
        # Out of the way first, so that putting one in its place does not close another.
        above = [(name, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LISTEN_FDS_START + len(pairs))) for name, fd in pairs]
        for number, (_, fd) in enumerate(above, _LISTEN_FDS_START):
            os.dup2(fd, number)
        environment = {
            **os.environ,
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(above)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in above),
        }
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)

    def drop(self, name: str) -> None:
        """Let go of all descriptors of a name."""
        if (kept := self._kept.pop(name, None)) is not None:
            self._count -= kept.places
            self._name_bytes -= kept.places * (len(name) + 1)
            kept.seal()
        _let_go(name)


def log_to_journal(write: Callable[..., None]) -> bool:
    """Send the log to the journal, with its fields, where systemd has connected papad to it.

    ``write`` takes a record's fields in the place of systemd-python's ``journal.send``, which may wait.
    """
    if "JOURNAL_STREAM" not in os.environ:
        return False
    logging.getLogger().addHandler(journal.JournalHandler(sender_function=write, SYSLOG_IDENTIFIER=LOG_IDENTIFIER))
    return True


class Scopes:
    """Puts each hosted process in a scope of its own, so that nothing that happens to papa.service touches it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._manager = ""  # systemd's unique name
        self._some_ended = asyncio.Event()
        self._available = bool(daemon.booted())
        bus.on_connected.append(self._subscribe)
        bus.on_signal.append(self._hear)

    async def _subscribe(self) -> None:
        await self._bus.add_match(sender=_MANAGER[0], interface=_MANAGER[2], member="JobRemoved")
        await self._bus.add_match(sender=DRIVER[0], member="NameOwnerChanged", arg0=_MANAGER[0])
        try:
            self._manager = (await self._bus.call(*DRIVER, "GetNameOwner", "s", [_MANAGER[0]])).body[0]
        except PapaError:
            self._manager = ""  # no systemd on this bus

    async def place(self, pid: int, name: str, resources: Mapping[str, int]) -> str | None:
        """Put a process in its scope and return the scope's name, None where there are no scopes to be had.

        Raises Spawn if one of the limits in ``resources`` does not hold, and if systemd is ending all scopes.
        """
        if not self._available:
            return None
        await self._wait_for_bus()
        reason = ""
        for unit in (scope_name(name), scope_name(name, pid)):
            try:
                await self._start(unit, pid, name, resources)
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
        if signal.member == "NameOwnerChanged" and signal.sender == DRIVER[0] and signal.body[0] == _MANAGER[0]:
            self._manager = signal.body[2]
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
        if await _own_job(self._bus) != "stop":
            return
        await self._bus.call(*_MANAGER, "Subscribe")  # to jobs that are not papad's own, too
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
        """The scopes of hosted processes, and whether systemd is ending each."""
        states, patterns = ["active", "deactivating"], ["papa-*.scope"]
        listed = await self._bus.call(*_MANAGER, "ListUnitsByPatterns", "asas", [states, patterns])
        return {unit[0]: unit[3] == "deactivating" or unit[8] == "stop" for unit in listed.body[0]}


def scope_name(name: str, pid: int | None = None) -> str:
    """The scope of a process: papa-NAME.scope, with the PID where that is taken or would be too long."""
    escaped = "".join(
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or chr(b) in ":_.-") else f"\\x{b:02x}" for b in name.encode()
    )
    end = ".scope" if pid is None else f"-{pid}.scope"
    return f"papa-{escaped[: _MAX_UNIT_NAME - len('papa-') - len(end)]}{end}"


async def socket_units(bus: Bus) -> dict[str, str]:
    """Which socket unit passes papad descriptors of which name, as far as systemd says."""
    found: dict[str, str] = {}
    with contextlib.suppress(PapaError):
        service = (await bus.call(*_MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
        for unit in sorted(await _property(bus, service, "Unit", "TriggeredBy")):
            if unit.endswith(".socket"):
                path = (await bus.call(*_MANAGER, "GetUnit", "s", [unit])).body[0]
                name = await _property(bus, path, "Socket", "FileDescriptorName")
                found[name] = f"{found[name]}, {unit}" if name in found else unit
    return found


async def keeps_descriptors(bus: Bus) -> bool | None:
    """Whether systemd, which is ending papad, keeps what is in the descriptor store; None: it does not answer.

    It does so for a restart, and from 254 on for a stop if the unit asks for it (FileDescriptorStorePreserve=); at
    shutdown only for a soft-reboot.
    """
    try:
        if await _own_job(bus) == "restart":
            return True
        unit = (await bus.call(*_MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
        ends = await _property(bus, _MANAGER[1], "Manager", "SystemState") == "stopping"
    except PapaError:
        return None
    if ends and not await _soft_reboots(bus):
        return False
    try:
        return bool(await _property(bus, unit, "Service", "FileDescriptorStorePreserve") == "yes")
    except PapaError:
        return False  # before 254


async def reload_job_done(bus: Bus) -> None:
    """Wait until systemd is done with the unit's ExecReload=, as it soon is: it waits for its commands alone.

    RELOADING=1 before that would make the job last until papad is ready again. The bus asks for a start of the unit
    at each call of papad that comes meanwhile, and each of them would have systemd run such a job once more.
    """
    with contextlib.suppress(PapaError, TimeoutError):
        async with asyncio.timeout(_JOB_TIMEOUT):
            unit = (await bus.call(*_MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
            while True:
                number, _ = await _property(bus, unit, "Unit", "Job")
                if not number:
                    return
                await asyncio.sleep(_JOB_PAUSE)


async def _soft_reboots(bus: Bus) -> bool:
    try:
        target = (await bus.call(*_MANAGER, "GetUnit", "s", ["soft-reboot.target"])).body[0]
        return bool((await _property(bus, target, "Unit", "Job"))[1] != "/")
    except PapaError:
        return False  # before 254, or a user's systemd


async def _own_job(bus: Bus) -> str:
    """What systemd is doing with papad's unit, such as "stop"; "" for nothing."""
    unit = (await bus.call(*_MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
    _, job = await _property(bus, unit, "Unit", "Job")
    return "" if job == "/" else str(await _property(bus, job, "Job", "JobType"))


async def _property(bus: Bus, path: str, interface: str, name: str) -> Any:
    where = (_MANAGER[0], path, "org.freedesktop.DBus.Properties")
    return (await bus.call(*where, "Get", "ss", [f"org.freedesktop.systemd1.{interface}", name])).body[0].value
