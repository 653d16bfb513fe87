"""systemd's file descriptor store: what is in it comes back when papad is started again."""

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from papa_dbus.bus import Bus
from papa_dbus.errors import Limit, PapaError
from papa_dbus.service import rlimits
from papa_dbus.service.systemd.fd_bundle import FdBundle
from papa_dbus.service.systemd.manager import MANAGER, property_of
from papa_dbus.service.systemd.notify import notifications, remove_stored

log = logging.getLogger(__name__)

_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_MAX_NAMES = 120 * 1024  # LISTEN_FDNAMES is one string of the environment, and those end at 128 KiB (execve(2))
_LOOKS = 10  # at how many systemd keeps, while what it is to keep changes
_RESERVE = 64  # descriptors that papad is started with beside the kept ones: a socket unit's, and systemd's own


def runtime_directory() -> Path | None:
    """Return the folder for papad's state, the unit's own if a drop-in has added others (systemd.exec(5))."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


#: Device and inode: what a descriptor is, whatever its number; None: it is closed.
_Identity = tuple[int, int] | None


def _identity(fd: int) -> _Identity:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Kept:
    """What is kept under one name. ``slots``: how many descriptors systemd has for it; fewer where an fd bundle is."""

    def __init__(self) -> None:
        self.descriptors: list[tuple[int, _Identity]] = []
        self.slots = 0
        self.bundle: FdBundle | None = None  # more may come into it

    def note(self, fds: Sequence[int], slots: int) -> None:
        self.descriptors += ((fd, _identity(fd)) for fd in fds)
        self.slots += slots

    def seal(self) -> None:
        """Note that nothing more comes."""
        if self.bundle is not None:
            self.bundle.close()
            self.bundle = None

    def still_there(self) -> list[int]:
        # A pipe that has come to its end is closed here, and its number may be another descriptor's by now.
        return [fd for fd, what in self.descriptors if what == _identity(fd)]

    def as_stored(self) -> list[int]:
        """Return what systemd is given for it: the descriptors, or a new fd bundle of them, for the caller to close."""
        fds = self.still_there()
        return [FdBundle.of(fds)] if fds and self.bundled else fds

    @property
    def bundled(self) -> bool:
        """Return whether systemd has an fd bundle for it."""
        return self.slots < len(self.descriptors)


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ETOOMANYREFS, unix(7): as many as papad may open are on their way
        raise Limit(f"no more descriptors can be kept: {error.strerror}") from None


class SystemdFdStore:
    """systemd's descriptor store (sd_notify(3), FDSTORE=1): what is in it comes back when papad is started again."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._name_bytes = 0
        self._count = self._added = self._removed = 0  # places in the store: now, and in all
        self._learning = asyncio.Lock()
        self._most = int(os.environ.get("FDSTORE", "16384"))  # as the unit has it, until learn_limit()
        # systemd cannot start papad with more than it may open, and then never could again.
        self._most_open = rlimits.GIVEN[resource.RLIMIT_NOFILE][0] - _RESERVE

    async def learn_limit(self, bus: Bus) -> None:
        """Ask how many descriptors systemd keeps: it closes what is too much, and before 254 does not tell.

        If it has fewer than papad has given it, it is given them again: it closes all when papa.service is masked, and
        takes none until that is unmasked.
        """
        async with self._learning:
            with contextlib.suppress(PapaError):
                unit = (await bus.call(*MANAGER, "GetUnitByPID", "u", [os.getpid()])).body[0]
                if await property_of(bus, unit, "Unit", "LoadState") == "masked":
                    log.warning(
                        "papa.service is masked, so systemd keeps nothing of what papad holds, and its next start"
                        " would lose it: 'systemctl unmask papa', with --runtime or --user if it was masked so, has all"
                        " kept again"
                    )
                    return
                self._most = await property_of(bus, unit, "Service", "FileDescriptorStoreMax")
                if (there := await self._fewer(bus, unit)) is not None:
                    log.warning(
                        "systemd keeps %d of the %d descriptors that it was given, as after 'systemctl mask papa';"
                        " it is given them again", there, self._count,
                    )  # fmt: skip
                    await self._give_again()

    async def _fewer(self, bus: Bus, unit: str) -> int | None:
        """Return how many systemd has if those are fewer than it was given; None if not, or if too much comes and goes.

        It takes all that it was sent before it answers. What is stored or removed meanwhile it may have counted or not.
        """
        for _ in range(_LOOKS):
            await self.kept()
            if notifications.waiting:
                continue
            added, removed, count = self._added, self._removed, self._count
            there = int(await property_of(bus, unit, "Service", "NFileDescriptorStore"))
            if there < count - (self._removed - removed):
                return there
            if (self._added, self._removed) == (added, removed):
                break
        return None

    async def _give_again(self) -> None:
        """Give all that is kept now, a little at each turn of the loop. What comes meanwhile is given as ever."""
        try:
            for name, kept in list(self._kept.items()):
                await self.kept()
                await asyncio.sleep(0)
                if self._kept.get(name) is kept:
                    with _limit():
                        self._give_one_again(name, kept)
            await self.kept()
        except Limit as error:
            log.error("%s; 'systemctl reload papa' gives it all once more", error)

    def _give_one_again(self, name: str, kept: _Kept) -> None:
        remove_stored(name)  # else what it has still would be there twice
        if kept.bundle is not None:
            self._give(name, kept.bundle.end)
            return
        fds = kept.as_stored()
        bundled = kept.bundled
        try:
            for fd in fds:
                self._give(name, fd)
        finally:
            if fds and bundled:
                os.close(fds[0])
        self._note_slots(name, len(fds) - kept.slots)
        kept.slots = len(fds)

    @staticmethod
    def available() -> Path | None:
        """Return the folder for what goes with it, None if systemd did not start papad as its unit does."""
        return runtime_directory() if "NOTIFY_SOCKET" in os.environ else None

    def adopt(self, kept: Mapping[str, Sequence[int]], slots: Mapping[str, int]) -> None:
        """Count what is in the store already."""
        for name, fds in kept.items():
            self._note(name, fds, slots[name])

    def _note(self, name: str, fds: Sequence[int], slots: int) -> _Kept:
        kept = self._kept.setdefault(name, _Kept())
        kept.note(fds, slots)
        self._note_slots(name, slots)
        return kept

    def _note_slots(self, name: str, slots: int) -> None:
        """Count so many more places in the store under a name, or fewer."""
        self._count += slots
        self._name_bytes += slots * (len(name) + 1)
        self._added += max(slots, 0)
        self._removed += max(-slots, 0)

    def store(self, name: str, fds: Sequence[int], more: bool = False) -> None:
        """Store descriptors; several are one there. With ``more``, others of that name come into the same place.

        Raises Limit where no more would come back.
        """
        kept = self._kept.get(name)
        if kept is None or kept.bundle is None:
            kept = self._begin(name, fds, more)
        else:
            with _limit():
                kept.bundle.put(fds)
            kept.note(fds, 0)
        if not more:
            kept.seal()

    def _begin(self, name: str, fds: Sequence[int], more: bool) -> _Kept:
        self._check_room(name)
        if len(fds) == 1 and not more:
            self._give(name, fds[0])
            return self._note(name, fds, 1)
        with _limit():
            bundle = FdBundle()
        try:
            with _limit():
                bundle.put(fds)
            self._give(name, bundle.end)
        except BaseException:
            bundle.close()
            raise
        kept = self._note(name, fds, 1)
        kept.bundle = bundle
        return kept

    def _check_room(self, name: str) -> None:
        if self._count + 1 > self._most:
            raise Limit(
                f"systemd keeps {self._most} descriptors for papad at most (FileDescriptorStoreMax=);"
                " remove sockets or processes, or raise it"
            )
        if self._count + 1 > self._most_open:
            raise Limit(
                f"papad may be started with {self._most_open} kept descriptors at most (LimitNOFILE=);"
                " remove sockets or processes, or raise it"
            )
        if self._name_bytes + len(name) + 1 > _MAX_NAMES:
            raise Limit(f"the names of all kept descriptors have {_MAX_NAMES} bytes at most: they come in one variable")

    @staticmethod
    def _give(name: str, fd: int) -> None:
        # FDPOLL=0: systemd would drop a pipe whose writer has gone, with what is unread in it.
        notifications.keep(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", fd)

    async def kept(self) -> None:
        """Wait until systemd has what it was given. Raises Limit if it does not take that in time."""
        await notifications.kept()

    def execute_again(self, others: Mapping[str, Sequence[int]]) -> NoReturn:
        """Become papad's new version: the same PID, started with the descriptors as systemd would start it."""
        pairs = [(name, fd) for name, fds in others.items() for fd in fds]
        for name, kept in self._kept.items():
            pairs += ((name, fd) for fd in kept.as_stored())
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

    def remove(self, name: str) -> None:
        """Let go of all descriptors of a name."""
        if (kept := self._kept.pop(name, None)) is not None:
            self._note_slots(name, -kept.slots)
            kept.seal()
        remove_stored(name)
