"""Authorize calls from the bus, and run them in turns.

The policy file of the bus says the same, but it may be wrong or missing. So the bus is asked once for each sender whose
it is, and ``access`` at each call. Nobody's call is looked into before that. What has to be asked is awaited without
holding up anybody else; the calls of one sender stay in their order. A call whose sender has left before that could be
asked is not run.

Three kinds of users do not take room from each other: those who are not known yet, for one question to the bus and one
to the user database; root, papad's own and the group's; and all others, whose calls wait for polkit.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakValueDictionary

from papa_dbus.bus import Bus, Message, MessageFlag, close_descriptors
from papa_dbus.bus.bus import DRIVER, check_size
from papa_dbus.errors import AccessDenied, Limit, PapaError
from papa_dbus.service import limits
from papa_dbus.service.access.policy import Access, Right
from papa_dbus.service.background import BackgroundTasks
from papa_dbus.service.caller import Caller
from papa_dbus.service.dbus.call_queue import Sender, Turns, User
from papa_dbus.service.shares import Share

_ASK_TIMEOUT = 10.0
#: Seconds of running calls before others have their turn.
SERVING_TURN: Final = 0.005
_TOO_MUCH: Final = "too many calls of yours wait already; await some answers before you call again"


class Authorization:
    """``serve`` gets the calls that may be run, ``refuse`` the others; ``rights`` says what a call takes.

    ``serve`` may return a future: the sender's next call waits for it, and nobody else's.
    ``rights`` may read the call's body once the rights that came before are there. ``has_room`` says whether a sender,
    of that user, may be answered now; if not, its calls wait until read_more() is called. ``on_revoked`` is told of who
    may hear no more output, ``resume`` when output that was held back may continue.
    """

    def __init__(
        self,
        bus: Bus,
        access: Access,
        rights: Callable[[Message], Iterable[Right]],
        serve: Callable[[Message, Caller], asyncio.Future[None] | None],
        refuse: Callable[[Message, Exception], None],
    ) -> None:
        self._bus = bus
        self._access = access
        self._rights = rights
        self._serve = serve
        self._refuse = refuse
        self.has_room: Callable[[str, int], bool] = lambda sender, uid: True
        self.on_revoked: Callable[[str], None] = lambda sender: None
        self.resume: Callable[[], None] = lambda: None
        self._tasks = BackgroundTasks()
        self._turn: asyncio.Handle | None = None
        self._begin()

    def _begin(self) -> None:
        # A unique name is never another's as long as the bus lives, so what is known of it stays true. The least used
        # is first.
        self._senders: OrderedDict[str, Sender] = OrderedDict()
        self._users: WeakValueDictionary[int, User] = WeakValueDictionary()
        self._turns = Turns()
        self._nobody = User(Share(limits.MAX_WAITING_OF_UNKNOWN))
        self._ours = Share(limits.MAX_WAITING)
        self._strangers = Share(limits.MAX_WAITING_OF_STRANGERS)
        self._questions = {False: 0, True: 0}
        self._listeners: set[str] = set()

    def submit(self, call: Message) -> None:
        """Have a call wait for its sender's turn, or refuse it if there is no room."""
        sender = self._senders.get(call.sender)
        if sender is None:
            sender = self._meet(call.sender)
        else:
            self._senders.move_to_end(call.sender)
        if not sender.put(call):
            self._refuse(call, _too_much(call))
        elif sender.caller is None and not sender.asking:
            self._ask(sender)
        else:
            self._turns.add(sender)

    def go_on(self) -> None:
        """Run calls for a while; what is left has its turn after everybody else on the loop."""
        if self._turn is None and self._turns:
            self._run_some()

    def go_on_soon(self) -> None:
        """Run calls in the next turn of the loop."""
        if self._turn is None and self._turns:
            self._turn = asyncio.get_running_loop().call_soon(self._run_some)

    def _run_some(self) -> None:
        self._turn = None
        loop = asyncio.get_running_loop()
        end = loop.time() + SERVING_TURN
        while self._turns and not self._bus.congested:  # when it is no more, go_on() is called
            sender = self._turns.next()
            self._advance(sender)
            self._turns.add(sender)
            if loop.time() >= end:
                self.go_on_soon()
                return

    def _advance(self, sender: Sender) -> None:
        """Run a sender's first call, or see to what that needs."""
        if not sender.can_go_on:
            return  # an answer came meanwhile
        if sender.asking:
            call = sender.take_last()
            self._refuse(call, _too_much(call))
        elif sender.refusal is not None:
            self._refuse(sender.take(), sender.refusal)
        elif sender.caller is None:
            self._ask(sender)
        elif not self.has_room(sender.name, sender.caller.uid):
            sender.held_up = True
        elif sender.admitted or self._is_admitted(sender.caller, sender.calls[0]):
            self._run(sender, sender.caller)
        else:
            self._ask(sender)

    def _is_admitted(self, caller: Caller, call: Message) -> bool:
        """Return whether it is known that the caller may make this call; if not, it is found out why."""
        try:
            return all(self._access.admits(caller, right) for right in self._rights(call))
        except Exception:  # noqa: BLE001 (it comes again then, and is the call's answer)
            return False

    def _run(self, sender: Sender, caller: Caller) -> None:
        call, sender.admitted = sender.take(), False
        try:
            answer = self._serve(call, caller)
        except Exception as error:  # noqa: BLE001 (answered; the others have their turn)
            self._refuse(call, error)
            return
        if answer is not None:
            sender.answering = True
            answer.add_done_callback(lambda _: self._answered(sender))

    def _answered(self, sender: Sender) -> None:
        sender.answering = False
        if self._senders.get(sender.name) is sender:  # else the bus has gone
            self._turns.add(sender)
            self.go_on_soon()

    def read_more(self, name: str) -> None:
        """Go on with a sender that has read what it was answered."""
        sender = self._senders.get(name)
        if sender is not None and sender.held_up:
            sender.held_up = False
            self._turns.add(sender)
            self.go_on_soon()

    def uid_of(self, name: str) -> int | None:
        """Return a sender's user, as far as it is known."""
        sender = self._senders.get(name)
        return None if sender is None or sender.caller is None else sender.caller.uid

    # --------------------------------------------------------------- questions

    def _meet(self, name: str) -> Sender:
        sender = self._senders[name] = Sender(name, limits.MAX_WAITING_OF_SENDER, self._nobody)
        if len(self._senders) > limits.MAX_KNOWN_SENDERS:
            oldest = next(iter(self._senders.values()))
            if oldest.calls or oldest.answering:
                self._senders.move_to_end(oldest.name)
            else:
                del self._senders[oldest.name]
        return sender

    def _ask(self, sender: Sender) -> None:
        sender.asking = True
        self._tasks.start(self._find_out(sender))

    async def _find_out(self, sender: Sender) -> None:
        """Find out whose a sender is, or else whether its first call may be run."""
        try:
            if sender.caller is None:
                await self._identify(sender)
            else:
                await self._decide(sender, sender.caller, sender.calls[0])
                sender.admitted = True  # and has its turn: many may have waited for the same answer
        except Exception as error:  # noqa: BLE001 (the sender gets an answer, and its other calls their turn)
            if sender.caller is None and isinstance(error, PapaError):
                sender.refusal = error
                self._senders.pop(sender.name, None)
            self._refuse(sender.take(), error)
        sender.asking = False
        self._turns.add(sender)
        self.go_on_soon()

    async def _identify(self, sender: Sender) -> Caller:
        try:
            reply = await self._bus.call(*DRIVER, "GetConnectionCredentials", "s", [sender.name], _ASK_TIMEOUT)
        except PapaError as error:
            if sender.calls:
                self._access.budget.warn(
                    "calls of %s are not run, since the bus does not say whose they are: %s", sender.name, error
                )
            raise AccessDenied(f"the bus does not say who {sender.name} is: {error}") from None
        close_descriptors(reply)  # dbus-daemon 1.16 and newer pass a pidfd of the sender, too
        known = {name: variant.value for name, variant in reply.body[0].items()}
        if "UnixUserID" not in known:
            raise AccessDenied(f"the bus does not say which user {sender.name} is; connect anew")
        uid = known["UnixUserID"]
        user = self._users.get(uid)
        if user is None:
            user = self._users[uid] = User(Share(limits.MAX_WAITING_OF_USER, self._nobody.share))
        sender.belong_to(user)
        caller = sender.caller = Caller(uid, known.get("ProcessID"), sender.name)
        await self._is_ours(user, caller)
        return caller

    async def _is_ours(self, user: User, caller: Caller) -> bool:
        """Return whether polkit need not be asked. Raises AccessDenied if that cannot be found out."""
        ours = await self._access.belongs(caller)
        if ours != user.is_ours:
            user.is_ours = ours
            user.share.most = limits.MAX_WAITING_OF_USER if ours else limits.MAX_WAITING_OF_STRANGER
            user.share.move(self._ours if ours else self._strangers)
        return ours

    async def _decide(self, sender: Sender, caller: Caller, call: Message) -> None:
        """Raise AccessDenied or Limit unless the caller may make this call."""
        interactive = bool(call.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION)
        for right in self._rights(call):
            await self._check(sender.user, caller, right, interactive)

    async def _check(self, user: User, caller: Caller, right: Right, interactive: bool) -> None:
        """Raise AccessDenied unless the caller has a right now."""
        try:
            if self._access.admits(caller, right) or await self._is_ours(user, caller):
                return
            async with user.question(interactive):
                if not self._access.admits(caller, right):
                    await self._ask_polkit(caller, right, interactive)
        except PapaError as error:
            self._access.note_refusal(caller, error)
            raise

    async def _ask_polkit(self, caller: Caller, right: Right, interactive: bool) -> None:
        if self._questions[interactive] >= limits.MAX_QUESTIONS:
            raise Limit(f"{limits.MAX_QUESTIONS} users wait for polkit already; try again later")
        self._questions[interactive] += 1
        try:
            authorized = await self._access.is_authorized(caller, right, interactive)
        finally:
            self._questions[interactive] -= 1
        if not authorized:
            raise self._access.refusal(caller)

    # --------------------------------------------------------------- listeners

    def may_hear(self, name: str) -> bool:
        """Return whether output may go to a sender now. If that is not known, ``resume`` or ``on_revoked`` follows."""
        sender = self._senders.get(name)
        if sender is not None and sender.caller is not None and self._access.admits(sender.caller, Right.INSPECT):
            return True
        if name not in self._listeners:
            self._listeners.add(name)
            self._tasks.start(self._check_listener(name))
        return False

    async def _check_listener(self, name: str) -> None:
        try:
            sender = self._senders.get(name) or self._meet(name)
            caller = sender.caller or await self._identify(sender)
            await self._check(sender.user, caller, Right.INSPECT, interactive=False)
        except Exception as error:  # noqa: BLE001 (nobody else would end its watches, or let them go on)
            if not isinstance(error, PapaError):
                self._access.budget.warn("whether %s may hear output cannot be found out: %r", name, error)
            self.on_revoked(name)
        finally:
            self._listeners.discard(name)
        self.resume()

    def forget(self) -> None:
        """Forget everybody: another bus gives the same names to others."""
        self._tasks.cancel()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._begin()


def _too_much(call: Message) -> Limit:
    try:
        check_size(call)
    except Limit as error:
        return error
    return Limit(_TOO_MUCH)
