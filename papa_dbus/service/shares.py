"""How much of something bounded each holder has: a sender, the user whose sender that is, and all users together."""

from typing import Final, Optional
from weakref import WeakValueDictionary

_RANGE_BITS: Final = 16  # useradd(8) gives so many subordinate users


def range_of(uid: int) -> int:
    """Return the range in which a user is: who can act as thousands of subordinate ones (subuid(5)) has them in one."""
    return uid >> _RANGE_BITS


class Share:
    """What one holder has. Its ``parent`` is what all holders beside it have together.

    A holder never gets more than it leaves to the others, so that whoever comes next finds room: one alone has half of
    the parent's bound at most, two have a third each.
    """

    __slots__ = ("__weakref__", "held", "most", "parent")

    def __init__(self, most: int, parent: Optional["Share"] = None) -> None:
        self.held = 0
        self.most = most
        self.parent = parent

    def has_room(self, size: int = 1) -> bool:
        """Return whether so much more can be had."""
        share: Share | None = self
        while share is not None:
            if share.held + size > share.most:
                return False
            parent = share.parent
            if parent is not None and share.held + size > parent.most - parent.held:
                return False
            share = parent
        return True

    def take(self, size: int = 1) -> None:
        """Have so much more."""
        share: Share | None = self
        while share is not None:
            share.held += size
            share = share.parent

    def give(self, size: int = 1) -> None:
        """Have so much less."""
        self.take(-size)

    def move(self, parent: "Share") -> None:
        """Hold the same beside other holders, though it may be more than there is room for."""
        if self.parent is not None:
            self.parent.give(self.held)
        self.parent = parent
        parent.take(self.held)


class Shares:
    """The shares of holders that come and go: each lives as long as somebody keeps it.

    Or those of users, in the place of senders, and of ranges, in that of users.
    """

    def __init__(self, of_one: int, of_user: int, in_all: int) -> None:
        self._of_one, self._of_user = of_one, of_user
        self._all = Share(in_all)
        self._users: WeakValueDictionary[int | None, Share] = WeakValueDictionary()
        self._holders: WeakValueDictionary[tuple[int | None, str], Share] = WeakValueDictionary()

    @property
    def held(self) -> int:
        """Return what all have together."""
        return self._all.held

    def of(self, uid: int | None, name: str) -> Share:
        """Return the share of a user's holder of that name."""
        share = self._holders.get((uid, name))
        if share is None:
            user = self._users.get(uid)
            if user is None:
                user = self._users[uid] = Share(self._of_user, self._all)
            share = self._holders[uid, name] = Share(self._of_one, user)
        return share
