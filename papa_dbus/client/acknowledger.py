"""Tells papad what a watch's reader has dealt with, one call at a time."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from papa_dbus.client.link import KernelConnection
from papa_dbus.client.open_watches import WatchId
from papa_dbus.errors import NoReply, NotFound, PapaError, Unreachable


class Acknowledged(Protocol):
    """The watch, as it hears what becomes of its acknowledgements."""

    @property
    def open_as(self) -> WatchId | None:
        """Return the watch that papad has for it and that takes acknowledgements, None while there is none."""

    def on_acknowledged(self, up_to: Iterable[tuple[str, int]]) -> None:
        """Note that papad has these: processes and sequence numbers."""

    def give_up(self, key: WatchId) -> None:
        """Do without a watch that is not there, or does not answer."""

    def fail(self, error: PapaError) -> None:
        """End, since papad takes no acknowledgement of it."""


class Acknowledger:
    """Sends those of one watch; what is dealt with while an answer is awaited goes with the next call."""

    def __init__(self, link: KernelConnection, watch: Acknowledged) -> None:
        self._link = link
        self._watch = watch
        self._up_to: dict[str, int] = {}  # to be acknowledged
        self._sender: asyncio.Task[None] | None = None

    def send(self, name: str, seq: int) -> None:
        """Acknowledge all of a process's records up to this one."""
        self._up_to[name] = seq
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._send())

    def clear(self) -> None:
        """Forget what was not sent: the watch has gone, and what it sent comes again."""
        self._up_to.clear()

    async def settle(self) -> None:
        """Wait until papad has what was acknowledged, or has gone; no longer than for a call."""
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=self._link.timeout)

    async def _send(self) -> None:
        while self._up_to and (key := self._watch.open_as) is not None:
            up_to, self._up_to = self._up_to, {}
            try:
                there = await self._acknowledge(key, up_to)
            except (NoReply, Unreachable):
                self._watch.give_up(key)
                continue
            except PapaError as error:
                self._watch.fail(error)
                return
            if self._watch.open_as != key:
                continue  # what the answer says of an earlier watch is not known of this one
            if not there:
                self._watch.give_up(key)
                continue
            self._watch.on_acknowledged(up_to.items())

    async def _acknowledge(self, key: WatchId, up_to: dict[str, int]) -> bool:
        """Acknowledge; returns whether the watch is there."""
        try:
            await self._link.watches.acknowledge(key, up_to)
        except NotFound:
            if not await self.is_there(key):
                return False
            # One of them has been removed: the others are to be acknowledged all the same.
            if len(up_to) > 1:
                return all([await self._acknowledge(key, {name: seq}) for name, seq in up_to.items()])
        return True

    async def is_there(self, key: WatchId) -> bool:
        """Return whether papad still has the watch."""
        try:
            await self._link.watches.acknowledge(key, {})
        except NotFound:
            return False
        return True
