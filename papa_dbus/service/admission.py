"""Which calls from the bus are let through: it is known who sent each, and that the sender may.

The policy file of the bus says the same, but it may be wrong or missing. So the bus is asked once for each sender whose
it is, and ``access`` at each call. What has to be asked is awaited without holding up anybody else; the calls of one
sender stay in their order. A call whose sender has left before that could be asked is not run.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from typing import Any

from papa_dbus.bus import Bus, Message, MessageFlag
from papa_dbus.errors import AccessDenied, Limit, PapaError
from papa_dbus.service import limits
from papa_dbus.service.access import Access, Right
from papa_dbus.service.audit import Caller

log = logging.getLogger(__name__)

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_ASK_TIMEOUT = 10.0


class _Queue:
    """What one sender waits for."""

    def __init__(self) -> None:
        self.calls: deque[tuple[Message, Right]] = deque()
        self.bytes = 0


class Admission:
    """``serve`` gets the calls that may be run, ``refuse`` the others.

    ``expel`` is told of who may hear no more output, ``resume`` when output that was held back may go on.
    """

    def __init__(
        self,
        bus: Bus,
        access: Access,
        serve: Callable[[Message, Caller], None],
        refuse: Callable[[Message, Exception], None],
    ) -> None:
        self._bus = bus
        self._access = access
        self._serve = serve
        self._refuse = refuse
        self.expel: Callable[[str], None] = lambda sender: None
        self.resume: Callable[[], None] = lambda: None
        # A unique name is never another's as long as the bus lives, so what is known of it stays true.
        self._callers: OrderedDict[str, Caller] = OrderedDict()
        self._waiting: dict[str, _Queue] = {}
        self._count = self._bytes = 0
        self._listeners: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, call: Message, right: Right) -> None:
        """Serve a call now, or as soon as all is known that it takes."""
        sender = call.sender
        waiting = self._waiting.get(sender)
        if waiting is None:
            caller = self._callers.get(sender)
            if caller is not None and self._access.admits(caller, right):
                self._serve(call, caller)
                return
        if not self._has_room(waiting, call.size):
            self._refuse(call, Limit("too many calls wait for papad to find out who sends them; try again later"))
            return
        if waiting is None:
            waiting = self._waiting[sender] = _Queue()
            self._spawn(self._work_off(sender, waiting))
        waiting.calls.append((call, right))
        self._note(waiting, 1, call.size)

    def _has_room(self, waiting: "_Queue | None", size: int) -> bool:
        if self._count >= limits.MAX_UNADMITTED or self._bytes + size > limits.MAX_UNADMITTED_BYTES:
            return False
        return waiting is None or (
            len(waiting.calls) < limits.MAX_UNADMITTED_OF_SENDER
            and waiting.bytes + size <= limits.MAX_UNADMITTED_BYTES_OF_SENDER
        )

    def _note(self, waiting: "_Queue", count: int, size: int) -> None:
        waiting.bytes += size
        self._count += count
        self._bytes += size

    async def _work_off(self, sender: str, waiting: "_Queue") -> None:
        """Decide about one sender's calls, one after the other."""
        while waiting.calls:
            call, right = waiting.calls[0]
            try:
                caller = await self._check(
                    sender, right, bool(call.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION)
                )
            except PapaError as error:
                self._refuse(call, error)
            else:
                self._serve(call, caller)
            waiting.calls.popleft()
            self._note(waiting, -1, -call.size)
        del self._waiting[sender]

    async def _check(self, sender: str, right: Right, interactive: bool = False) -> Caller:
        caller = self._callers.get(sender) or await self._ask(sender)
        try:
            await self._access.check(caller, right, interactive)
        except PapaError as error:
            self._access.note_refusal(caller, error)
            raise
        return caller

    async def _ask(self, sender: str) -> Caller:
        try:
            reply = await self._bus.call(*_BUS, "GetConnectionCredentials", "s", [sender], _ASK_TIMEOUT)
        except PapaError as error:
            if self._bus.connected:  # else the caller has lost papad, too, and knows
                log.warning("a call of %s is not run, since the bus does not say whose it is: %s", sender, error)
            raise AccessDenied(f"the bus does not say who {sender} is: {error}") from None
        known = {name: variant.value for name, variant in reply.body[0].items()}
        if "UnixUserID" not in known:
            raise AccessDenied(f"the bus does not say which user {sender} is")
        caller = Caller(known["UnixUserID"], known.get("ProcessID"), sender)
        self._callers[sender] = caller
        if len(self._callers) > limits.MAX_KNOWN_SENDERS:
            self._callers.popitem(last=False)
        return caller

    def may_hear(self, sender: str) -> bool:
        """Whether output may go to a sender now. Where it is not known, ``resume`` or ``expel`` follows."""
        caller = self._callers.get(sender)
        if caller is not None and self._access.admits(caller, Right.INSPECT):
            return True
        if sender not in self._listeners:
            self._listeners.add(sender)
            self._spawn(self._check_listener(sender))
        return False

    async def _check_listener(self, sender: str) -> None:
        try:
            await self._check(sender, Right.INSPECT)
        except PapaError:
            self.expel(sender)
        finally:
            self._listeners.discard(sender)
        self.resume()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self) -> None:
        """The bus has gone: another one gives the same names to others."""
        for task in self._tasks:
            task.cancel()
        self._callers.clear()
        self._waiting.clear()
        self._listeners.clear()
        self._count = self._bytes = 0
