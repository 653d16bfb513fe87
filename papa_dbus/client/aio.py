"""The asyncio client of org.papa.Kernel, what new code uses.

    async with aio.connect() as kernel:
        await kernel.make_process("web", ["/usr/bin/python3", "-m", "http.server"])
        async for event in kernel.watch("web"):
            print(event)

Each call is bounded in time, waits for a papad that is being restarted, and raises the class of papa_dbus.errors that
papad raised. A call is made again if papad has gone during it, never because the answer is late. Watches go
on over a restart of papad and of the bus.
"""

import functools
import inspect
import secrets
import socket
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from papa_dbus.bus import Message, Variant, close_descriptors
from papa_dbus.client.discovery import find_bus
from papa_dbus.client.link import KernelConnection
from papa_dbus.client.records import Dropped, Event, Exited, KernelInfo, Process, Record, Socket, variants
from papa_dbus.client.subscription import Subscription
from papa_dbus.client.watch import Watch
from papa_dbus.errors import InvalidArgs, NoReply, NotFound, NotSupported, PapaError, Unreachable, from_dbus
from papa_dbus.names import BUS_NAME
from papa_dbus.schema import ProcessRequest, SocketRequest, options

__all__ = [
    "Dropped", "Event", "Exited", "Kernel", "KernelInfo", "Process", "ProcessRequest", "Record", "Socket", "Watch",
    "connect",
]  # fmt: skip

_Takes = ParamSpec("_Takes")
_Request = TypeVar("_Request", SocketRequest, ProcessRequest)
_Made = TypeVar("_Made")
_Method = Callable[["Kernel", _Request], Coroutine[Any, Any, _Made]]
_Call = Callable[Concatenate["Kernel", _Takes], Coroutine[Any, Any, _Made]]


def _takes(request: Callable[_Takes, _Request]) -> Callable[[_Method[_Request, _Made]], _Call[_Takes, _Made]]:
    """Give a method the arguments of a request, for type checkers and help(), too; the method gets the request."""

    def decorate(method: _Method[_Request, _Made]) -> _Call[_Takes, _Made]:
        @functools.wraps(method)
        async def call(kernel: "Kernel", /, *args: _Takes.args, **more: _Takes.kwargs) -> _Made:
            return await method(kernel, request(*args, **more))

        _explain(call, request)
        return call

    return decorate


def _explain(method: Any, request: Any) -> None:
    """Have help() and documentation tell a request's arguments as the method's own."""
    own = inspect.signature(method)
    own_first = next(iter(own.parameters.values()))
    method.__signature__ = own.replace(parameters=[own_first, *inspect.signature(request).parameters.values()])
    told = (f"- ``{option.name}``: {option.described}" for option in options(request).values())
    method.__doc__ = "\n".join([inspect.getdoc(method) or "", "", *told])


def _new_token() -> Variant:
    return Variant("s", secrets.token_urlsafe(16))


def connect(bus: str | None = None, *, host: str | None = None, timeout: float = 30.0) -> "Kernel":
    """papad on ``bus``: ``system``, ``session`` or an address; to be used with ``async with`` or ``await``.

    Without ``bus``: PAPA_BUS_ADDRESS where that is set; else the system bus where org.papa.Kernel is owned or can be
    started; else the session bus. ``host``: on another machine, by ssh(1) and systemd-stdio-bridge(1), as
    ``systemctl -H``; [user@]host, its system bus unless ``bus`` says otherwise; descriptors cannot be had from there.
    ``timeout`` bounds each call, in seconds. Raises Unreachable.
    """
    return Kernel(bus, timeout, host)


class Kernel:
    """A connection to papad. Made by connect()."""

    def __init__(self, bus: str | None, timeout: float, host: str | None = None) -> None:
        self._address = bus
        self._host = host
        self._timeout = timeout
        self._link: KernelConnection | None = None

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        link = KernelConnection(await find_bus(self._address, self._host), self._timeout)
        try:
            await link.start()
        except BaseException:
            await link.close()
            raise
        self._link = link
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the bus; watches end, and what they have not acknowledged is there for the next."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    @property
    def link(self) -> KernelConnection:
        """The connection. Raises Unreachable where there is none."""
        if self._link is None:
            raise Unreachable("not connected: use 'async with aio.connect() as kernel'")
        return self._link

    async def _call(self, member: str, signature: str = "", *body: Any, again: bool = True) -> Message:
        return await self.link.call(member, signature, *body, again=again)

    async def _make(self, member: str, signature: str, *body: Any, options: dict[str, Variant]) -> Any:
        """Ask papad to make something. The request has a token, by which papad knows it if it is made again.

        An older papad knows no tokens, and would start a process a second time.
        """
        link = self.link
        if link.takes_tokens:
            try:
                return (await link.call(member, signature, *body, {**options, "token": _new_token()})).body[0]
            except InvalidArgs as error:
                if "option 'token'" not in str(error):
                    raise
                link.takes_tokens = False
        try:
            return (await link.call(member, signature, *body, options, again=member == "MakeSocket")).body[0]
        except NoReply as error:
            raise type(error)(f"{member} '{body[0]}': {error}; it may have been made") from None

    async def _open(self, member: str, name: str) -> int:
        if not self.link.bus.passes_descriptors:
            raise NotSupported(f"{member} '{name}': descriptors cannot be passed from another machine; do it there")
        reply = await self._call(member, "s", name)
        close_descriptors(reply, 1)
        return int(reply.unix_fds[0])

    async def _list(self, member: str, patterns: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = (await self._call(member, "as", list(patterns))).body[0]
        return found

    async def _remove(self, member: str, patterns: Sequence[str]) -> list[str]:
        # Not made twice: what the first call has removed, the second would not find.
        removed: list[str] = (await self._call(member, "as", list(patterns), again=False)).body[0]
        return removed

    # ----------------------------------------------------------------- sockets

    @_takes(SocketRequest)
    async def make_socket(self, request: SocketRequest) -> Socket:
        """Host a socket, or give the one that is there. Raises Exists (other options), Bind, Limit, InvalidArgs."""
        return Socket.of(await self._make("MakeSocket", "sa{sv}", request.name, options=variants(request)))

    async def list_sockets(self, *patterns: str) -> dict[str, Socket]:
        """The sockets that match a name, a prefix with '*', or a file number; all without a pattern."""
        return {name: Socket.of(result) for name, result in (await self._list("ListSockets", patterns)).items()}

    async def remove_sockets(self, *patterns: str) -> list[str]:
        """Close sockets; their names. Raises NotFound."""
        return await self._remove("RemoveSockets", patterns)

    async def open_socket(self, name: str) -> socket.socket:
        """A duplicate of a hosted socket, for the caller to close. Raises NotFound, NotSupported."""
        return socket.socket(fileno=await self._open("OpenSocket", name))

    # ------------------------------------------------------------------ values

    async def set_value(self, name: str, value: str) -> None:
        """Keep a value. Raises InvalidArgs, Limit."""
        await self._call("SetValue", "ss", name, value)

    async def get_value(self, name: str) -> str:
        """A value. Raises NotFound."""
        value: str = (await self._call("GetValue", "s", name)).body[0]
        return value

    async def list_values(self, *patterns: str) -> dict[str, str]:
        """The values that match; all without a pattern."""
        return await self._list("ListValues", patterns)

    async def remove_values(self, *patterns: str) -> list[str]:
        """Forget values; their names. Raises NotFound."""
        return await self._remove("RemoveValues", patterns)

    # --------------------------------------------------------------- processes

    @_takes(ProcessRequest)
    async def make_process(self, request: ProcessRequest) -> Process:
        """Start a process, or give the one that runs with the same command and options.

        It is started once, even if papad is restarted meanwhile. NoReply says that it may have been started: papad
        answered too late, or is an older one that was restarted.

        Raises Exists, Spawn (also if it cannot be limited as asked for), Limit, NotFound, InvalidArgs, NotSupported.
        """
        given, command = variants(request), list(request.command)
        return Process.of(await self._make("MakeProcess", "sasa{sv}", request.name, command, options=given))

    async def make_processes(self, *requests: ProcessRequest) -> list[Process | PapaError]:
        """Start many processes in one call, side by side; 512 at most.

        A request is made as make_process() is called: ``aio.ProcessRequest("web", ["/usr/bin/web"], stdout="null")``.
        The results are in the order of the requests: a process, or the error that make_process() would raise; the
        arguments of one are cut as in a list of several. Each is started once, even if papad is restarted meanwhile.

        Raises Limit if there are too many, or more than fits into one call; nothing was made then. Raises NotSupported
        if papad is older (``KernelInfo.features``), and NoReply as make_process().
        """
        asked = [[each.name, list(each.command), {**variants(each), "token": _new_token()}] for each in requests]
        results = (await self._call("MakeProcesses", "a(sasa{sv})", asked)).body[0]
        return [from_dbus(error, text) if error else Process.of(made) for _, made, error, text in results]

    async def list_processes(self, *patterns: str) -> dict[str, Process]:
        """The processes that match a name, a prefix with '*', or a PID; all without a pattern."""
        return {name: Process.of(result) for name, result in (await self._list("ListProcesses", patterns)).items()}

    async def remove_processes(self, *patterns: str) -> list[str]:
        """Forget processes' output; their names. A process that runs goes on. Raises NotFound."""
        return await self._remove("RemoveProcesses", patterns)

    async def open_process(self, name: str) -> int:
        """A pidfd (pidfd_open(2)) of a process that runs, for the caller to close. Raises NotFound, NotSupported."""
        return await self._open("OpenProcess", name)

    async def wait(self, name: str) -> int | None:
        """Wait for a process's end, and take none of its output; its exit code, None where nobody saw it.

        Raises NotFound where it is not there.
        """
        async with self.watch(name, observe=True) as events:
            async for event in events:
                if isinstance(event, Exited):
                    return event.exit_code
        raise NotFound(f"process '{name}' was removed while it was waited for")

    def watch(self, *patterns: str, observe: bool = False, follow: bool = False, window: int | None = None) -> Watch:
        """Return what matching processes have written and write, as an asynchronous iterator of events.

        Without ``observe`` this consumes: an event that the loop body is done with is acknowledged, and leaves the
        kernel. ``follow`` (with ``observe``): processes made later, too. ``window``: bytes sent ahead of an
        acknowledgement.

        It ends once all processes have. It raises NotFound if one was removed before its end, and AccessDenied if this
        client may hear no more of it.
        """
        return Watch(Subscription(self.link, patterns, observe=observe, follow=follow, window=window))

    # ------------------------------------------------------------------ kernel

    async def info(self) -> KernelInfo:
        """papad's properties."""
        reply = await self.link.call("GetAll", "s", BUS_NAME, interface="org.freedesktop.DBus.Properties")
        of = {name: variant.value for name, variant in reply.body[0].items()}
        return KernelInfo(
            of["Version"], of["Started"], of["SocketCount"], of["ValueCount"], of["ProcessCount"], of["BufferedBytes"],
            of.get("ApiVersion", 0), tuple(of.get("Features", ())),
        )  # fmt: skip

    async def exit_if_idle(self) -> bool:
        """Ask papad to exit if it holds nothing; return whether it does."""
        exiting: bool = (await self._call("ExitIfIdle", again=False)).body[0]
        return exiting
