"""Calls from the bus that wait, and whose turn it is: one of each user, and of each of a user's senders one.

All calls come through one socket, in the order in which they were sent. They are taken off it without being looked
into and wait here, so that a sender's one call does not wait for another's thousand.
"""

import asyncio
from collections import deque
from typing import Final

from papa_dbus.bus import Message
from papa_dbus.errors import PapaError
from papa_dbus.service.caller import Caller
from papa_dbus.service.shares import Share

#: Bytes that a call costs beside its own: what papad knows of it.
_COST_OF_CALL: Final = 1024


class User:
    """A user with calls: what they have waiting together, and the senders whose turn comes."""

    __slots__ = ("__weakref__", "_questions", "is_ours", "ring", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.is_ours: bool | None = None  # root, papad's own, the group's; None until that is known
        self.ring: deque[Sender] = deque()
        self._questions: dict[bool, asyncio.Lock] = {}

    def question(self, interactive: bool) -> asyncio.Lock:
        """Return the lock for one question to polkit at a time: one that waits for a person holds up its kind alone."""
        return self._questions.setdefault(interactive, asyncio.Lock())


class Sender:
    """A connection to the bus, what is known of it, and its calls that wait, in order."""

    __slots__ = (
        *("admitted", "answering", "asking", "caller", "calls", "held_up", "in_turn", "name", "refusal", "share"),
        "user",
    )

    def __init__(self, name: str, most: int, user: User) -> None:
        self.name = name
        self.user = user
        self.share = Share(most, user.share)
        self.calls: deque[Message] = deque()
        self.caller: Caller | None = None
        self.asking = False  # the first call waits for an answer
        self.answering = False  # a call is answered in steps: the next one waits, so that they stay in order
        self.held_up = False  # until it has read what it was answered
        self.admitted = False  # the first call has had a good one
        self.refusal: PapaError | None = None  # why none of its calls is run
        self.in_turn = False

    def put(self, call: Message) -> bool:
        """Have a call wait; returns whether there is room."""
        cost = call.size + _COST_OF_CALL
        if not self.share.has_room(cost):
            return False
        self.share.take(cost)
        self.calls.append(call)
        return True

    def take(self) -> Message:
        """Take the first call."""
        call = self.calls.popleft()
        self.share.give(call.size + _COST_OF_CALL)
        return call

    def take_last(self) -> Message:
        """Take the last call."""
        call = self.calls.pop()
        self.share.give(call.size + _COST_OF_CALL)
        return call

    def belong_to(self, user: User) -> None:
        """Note whose sender it is."""
        if self.user is not user:
            self.user = user
            self.share.move(user.share)

    @property
    def has_too_much(self) -> bool:
        """Return whether more waits than may wait for the answer that the first call needs."""
        return len(self.calls) > 1 and self.user.share.held > self.user.share.most

    @property
    def can_go_on(self) -> bool:
        """Return whether there is anything to be done for it now."""
        if self.answering or self.held_up:
            return False
        return self.has_too_much if self.asking else bool(self.calls)


class Turns:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._ring: deque[User] = deque()  # those with senders in their own

    def __bool__(self) -> bool:
        return bool(self._ring)

    def add(self, sender: Sender) -> None:
        """Give a sender a turn, after those that wait for theirs."""
        if sender.in_turn or not sender.can_go_on:
            return
        sender.in_turn = True
        if not sender.user.ring:
            self._ring.append(sender.user)
        sender.user.ring.append(sender)

    def next(self) -> Sender:
        """Return the sender whose turn it is."""
        user = self._ring.popleft()
        sender = user.ring.popleft()
        sender.in_turn = False
        if user.ring:
            self._ring.append(user)
        return sender
