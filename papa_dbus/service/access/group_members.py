"""The members of a group, as the machine's user database has it now; the loop never waits for it.

The database may be a directory on another machine, and libc can only ask it by waiting. So it is asked in a thread, as
for host names: one for each user at a time, a few in all, and each answer is awaited for a bounded time.

An answer is used until one of the database's local files changes, and for a second at most: who leaves a local group
is out at once, who leaves a directory's group once the machine's own cache of that directory says so. Whom the local
files alone make a member need not be asked for, and has no part in what the directory does. A late answer is
not replaced by an older one. But a user who was a member a few minutes ago is asked for in threads that strangers
cannot take, however many of those come while the directory is slow. One who can act as thousands of users, as the owner
of subordinate ones can (subuid(5)), has them in one range: of each range a few are asked for at a time, so that after
papad's start, when it remembers nobody, they do not keep out members of other ranges.
"""

import asyncio
import contextlib
import grp
import os
import pwd
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from papa_dbus.errors import AccessDenied
from papa_dbus.service.group_list import groups_of
from papa_dbus.service.lookups import Slots
from papa_dbus.service.shares import range_of

#: Seconds for which an answer is used.
FRESH: Final = 1.0
#: Seconds for the database to answer.
TIMEOUT: Final = 10.0
#: Questions under way at a time, each of which takes a thread: about strangers, and about users who were members. More
#: wait until one is answered, as long as their askers wait.
MAX_ASKED: Final = 32
#: About strangers of one range of user numbers.
MAX_ASKED_OF_RANGE: Final = 8
MAX_ASKED_MEMBERS: Final = 64
#: Seconds for which it is remembered that a user was a member, and how many such users, and how many others.
REMEMBERED: Final = 600.0
MAX_KNOWN_MEMBERS: Final = 1024
MAX_KNOWN_STRANGERS: Final = 1024
_FILES = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf")
#: What of nsswitch.conf(5) has to have the local files first, if it is there.
_DATABASES: Final = frozenset({"passwd", "group", "initgroups"})

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    stamp: _Stamp

    def is_fresh(self, stamp: _Stamp) -> bool:
        return time.monotonic() < self.at + FRESH and self.stamp == stamp


class Members:
    """The members of one group."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._local: tuple[_Stamp, frozenset[int]] = ((), frozenset())
        self._members: OrderedDict[int, _Answer] = OrderedDict()
        self._strangers: OrderedDict[int, _Answer] = OrderedDict()
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._slots = {
            True: Slots(MAX_ASKED_MEMBERS, MAX_ASKED_MEMBERS),
            False: Slots(MAX_ASKED_OF_RANGE, MAX_ASKED),
        }

    def known(self, uid: int) -> bool | None:
        """Return whether the user is a member, None if that has to be asked."""
        stamp = _stamp()
        if self._local[0] != stamp:
            self._local = stamp, local_members(self.group)
        if uid in self._local[1]:
            return True
        for member, answers in ((True, self._members), (False, self._strangers)):
            answer = answers.get(uid)
            if answer is not None and answer.is_fresh(stamp):
                return member
        return None

    def was_member(self, uid: int) -> bool:
        """Return whether the user was a member when asked for last, some minutes ago at most. That admits nobody."""
        answer = self._members.get(uid)
        return answer is not None and time.monotonic() < answer.at + REMEMBERED

    async def has(self, uid: int) -> bool:
        """Return whether the user is a member. Raises AccessDenied if that cannot be found out."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while (known := self.known(uid)) is None:
                    await self._find_out(uid)
                return known
        except TimeoutError:
            raise AccessDenied(
                f"the user database did not say in {TIMEOUT:.0f} s who user {uid} is; try again later"
            ) from None

    async def _find_out(self, uid: int) -> None:
        """Wait for an answer, which is stale if the database has changed since the question."""
        if uid not in self._asked:
            free = await self._slots[self.was_member(uid)].take(range_of(uid))
            if uid in self._asked or self.known(uid) is not None:  # by another caller, meanwhile
                free()
            else:
                self._ask(uid, free)
        if (asked := self._asked.get(uid)) is not None:
            await asyncio.shield(asked)

    def _ask(self, uid: int, free: Callable[[], None]) -> None:
        """Ask in a thread, which gives its slot back. Raises AccessDenied, and leaves nothing behind, without one."""
        loop = asyncio.get_running_loop()
        stamp = _stamp()  # before the question: a change meanwhile makes the answer stale
        answer: asyncio.Future[None] = loop.create_future()

        def note(member: bool) -> None:
            del self._asked[uid]
            free()
            self._note(uid, member, stamp)
            answer.set_result(None)

        def work() -> None:
            member = is_member(self.group, uid)
            with contextlib.suppress(RuntimeError):  # papad has ended
                loop.call_soon_threadsafe(note, member)

        # A daemon: papad's end does not wait for a directory that hangs.
        thread = threading.Thread(target=work, name=f"user {uid}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # EAGAIN: the machine, or papad's user, has as many threads as it may
            free()
            raise AccessDenied(f"there is no thread left in which to ask who user {uid} is; try again later") from None
        self._asked[uid] = answer

    def _note(self, uid: int, member: bool, stamp: _Stamp) -> None:
        self._members.pop(uid, None)
        self._strangers.pop(uid, None)
        answers, most = (self._members, MAX_KNOWN_MEMBERS) if member else (self._strangers, MAX_KNOWN_STRANGERS)
        answers[uid] = _Answer(time.monotonic(), stamp)
        if len(answers) > most:
            answers.popitem(last=False)


def is_member(group: str, uid: int) -> bool:
    """Return whether a user's own or supplementary groups have this one among them. Blocks; never raises."""
    try:
        gid = grp.getgrnam(group).gr_gid
        user = pwd.getpwuid(uid)
        return user.pw_gid == gid or gid in groups_of(user.pw_name, user.pw_gid)
    except Exception:  # noqa: BLE001 (no such group or user, or whatever the database says: its slot must be free again)
        return False


def local_members(group: str) -> frozenset[int]:
    """Return the users who are members by the local files, if libc asks those first: others can only add to that.

    Never raises: whoever cannot be found out here is asked for.
    """
    passwd, groups, switch = _FILES
    if not all(sources[:1] == ["files"] for sources in _sources(switch)):
        return frozenset()
    of_group = next((entry for entry in _entries(groups, 4) if entry[0] == group), None)
    if of_group is None:
        return frozenset()
    gid, names = of_group[2], frozenset(of_group[3].split(","))
    users: dict[str, bool] = {}
    for name, _, uid, own_gid, *_ in _entries(passwd, 7):
        users.setdefault(uid, own_gid == gid or name in names)  # libc takes the first of a user, too
    return frozenset(int(uid) for uid, is_one in users.items() if is_one)


def _sources(switch: str) -> list[list[str]]:
    """Return what each database that counts is asked of, in order. The files are first where nothing is said."""
    said = [line.partition("#")[0].partition(":") for line in _lines(switch)]
    return [sources.split() for name, _, sources in said if name.strip() in _DATABASES]


def _entries(file: str, fields: int) -> Iterator[list[str]]:
    entries = (line.split(":") for line in _lines(file))
    return (entry for entry in entries if len(entry) == fields and entry[2].isdecimal())


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _stamp() -> _Stamp:
    return tuple(_file_stamp(file) for file in _FILES)


def _file_stamp(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
