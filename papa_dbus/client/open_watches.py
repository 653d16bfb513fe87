"""The watches that papad has for a client: begun, acknowledged, ended; on a socket each, or by the bus's signals."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from papa_dbus.bus import Bus, Message, MessageType, close_descriptors
from papa_dbus.client.output_socket import OutputSocket, Reader
from papa_dbus.client.records import events_of
from papa_dbus.errors import BusFull, Late, Limit, NoReply, NotSupported, PapaError
from papa_dbus.names import BUS_NAME, OBJECT_PATH

log = logging.getLogger(__name__)

#: Seconds before what papad or the bus has refused for now is tried again: at first, and at most.
_REFUSED = (0.05, 2.0)
#: Calls about watches under way.
MAX_WATCH_CALLS = 32

WatchId = tuple[str, int]  # papad's unique name on the bus, and the watch's number there


class Watcher(Reader, Protocol):
    """Receives a watch's events."""

    def on_disconnect(self) -> None:
        """papad, or the way to it, has gone, and the watch with it."""


class Link(Protocol):
    """The part of the connection to papad (link.py) that is needed here."""

    timeout: float
    owner: str | None

    async def call(self, member: str, signature: str, *body: Any, auto_start: bool) -> Message:
        """Call papad."""


class OpenWatches:
    """Those of one connection."""

    def __init__(self, link: Link, bus: Bus) -> None:
        self._link = link
        self._bus = bus
        self._calls = asyncio.Semaphore(MAX_WATCH_CALLS)
        self._watchers: dict[WatchId, Watcher] = {}
        self._sockets: dict[WatchId, OutputSocket] = {}  # of those of them that have one
        self.uses_sockets = True  # if they can be had
        self.opens_sockets = True  # whether papad knows OpenOutput, and its frames are understood, as far as is known
        self._opening = 0
        self._early: dict[WatchId, list[Message]] = {}  # signals of watches whose number is not known yet
        self._leaving: dict[WatchId, asyncio.Task[None]] = {}  # watches that are being ended

    def lose_all(self) -> None:
        """Note that papad, or the bus, has gone."""
        self.opens_sockets = True  # it may be another version
        self._early.clear()
        for output in self._sockets.values():
            output.close()
        self._sockets.clear()
        lost, self._watchers = self._watchers, {}
        for watcher in lost.values():
            watcher.on_disconnect()

    def forget(self) -> None:
        """End nothing any more: papad does, once this client has left the bus."""
        for task in self._leaving.values():
            task.cancel()

    async def open(
        self, watcher: Watcher, patterns: Sequence[str], options: dict[str, Any], auto_start: bool
    ) -> tuple[WatchId, list[str]]:
        """Begin a watch; ``watcher`` gets its events from the first one on, by a socket if that can be had."""
        self._opening += 1
        try:
            while True:
                reply = await self._begin(patterns, options, auto_start)
                if reply.sender == self._link.owner:
                    break
                close_descriptors(reply)  # it has gone again already
            key = (reply.sender, reply.body[0])
            self._watchers[key] = watcher
            if reply.unix_fds:
                close_descriptors(reply, 1)
                self._sockets[key] = OutputSocket(reply.unix_fds[0], watcher, lambda: self._lose_socket(key))
            for signal in self._early.pop(key, []):
                self._pass_on(signal)
            return key, reply.body[1]
        finally:
            self._opening -= 1
            if not self._opening:
                left, self._early = self._early, {}
                for nobodys in left:
                    self.abandon(nobodys)

    async def _begin(self, patterns: Sequence[str], options: dict[str, Any], auto_start: bool) -> Message:
        arguments = "asa{sv}", list(patterns), options
        if self.uses_sockets and self.opens_sockets and self._bus.passes_descriptors:
            try:
                return await self._link.call("OpenOutput", *arguments, auto_start=auto_start)
            except NotSupported:  # it is older
                self.opens_sockets = False
            except Limit as error:
                log.debug("no socket for a watch, so the bus is used: %s", error)
        return await self._link.call("Watch", *arguments, auto_start=auto_start)

    def _lose_socket(self, key: WatchId) -> None:
        """Note that papad has closed a watch's socket: if it has not ended the watch it goes away, as a rule."""
        output = self._sockets.pop(key)
        self.opens_sockets &= output.understood  # it may be of a later version
        if (watcher := self._watchers.pop(key, None)) is not None and not output.ended:
            watcher.on_disconnect()

    def has_socket(self, key: WatchId) -> bool:
        """Return whether nothing of a watch can be lost on its way."""
        return key in self._sockets

    async def acknowledge(self, key: WatchId, up_to: dict[str, int]) -> None:
        """Acknowledge what a watch has brought. Raises NoReply or Unreachable once its papad has gone."""
        if (output := self._sockets.get(key)) is not None:
            await output.acknowledge(up_to)
        else:
            await self._call(key, "Acknowledge", "ta{st}", up_to)

    async def _call(self, key: WatchId, member: str, signature: str, *body: Any) -> None:
        """Call the papad that has the watch, and no other, without starting or waiting for one.

        What is refused for now, or late, is tried again for as long as that papad is there: such a call may be made
        twice.
        """
        pause, longest = _REFUSED
        while True:
            try:
                async with self._calls:
                    arguments = (key[1], *body)
                    timeout = self._link.timeout
                    await self._bus.call(key[0], OBJECT_PATH, BUS_NAME, member, signature, arguments, timeout)
                return
            except (BusFull, Late, Limit):
                if self._link.owner != key[0]:
                    raise NoReply(f"papad went away during {member}") from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def close(self, key: WatchId) -> None:
        """End a watch, and pass on no more of it. Waits for that as long as for a call."""
        await asyncio.wait([self.abandon(key)], timeout=self._link.timeout)

    def abandon(self, key: WatchId) -> "asyncio.Task[None]":
        """End a watch that nobody listens to any more: it would hold everything back."""
        self._watchers.pop(key, None)
        task = self._leaving.get(key)
        if task is None:
            output = self._sockets.pop(key, None)
            if output is not None:
                output.stop()
            task = self._leaving[key] = asyncio.ensure_future(self._end(key, output))
            task.add_done_callback(lambda _: self._leaving.pop(key))
        return task

    async def _end(self, key: WatchId, output: OutputSocket | None) -> None:
        try:
            with contextlib.suppress(PapaError):  # it has ended, or papad has
                await self._call(key, "Unwatch", "t")
        finally:
            if output is not None:
                output.close()

    def hear(self, signal: Message) -> None:
        """Pass on a signal of one of the watches, if it is one of the papad that is there now."""
        if signal.message_type is not MessageType.SIGNAL:
            return
        if signal.interface == BUS_NAME and signal.sender == self._link.owner and signal.path == OBJECT_PATH:
            self._pass_on(signal)

    def _pass_on(self, signal: Message) -> None:
        key = (signal.sender, signal.body[0])
        ended = signal.member == "WatchEnded"
        if (watcher := self._watchers.get(key)) is not None:
            if ended:
                del self._watchers[key]
                watcher.on_ended(signal.body[1])
            else:
                watcher.on_events(events_of(signal.member, signal.body[1:]))
        elif key in self._leaving:
            return
        elif self._opening:
            self._early.setdefault(key, []).append(signal)
        elif not ended:
            self.abandon(key)  # its opener did not wait for the answer
