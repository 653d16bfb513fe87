"""Who may talk to the kernel: one set of rules, which every front end asks.

Root and papad's own user may. On the system's bus and port so may the members of the group ``papa``, and whom polkit
authorizes where polkit is there. Knows no protocol; the kernel knows nothing of it. Nobody is let in for good: a front
end asks again at each command, so that who leaves the group is out at once.
"""

import enum
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

from papa_dbus.errors import JOIN, AccessDenied, PapaError
from papa_dbus.service.access import group_members, peer_credentials
from papa_dbus.service.caller import Caller
from papa_dbus.service.log_budget import LogBudget

#: The group whose members are served where papad is the system's.
GROUP: Final = "papa"
_MAX_NOTED = 1024


class Right(enum.Enum):
    """What a call needs; polkit's actions are named so. Who is served without polkit has both."""

    MANAGE = "org.papa.kernel.manage"
    INSPECT = "org.papa.kernel.inspect"


#: Asks polkit: bus name, right, and whether the person may be asked for a password meanwhile.
AskPolkit = Callable[[str, Right, bool], Awaitable[bool]]


class Access:
    """Lets callers in, or raises AccessDenied with a text that says who may.

    ``group`` None: nobody but root and papad's own user, as on a user's own bus.
    """

    def __init__(self, group: str | None = None, polkit: AskPolkit | None = None) -> None:
        self.group = group
        self._place = ""  # for the text of a refusal, if another front end serves others
        self._remedy = JOIN if group else ""
        self._members = group_members.Members(group) if group is not None else None
        self._polkit = polkit
        self._authorized: dict[tuple[str, Right], float] = {}
        #: For every record that somebody without rights can cause, at whichever front end.
        self.budget = LogBudget()

    caller_of = staticmethod(peer_credentials.caller_of)

    def without_group(self, place: str, remedy: str) -> "Access":
        """Return the rules for a place that serves root and papad's own user only; both share one log budget."""
        narrow = Access()
        narrow._place, narrow._remedy, narrow.budget = place, remedy, self.budget
        return narrow

    def admits(self, caller: Caller, right: Right = Right.MANAGE) -> bool:
        """Return whether the caller is known to be admitted now; if not, check() finds out."""
        if caller.uid in (0, os.geteuid()):
            return True
        if self._members is not None and self._members.known(caller.uid):
            return True
        return self._authorized.get((caller.at, right), 0.0) > time.monotonic()

    def expects(self, caller: Caller) -> bool:
        """Return whether the caller is admitted, or was some minutes ago, so that strangers must not be in its way."""
        return self.admits(caller) or (self._members is not None and self._members.was_member(caller.uid))

    async def check(self, caller: Caller, right: Right = Right.MANAGE, interactive: bool = False) -> None:
        """Raise AccessDenied unless the caller may do that now."""
        if self.admits(caller, right) or await self.belongs(caller):
            return
        if not await self.is_authorized(caller, right, interactive):
            raise self.refusal(caller)

    async def belongs(self, caller: Caller) -> bool:
        """Return whether the caller has every right without polkit. Raises AccessDenied if that cannot be found out."""
        if caller.uid in (0, os.geteuid()):
            return True
        return self._members is not None and await self._members.has(caller.uid)

    def refusal(self, caller: Caller) -> AccessDenied:
        """Return what a caller is told who may not."""
        who = " and ".join([f"root{_own_user()}", *([f"the group {self.group}"] if self.group else [])])
        remedy = f": {self._remedy}" if self._remedy else ""
        return AccessDenied(f"papad serves {who}{self._place}; you are user {caller.uid}{remedy}")

    async def is_authorized(self, caller: Caller, right: Right, interactive: bool) -> bool:
        """Return whether polkit authorizes the caller."""
        if (
            self._polkit is None
            or not caller.at.startswith(":")
            or not await self._polkit(caller.at, right, interactive)
        ):
            return False
        if len(self._authorized) >= _MAX_NOTED:
            self._authorized.clear()
        self._authorized[caller.at, right] = time.monotonic() + group_members.FRESH
        return True

    def forget_authorized(self) -> None:
        """Forget whom polkit authorizes: another bus gives the same names to others."""
        self._authorized.clear()

    def note_refusal(self, caller: Caller, error: PapaError) -> None:
        """Log a refusal, as far as the budget for what strangers can have logged goes."""
        self.budget.warn("%s was refused: %s", caller, error, extra={"PAPA_CALLER_UID": str(caller.uid)})


def _own_user() -> str:
    return f", user {os.geteuid()}" if os.geteuid() else ""
