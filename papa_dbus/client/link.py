"""A client's way to papad: finds its bus, makes calls that outlast a restart, and passes on what watches get.

Knows who serves papad's name at the moment: only what comes from there is believed.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

from papa_dbus.bus import Bus, Message, MessageType
from papa_dbus.bus.bus import DRIVER
from papa_dbus.bus.name_owner import NameOwner
from papa_dbus.errors import JOIN, AccessDenied, BusFull, Late, Limit, NoReply, NotStarted, PapaError, Unreachable
from papa_dbus.names import BUS_NAME, OBJECT_PATH

#: Seconds between two tries of a call, where nothing tells that papad is back.
_PAUSE = 0.25
#: Seconds before what papad or the bus has refused for now is tried again: at first, and at most.
_REFUSED = (0.05, 2.0)
#: Calls of one connection under way, and calls about its watches: dbus-daemon takes 128 of both together, papad itself
#: and what it asks the bus included.
MAX_CALLS = 64
MAX_WATCH_CALLS = 32

#: How dbus-daemon and dbus-broker begin what they say of a refusal of theirs, with all that they know of both ends.
_BUS_DENIES = ("Rejected send message", "Sender is not authorized")
#: What is said in its place, since the bus knows no reason.
NOT_A_MEMBER = f"only root and the members of the group papa may talk to papad: {JOIN}"

WatchId = tuple[str, int]  # papad's unique name on the bus, and the watch's number there


class Watcher(Protocol):
    """What gets a watch's signals."""

    def on_signal(self, member: str, body: list[Any]) -> None:
        """Take one signal of the watch, without the watch's number."""

    def on_disconnect(self) -> None:
        """papad, or the way to it, has gone, and the watch with it."""


class KernelConnection:
    """One client's connection to papad. ``timeout`` bounds each call, in seconds, restarts included."""

    def __init__(self, bus: Bus, timeout: float) -> None:
        self.timeout = timeout
        self.takes_tokens = True  # whether papad knows the option 'token', as far as is known
        self._bus = bus
        self._owner: str | None = None
        self._departures = 0  # how often papad, or the bus, has gone
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._watch_calls = asyncio.Semaphore(MAX_WATCH_CALLS)
        self._changed = asyncio.Event()
        self._watchers: dict[WatchId, Watcher] = {}
        self._opening = 0
        self._early: dict[WatchId, list[Message]] = {}  # signals of watches whose number is not known yet
        self._leaving: dict[WatchId, asyncio.Task[None]] = {}  # watches that are being ended
        self._closed = False

    async def start(self) -> None:
        """Begin to follow who serves papad's name."""
        name = NameOwner(self._bus, BUS_NAME, self._set_owner)
        self._bus.on_connected.append(name.find)
        self._bus.on_signal.append(self._hear)
        self._bus.on_lost = self._lose_bus
        await name.find()

    async def close(self) -> None:
        """Leave the bus; papad ends this client's watches then."""
        self._closed = True
        self._set_owner(None)
        for task in self._leaving.values():
            task.cancel()
        await self._bus.close()

    @property
    def bus(self) -> Bus:
        """Return the bus, for what else is to be asked there."""
        return self._bus

    def fileno(self) -> int:
        """Return the connection's descriptor. Raises Unreachable while there is none."""
        return self._bus.fileno()

    # -------------------------------------------------------------- papad

    def _lose_bus(self) -> None:
        self._departures += 1
        self._set_owner(None)

    def _set_owner(self, owner: str | None) -> None:
        if owner == self._owner:
            return
        self._departures += self._owner is not None
        self._owner = owner
        self.takes_tokens = True  # it may be another version
        self._early.clear()
        lost, self._watchers = self._watchers, {}
        for watcher in lost.values():
            watcher.on_disconnect()
        self._changed.set()

    @property
    def present(self) -> bool:
        """Return whether papad is on the bus now."""
        return self._owner is not None

    async def wait_for_kernel(self) -> None:
        """Wait until papad is on the bus; it is not started for that."""
        while not self.present:
            self._changed.clear()
            await self._changed.wait()

    # ------------------------------------------------------------------- calls

    async def call(
        self,
        member: str,
        signature: str = "",
        *body: Any,
        interface: str = BUS_NAME,
        path: str = OBJECT_PATH,
        again: bool = True,
        auto_start: bool = True,
    ) -> Message:
        """Call papad; while it is away the call is made again, for ``timeout`` seconds in all.

        So it is while the bus takes no more: dbus-daemon starts papad for 512 calls at a time. A call that was
        under way when papad went away is made again, too, if ``again``. One that is only late is not: it may
        still be done. Raises papad's error, Unreachable if papad did not come back, NotStarted at once if systemd
        refuses to start it, Late if it took too long, NoReply if it went away during a call that must not be made
        twice, and Limit if too many calls are under way for this one to begin.
        """
        end = asyncio.get_running_loop().time() + self.timeout
        try:
            async with asyncio.timeout_at(end):
                await self._calls.acquire()
        except TimeoutError:
            raise Limit(
                f"{member} was not called: {MAX_CALLS} calls of this client have no answer yet; await some"
            ) from None
        try:
            while True:
                left = max(end - asyncio.get_running_loop().time(), 0.001)
                departures = self._departures
                try:
                    return await self._bus.call(BUS_NAME, path, interface, member, signature, body, left, auto_start)
                except AccessDenied as error:
                    raise _with_remedy(error) from None
                except Late:
                    raise self._late(member) from None
                except NoReply as error:
                    if self._closed or not again or not await self._has_gone(departures):
                        raise
                    self._give_up_at(end, error)
                except NotStarted:
                    raise
                except Unreachable as error:
                    self._give_up_at(end, error)
                await self._pause()
        finally:
            self._calls.release()

    def _late(self, member: str) -> Late:
        if self.present:
            return Late(f"papad did not answer {member} in {self.timeout:.3g} s; it may still do it")
        return Late(
            f"papad did not start in {self.timeout:.3g} s, and may still do {member} if it does;"
            " 'journalctl --unit=papa' says why"
        )

    def _give_up_at(self, end: float, error: PapaError) -> None:
        """Raise the error if there is no time for another try."""
        if self._closed or end - asyncio.get_running_loop().time() <= _PAUSE:
            raise error

    async def _has_gone(self, departures: int) -> bool:
        """Return whether papad, or the bus, has gone since: the bus's answer comes after the news of it."""
        try:
            await self._bus.call(*DRIVER, "GetNameOwner", "s", [BUS_NAME])
        except (BusFull, Late):
            return False
        except (NoReply, Unreachable):
            return True
        return self._departures != departures

    async def ping(self) -> None:
        """Check once that papad answers; the bus starts it if it can. Raises Unreachable, NoReply, AccessDenied."""
        try:
            await self._bus.call(BUS_NAME, OBJECT_PATH, "org.freedesktop.DBus.Peer", "Ping", timeout=self.timeout)
        except AccessDenied as error:
            raise _with_remedy(error) from None

    async def _pause(self) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await self._changed.wait()

    # ----------------------------------------------------------------- watches

    async def open_watch(
        self, watcher: Watcher, patterns: Sequence[str], options: dict[str, Any], auto_start: bool
    ) -> tuple[WatchId, list[str]]:
        """Begin a watch; ``watcher`` hears its signals from the first one on."""
        self._opening += 1
        try:
            while True:
                reply = await self.call("Watch", "asa{sv}", list(patterns), options, auto_start=auto_start)
                if reply.sender == self._owner:  # else it has gone again already
                    break
            key = (reply.sender, reply.body[0])
            self._watchers[key] = watcher
            for signal in self._early.pop(key, []):
                self._pass_on(signal)
            return key, reply.body[1]
        finally:
            self._opening -= 1
            if not self._opening:
                left, self._early = self._early, {}
                for nobodys in left:
                    self.abandon_watch(nobodys)

    async def call_watch(self, key: WatchId, member: str, signature: str, *body: Any) -> None:
        """Call the papad that has the watch, and no other, without starting or waiting for one.

        What is refused for now, or late, is tried again for as long as that papad is there: such a call may be made
        twice. Raises NoReply or Unreachable once it has gone.
        """
        pause, longest = _REFUSED
        while True:
            try:
                async with self._watch_calls:
                    arguments = (key[1], *body)
                    await self._bus.call(key[0], OBJECT_PATH, BUS_NAME, member, signature, arguments, self.timeout)
                return
            except (BusFull, Late, Limit):
                if self._owner != key[0]:
                    raise NoReply(f"papad went away during {member}") from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def close_watch(self, key: WatchId) -> None:
        """End a watch, and pass on no more of it. Waits for that as long as for a call."""
        await asyncio.wait([self.abandon_watch(key)], timeout=self.timeout)

    def abandon_watch(self, key: WatchId) -> "asyncio.Task[None]":
        """End a watch that nobody listens to any more: it would hold everything back."""
        self._watchers.pop(key, None)
        task = self._leaving.get(key)
        if task is None:
            task = self._leaving[key] = asyncio.ensure_future(self._unwatch(key))
            task.add_done_callback(lambda _: self._leaving.pop(key))
        return task

    async def _unwatch(self, key: WatchId) -> None:
        with contextlib.suppress(PapaError):  # it has ended, or papad has
            await self.call_watch(key, "Unwatch", "t")

    def _hear(self, signal: Message) -> None:
        if signal.message_type is not MessageType.SIGNAL:
            return
        if signal.interface == BUS_NAME and signal.sender == self._owner and signal.path == OBJECT_PATH:
            self._pass_on(signal)

    def _pass_on(self, signal: Message) -> None:
        key = (signal.sender, signal.body[0])
        ended = signal.member == "WatchEnded"
        if (watcher := self._watchers.get(key)) is not None:
            if ended:
                del self._watchers[key]
            watcher.on_signal(signal.member, signal.body[1:])
        elif key in self._leaving:
            return
        elif self._opening:
            self._early.setdefault(key, []).append(signal)
        elif not ended:
            self.abandon_watch(key)  # its opener did not wait for the answer


def _with_remedy(error: AccessDenied) -> AccessDenied:
    """Say what to do if it was the bus that refused; papad itself says why it did."""
    return AccessDenied(NOT_A_MEMBER) if str(error).startswith(_BUS_DENIES) else error
