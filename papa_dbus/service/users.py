"""Who is a member of a group, as the machine's user database has it now; the loop never waits for it.

The database may be a directory on another machine, and libc can only ask it by waiting. So it is asked in a thread, as
for host names: one for each user at a time, a few in all, and each answer is awaited for a bounded time.

An answer is used until one of the database's local files changes, and for a second at most: who leaves a local group
is out at once, who leaves a directory's group once the machine's own cache of that directory says so.
"""

import asyncio
import contextlib
import grp
import os
import pwd
import threading
import time
from collections import OrderedDict
from typing import Final

from papa_dbus.errors import AccessDenied

#: Seconds for which an answer is used.
FRESH: Final = 1.0
#: Seconds for the database to answer, and look-ups under way at a time.
TIMEOUT: Final = 5.0
MAX_ASKED: Final = 8
_MAX_KNOWN = 1024
_FILES = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf")

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Members:
    """The members of one group."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._known: OrderedDict[int, tuple[bool, float, _Stamp]] = OrderedDict()
        self._asked: dict[int, asyncio.Future[bool]] = {}

    def known(self, uid: int) -> bool | None:
        """Whether the user is a member, None where it has to be asked."""
        answer = self._known.get(uid)
        if answer is None or answer[1] < time.monotonic() or answer[2] != _stamp():
            return None
        return answer[0]

    async def has(self, uid: int) -> bool:
        """Whether the user is a member. Raises AccessDenied where that cannot be found out."""
        known = self.known(uid)
        if known is not None:
            return known
        if uid not in self._asked:
            if len(self._asked) >= MAX_ASKED:
                raise AccessDenied(f"the user database answers slowly, and {MAX_ASKED} questions wait already")
            self._ask(uid)
        try:
            async with asyncio.timeout(TIMEOUT):
                return await asyncio.shield(self._asked[uid])
        except TimeoutError:
            raise AccessDenied(f"the user database did not say in {TIMEOUT:.0f} s who user {uid} is") from None

    def _ask(self, uid: int) -> None:
        loop = asyncio.get_running_loop()
        stamp = _stamp()  # before the question: a change meanwhile makes the answer stale
        answer = self._asked[uid] = loop.create_future()

        def note(member: bool) -> None:
            del self._asked[uid]
            self._known[uid] = (member, time.monotonic() + FRESH, stamp)
            self._known.move_to_end(uid)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
            answer.set_result(member)

        def work() -> None:
            member = is_member(self.group, uid)
            with contextlib.suppress(RuntimeError):  # papad has ended
                loop.call_soon_threadsafe(note, member)

        # A daemon: papad's end does not wait for a directory that hangs.
        threading.Thread(target=work, name=f"user {uid}", daemon=True).start()


def is_member(group: str, uid: int) -> bool:
    """Whether a user's own or supplementary groups have this one among them. Blocks."""
    try:
        gid = grp.getgrnam(group).gr_gid
        user = pwd.getpwuid(uid)
        return user.pw_gid == gid or gid in os.getgrouplist(user.pw_name, user.pw_gid)
    except (KeyError, OSError):
        return False


def _stamp() -> _Stamp:
    return tuple(_file_stamp(file) for file in _FILES)


def _file_stamp(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
