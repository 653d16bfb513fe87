"""org.papa.Kernel on the bus: translates, nothing more.

A method converts what comes, calls the kernel once and converts what it says. What may be called, and with which types,
stands in the contract's XML alone.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from papa_dbus import errors, names
from papa_dbus.bus import Bus, Message, MessageFlag, read_body
from papa_dbus.bus.bus import DRIVER
from papa_dbus.schema import WATCH_OPTIONS
from papa_dbus.service import limits
from papa_dbus.service.access.policy import Access
from papa_dbus.service.background import BackgroundTasks
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.dbus import conversion, log_control, objects, verbs
from papa_dbus.service.dbus.answers import Answers, Handler, Refused, Result, after, error_of
from papa_dbus.service.dbus.authorization import Authorization
from papa_dbus.service.dbus.broker_queues import Queues
from papa_dbus.service.dbus.making import Making
from papa_dbus.service.dbus.properties import Properties
from papa_dbus.service.dbus.rights import rights_for
from papa_dbus.service.dbus.signals import SignalEmitter
from papa_dbus.service.dbus.standard import PEER, StandardInterfaces
from papa_dbus.service.dbus.watches import Subscriptions
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.watches import Watch
from papa_dbus.service.shares import Shares

#: Seconds at papad's end for calls that are under way to be answered, and for the others to be undone.
_SOON, _UNDONE = 1.0, 10.0
_DO_NOT_QUEUE = 4
_PRIMARY_OWNER, _ALREADY_OWNER = 1, 4


class DBusServer:
    """The kernel's front end on one message bus."""

    def __init__(self, kernel: Kernel, bus: Bus, access: Access) -> None:
        self._kernel = kernel
        self._bus = bus
        self._contract = objects.read_contract()
        self._tree = _tree(self._contract, kernel)
        self._access = access
        bus.warn = access.budget.warn
        self._authorization = Authorization(bus, access, rights_for, self._dispatch, self._reply_error)
        self._queues = Queues(bus)
        self._subscriptions = Subscriptions(kernel, bus, self._authorization.may_hear, self._queues)
        self._queues.on_room += [self._authorization.read_more, self._subscriptions.read_more]
        self._queues.on_room.append(lambda client: self._signals.go_on())
        self._authorization.has_room = lambda sender, uid: self._queues.room(sender, uid) > 0
        self._authorization.on_revoked = self._subscriptions.revoke
        self._authorization.resume = self._subscriptions.pump_all
        self._signals = SignalEmitter(kernel, bus, self._tree, self._queues)
        self._answers = Answers()
        self._making = Making(kernel, self._answers)
        self._tasks = BackgroundTasks()
        self._pending = Shares(limits.MAX_PENDING_OF_SENDER, limits.MAX_PENDING_OF_USER, limits.MAX_PENDING)
        standard = StandardInterfaces(self._tree, self._answers, log_control.WRITABLE)
        self._handlers: dict[str, dict[str, Handler]] = {
            **standard.handlers,
            objects.KERNEL_INTERFACE: self._methods(),
            **verbs.handlers(self._methods()),
        }
        bus.on_call = self._authorization.submit
        bus.on_read = self._authorization.go_on
        bus.on_connected.insert(0, self._begin)
        bus.on_connected.append(self._take_name)
        bus.on_lost = self._forget_clients
        bus.on_drained = self._go_on
        kernel.listeners.append(self._signals.hear)

    def _methods(self) -> dict[str, Handler]:
        kernel = self._kernel
        return {
            **self._making.handlers,
            "ListSockets": self._list_sockets,
            "RemoveSockets": self._remove_sockets,
            "OpenSocket": lambda call: (kernel.open_socket(call.body[0]),),
            "SetValue": self._set_value,
            "GetValue": lambda call: (kernel.get_value(call.body[0]),),
            "ListValues": lambda call: self._answers.dictionary("a{ss}", kernel.each_value(call.body[0])),
            "RemoveValues": lambda call: self._answers.names(kernel.removing_values(call.body[0])),
            "ListProcesses": self._list_processes,
            "RemoveProcesses": lambda call: self._answers.names(kernel.removing_processes(call.body[0])),
            "OpenProcess": lambda call: (kernel.open_process(call.body[0]),),
            "Watch": self._watch,
            "OpenOutput": self._open_output,
            "Acknowledge": self._acknowledge,
            "Unwatch": self._unwatch,
            "ExitIfIdle": lambda call: (kernel.exit_if_idle(),),
        }

    async def _take_name(self) -> None:
        reply = await self._bus.call(*DRIVER, "RequestName", "su", [names.BUS_NAME, _DO_NOT_QUEUE])
        if reply.body[0] not in (_PRIMARY_OWNER, _ALREADY_OWNER):
            owner = await self._bus.call(*DRIVER, "GetConnectionUnixProcessID", "s", [names.BUS_NAME])
            raise errors.Exists(
                f"{names.BUS_NAME} is taken on {self._bus.address}: PID {owner.body[0]} serves it;"
                " end that one first, or choose another bus with --bus"
            )

    async def _begin(self) -> None:
        """Forget the clients of a connection that was lost before it was ready, which on_lost does not tell."""
        self._forget_clients()
        await self._subscriptions.closed()

    def _forget_clients(self) -> None:
        self._subscriptions.close_all()
        self._queues.reset()
        self._authorization.forget()
        self._access.forget_authorized()
        self._signals.reset()

    def _go_on(self) -> None:
        """The bus takes messages again."""
        self._subscriptions.pump_all()
        self._signals.go_on()
        self._authorization.go_on_soon()

    # ------------------------------------------------------------- the kernel

    def _remove_sockets(self, call: Message) -> Result | Awaitable[Result]:
        files = self._kernel.files(call.body[0])
        answer = self._answers.names(self._kernel.removing_sockets(call.body[0]))
        return self._without_files(answer, files) if files else answer

    async def _without_files(self, answer: Result | Awaitable[Result], files: Sequence[str]) -> Result:
        result = answer if isinstance(answer, tuple) else await answer
        await self._kernel.files_removed(files)
        return result

    def _list_sockets(self, call: Message) -> Result | Awaitable[Result]:
        infos = self._kernel.each_socket(call.body[0])
        return self._answers.dictionary("a{sa{sv}}", ((info.name, conversion.socket_result(info)) for info in infos))

    def _set_value(self, call: Message) -> Result:
        self._kernel.set_value(*call.body)
        return ()

    def _list_processes(self, call: Message) -> Result | Awaitable[Result]:
        infos = self._kernel.each_process(call.body[0])
        return self._answers.dictionary("a{sa{sv}}", ((info.name, conversion.process_result(info)) for info in infos))

    def _watch(self, call: Message) -> Result | Awaitable[Result]:
        return self._begin_watch(call, lambda watch: (watch.number, watch.names))

    def _open_output(self, call: Message) -> Result | Awaitable[Result]:
        give = self._subscriptions.give_socket
        return self._begin_watch(call, lambda watch: (watch.number, watch.names, give(watch.number)))

    def _begin_watch(self, call: Message, result: Callable[[Watch], Result]) -> Result | Awaitable[Result]:
        patterns, options = call.body
        spec = WatchSpec(**conversion.options(WATCH_OPTIONS, options))
        watch = self._subscriptions.open(call.sender, patterns, spec)
        return after(self._kernel.attached(watch), lambda: self._once_noted(watch.names, lambda: result(watch)))

    def _acknowledge(self, call: Message) -> Result | Awaitable[Result]:
        number, up_to = call.body
        acknowledged = self._subscriptions.acknowledge(call.sender, number, up_to)
        return after(acknowledged, lambda: self._once_noted(up_to, tuple))

    def _once_noted(self, processes: Collection[str], result: Callable[[], Result]) -> Result | Awaitable[Result]:
        """Answer when it outlives papad what other consumers must leave to a client, and what it has acknowledged."""
        return after(self._kernel.noted(processes), result)

    def _unwatch(self, call: Message) -> Result | Awaitable[Result]:
        return after(self._subscriptions.end(call.sender, call.body[0]), tuple)

    # ---------------------------------------------------------------- dispatch

    def _dispatch(self, call: Message, caller: Caller) -> asyncio.Future[None] | None:
        with acting(caller):
            return self._call(call, caller)

    def _call(self, call: Message, caller: Caller) -> asyncio.Future[None] | None:
        """Run a call; returns what its sender's next one has to wait for."""
        pending, cost = None, 0
        try:
            method, handler = self._find(call)
            read_body(call)
            if call.member in self._making.handlers:
                pending, cost = self._pending.of(caller.uid, caller.at), self._making.cost(call)
                if not pending.has_room(cost):
                    raise errors.Limit("too many calls of yours are under way; await some answers first")
            result = handler(call)
        except Exception as error:  # noqa: BLE001 (answered and logged in one place)
            self._reply_error(call, error)
            return None
        if isinstance(result, tuple):
            self._reply(call, method, result)
            return None
        task = self._tasks.start(self._finish(call, method, result))
        if pending is None:
            return task
        pending.take(cost)
        task.add_done_callback(lambda _: pending.give(cost))
        return None

    def _find(self, call: Message) -> tuple[objects.Method, Handler]:
        present = self._tree.shown(call.path)
        if present is None and call.interface == PEER:
            present = [PEER]  # "It does not matter which object path a ping is sent to" (D-Bus Specification, Peer)
        if present is None:
            raise Refused("UnknownObject", f"there is no object {call.path}")
        wanted = [call.interface] if call.interface else present
        if call.interface and call.interface not in present:
            raise Refused("UnknownInterface", f"{call.path} has no interface '{call.interface}'")
        for interface in wanted:
            method = self._contract[interface].methods.get(call.member)
            if method is not None:
                if method.takes != call.signature:
                    raise errors.InvalidArgs(f"{call.member} takes '{method.takes}', not '{call.signature}'")
                return method, self._handlers[interface][call.member]
        raise Refused("UnknownMethod", f"{call.path} has no method '{call.member}'")

    async def _finish(self, call: Message, method: objects.Method, result: Awaitable[Result]) -> None:
        try:
            self._reply(call, method, await result)
        except Exception as error:  # noqa: BLE001 (answered and logged in one place)
            self._reply_error(call, error)

    def _reply(self, call: Message, method: objects.Method, body: Result) -> None:
        fds: list[int] = []
        if method.gives.endswith("h"):
            body, fds = (*body[:-1], 0), [body[-1]]
        if call.flags & MessageFlag.NO_REPLY_EXPECTED:
            _close(fds)
        else:
            reply = Message.new_method_return(call, method.gives, list(body), fds)
            try:
                self._answer(reply, lambda: _close(fds))
            except errors.Limit as error:
                self._reply_error(call, error)
        if method.name in ("Watch", "OpenOutput"):
            self._subscriptions.begin(body[0])

    def _reply_error(self, call: Message, error: Exception) -> None:
        name, text = error_of(call.member, error)
        if not call.flags & MessageFlag.NO_REPLY_EXPECTED:
            self._answer(Message.new_error(call, name, text))

    def _answer(self, answer: Message, sent: Callable[[], None] | None = None) -> None:
        """Send an answer, and count it. Raises Limit if it is large, and the bus has too much that is not read."""
        client = answer.destination
        uid = self._authorization.uid_of(client)
        if uid is None:  # a refusal
            self._bus.send(answer, sent)
            return
        most = max(limits.FLIGHT_SHARE, self._queues.room(client, uid))
        if self._bus.send(answer, sent, most=most):
            self._queues.sent(client, uid, answer.size)

    async def close(self, leave: bool = False) -> None:
        """Answer what is under way, if that is soon, and leave the bus. No call is run any more.

        The rest is undone while the store is there to note it, unless ``leave``: then the next papad sees to it, as
        after a kill.
        """
        self._bus.on_call = lambda call: None  # its sender is told once papad has left the bus
        self._forget_clients()
        await self._subscriptions.closed()
        await self._tasks.ended(_SOON)
        await self._bus.close()
        if (noted := self._kernel.all_noted()) is not None:
            await noted
        if not leave:
            self._tasks.cancel()
            await self._tasks.ended(_UNDONE)


def _tree(contract: Mapping[str, objects.Interface], kernel: Kernel) -> objects.Tree:
    """Return where papad's objects are."""
    properties = Properties(kernel)
    return objects.Tree(
        contract,
        {
            "process": lambda: kernel.process_names,
            "socket": lambda: kernel.socket_names,
        },
        properties.of_item,
        {
            names.OBJECT_PATH: (objects.KERNEL_INTERFACE, properties.of_kernel),
            log_control.PATH: (log_control.INTERFACE, log_control.properties),
        },
    )


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
