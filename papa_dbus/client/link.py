"""A client's way to papad: finds its bus, makes calls that outlast a restart, and passes on what watches get.

Knows who serves papad's name at the moment: only what comes from there is believed.
"""

import asyncio
import contextlib
from typing import Any

from papa_dbus.bus import Bus, Message
from papa_dbus.bus.bus import DRIVER
from papa_dbus.bus.name_owner import NameOwner
from papa_dbus.client.open_watches import OpenWatches
from papa_dbus.errors import JOIN, AccessDenied, BusFull, Late, Limit, NoReply, NotStarted, PapaError, Unreachable
from papa_dbus.names import BUS_NAME, OBJECT_PATH

#: Seconds between two tries of a call, where nothing tells that papad is back.
_PAUSE = 0.25
#: Calls of one connection under way: dbus-daemon takes 128 of these and of those about its watches (open_watches.py),
#: papad itself and what it asks the bus included.
MAX_CALLS = 64

#: How dbus-daemon and dbus-broker begin what they say of a refusal of theirs, with all that they know of both ends.
_BUS_DENIES = ("Rejected send message", "Sender is not authorized")
#: What is said in its place, since the bus knows no reason.
NOT_A_MEMBER = f"only root and the members of the group papa may talk to papad: {JOIN}"


class KernelConnection:
    """One client's connection to papad. ``timeout`` bounds each call, in seconds, restarts included."""

    def __init__(self, bus: Bus, timeout: float) -> None:
        self.timeout = timeout
        self.takes_tokens = True  # whether papad knows the option 'token', as far as is known
        self._bus = bus
        self.owner: str | None = None  # papad's unique name on the bus
        self.watches = OpenWatches(self, bus)
        self._departures = 0  # how often papad, or the bus, has gone
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._changed = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Begin to follow who serves papad's name."""
        name = NameOwner(self._bus, BUS_NAME, self._set_owner)
        self._bus.on_connected.append(name.find)
        self._bus.on_signal.append(self.watches.hear)
        self._bus.on_lost = self._lose_bus
        await name.find()

    async def close(self) -> None:
        """Leave the bus; papad ends this client's watches then."""
        self._closed = True
        self._set_owner(None)
        self.watches.forget()
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
        if owner == self.owner:
            return
        self._departures += self.owner is not None
        self.owner = owner
        self.takes_tokens = True  # it may be another version
        self.watches.lose_all()
        self._changed.set()

    @property
    def present(self) -> bool:
        """Return whether papad is on the bus now."""
        return self.owner is not None

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


def _with_remedy(error: AccessDenied) -> AccessDenied:
    """Say what to do if it was the bus that refused; papad itself says why it did."""
    return AccessDenied(NOT_A_MEMBER) if str(error).startswith(_BUS_DENIES) else error
