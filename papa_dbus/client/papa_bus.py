"""The drop-in's way over D-Bus: the asyncio client, in a thread that all callers of this process share.

The thread's loop owns the connections; callers hand it coroutines and wait. After a fork the child has none of it: what
it needs it makes anew, and what it has of its parent's is closed, since the bus would take it for the parent.
"""

import asyncio
import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from papa_dbus.client.aio import Kernel
from papa_dbus.client.link import Link, find_bus, offers_kernel
from papa_dbus.client.records import Event, Process, Socket
from papa_dbus.client.subscription import Subscription
from papa_dbus.errors import NotFound, PapaError, Unreachable

_T = TypeVar("_T")


class _Background:
    """The thread with the loop, and the connections by what they are called."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.kernels: dict[str, tuple[Kernel, int]] = {}  # and how many use it
        self.lock = asyncio.Lock()
        threading.Thread(target=self.loop.run_forever, name="papa", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have the loop do it, and wait."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Have the loop do it, and do not wait: for a finalizer, which may run anywhere."""
        self.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(work(*arguments)))

    async def acquire(self, address: str | None, timeout: float) -> Kernel:  # noqa: ASYNC109
        """A connection, shared. Raises Unreachable where the kernel is neither there nor can be started by the bus."""
        async with self.lock:
            kernel, users = self.kernels.get(address or "", (None, 0))
            if kernel is None:
                kernel = await _connect(address, timeout)
            self.kernels[address or ""] = kernel, users + 1
            return kernel

    async def release(self, address: str | None) -> None:
        """Use a connection no more."""
        async with self.lock:
            kernel, users = self.kernels.pop(address or "")
            if users > 1:
                self.kernels[address or ""] = kernel, users - 1
            else:
                await kernel.close()


async def _connect(address: str | None, timeout: float) -> Kernel:  # noqa: ASYNC109
    bus = await find_bus(address)
    offered = await offers_kernel(bus)
    await bus.close()
    if not offered:
        raise Unreachable(f"there is no kernel on the bus at {bus.address}, and the bus cannot start one")
    kernel = Kernel(bus.address, timeout)
    await kernel
    try:
        await kernel.info()  # starts it where it does not run
    except PapaError:
        await kernel.close()
        raise
    return kernel


_background: _Background | None = None
_starting = threading.Lock()


def _the_background() -> _Background:
    global _background  # noqa: PLW0603 (one for each process)
    with _starting:
        if _background is None:
            _background = _Background()
        return _background


def _after_fork_in_child() -> None:
    global _background, _starting  # noqa: PLW0603
    left, _background = _background, None
    _starting = threading.Lock()
    if left is not None:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for kernel, _ in left.kernels.values():
            with contextlib.suppress(OSError, RuntimeError):
                os.dup2(nothing, kernel.link.fileno(), inheritable=False)
        os.close(nothing)


os.register_at_fork(after_in_child=_after_fork_in_child)


class BusBackend:
    """A kernel on a message bus: ``address``, or the one that is found. ``timeout`` bounds each call, in seconds."""

    def __init__(self, address: str | None, timeout: float) -> None:
        self.background = _the_background()
        self._address = address
        self._timeout = timeout
        self.kernel = self.background.run(self.background.acquire(address, timeout))
        # Whoever forgets to close it gives the connection back all the same.
        self._finalizer = weakref.finalize(self, self.background.start, self.background.release, address)
        self._finalizer.atexit = False

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have the loop do it, and wait. Raises PapaError in a child that was forked meanwhile."""
        if self.background is not _background:
            work.close()
            raise PapaError("this was made before a fork: make another Papa in the child")
        return self.background.run(work)

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self.kernel.link.fileno()

    def close(self) -> None:
        """Use the connection no more."""
        if self._finalizer.detach() is not None and self.background is _background:
            self.background.run(self.background.release(self._address))

    def make_socket(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return _socket(self.run(self.kernel.make_socket(name, **options)))

    def list_sockets(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = self.run(self.kernel.list_sockets(*patterns))
        return {name: _socket(info) for name, info in found.items()}

    def open_socket(self, name: str) -> socket.socket:
        return self.run(self.kernel.open_socket(name))

    def remove_sockets(self, patterns: Sequence[str]) -> None:
        self.run(self.kernel.remove_sockets(*patterns))

    def set_value(self, name: str, value: str) -> None:
        self.run(self.kernel.set_value(name, value))

    def get_value(self, name: str) -> str | None:
        try:
            return self.run(self.kernel.get_value(name))
        except NotFound:
            return None

    def list_values(self, patterns: Sequence[str]) -> dict[str, str]:
        return self.run(self.kernel.list_values(*patterns))

    def remove_values(self, patterns: Sequence[str]) -> None:
        if not patterns:
            self.run(self.kernel.remove_values())  # is refused
        for pattern in patterns:
            with contextlib.suppress(NotFound):  # as Papa always had it
                self.run(self.kernel.remove_values(pattern))

    def make_process(self, name: str, command: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
        return _process(self.run(self.kernel.make_process(name, command, **options)))

    def list_processes(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = self.run(self.kernel.list_processes(*patterns))
        return {name: _process(info) for name, info in found.items()}

    def remove_processes(self, patterns: Sequence[str]) -> None:
        self.run(self.kernel.remove_processes(*patterns))

    def exit_if_idle(self) -> bool:
        return self.run(self.kernel.exit_if_idle())

    def watch(self, patterns: Sequence[str]) -> "BusWatch":
        return BusWatch(BusBackend(self._address, self._timeout), patterns)


class _Stream:
    """A watch's events on their way from the loop to a reader in another thread."""

    def __init__(self, link: Link, patterns: Sequence[str]) -> None:
        self.subscription = Subscription(link, patterns, observe=False, follow=False, window=None)
        self.filled = threading.Condition()
        self.events: list[Event] = []
        self.error: PapaError | None = None
        self.ended = False
        # Readable exactly while there is something to read, the end included.
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin. Raises NotFound."""
        try:
            await self.subscription.open()
        except BaseException:
            os.close(self.fd)
            raise
        self._task = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        try:
            while events := await self.subscription.take():
                self._add(events)
        except PapaError as error:
            self.error = error
        finally:
            self.ended = True
            self._add([])

    def _add(self, events: Sequence[Event]) -> None:
        with self.filled:
            self.events.extend(events)
            os.eventfd_write(self.fd, 1)
            self.filled.notify_all()

    def drain(self) -> list[Event]:
        """What has come. Called with ``filled`` held."""
        events, self.events = self.events, []
        if not self.ended:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.fd)
        return events

    async def close(self) -> None:
        """End the watch."""
        await self.subscription.close()
        if self._task is not None:
            await asyncio.wait([self._task])
        os.close(self.fd)


class BusWatch:
    """A consuming watch, read from any thread."""

    def __init__(self, backend: BusBackend, patterns: Sequence[str]) -> None:
        self._backend = backend
        self._stream = _Stream(backend.kernel.link, patterns)
        self._in_hand: list[Event] = []
        backend.run(self._stream.open())
        self._finalizer = weakref.finalize(self, backend.background.start, self._stream.close)
        self._finalizer.atexit = False

    def fileno(self) -> int:
        """A descriptor that is readable while read() would not wait."""
        return self._stream.fd

    @property
    def ready(self) -> bool:
        """Whether read() would not wait."""
        return bool(self._stream.events) or self._stream.ended

    def read(self) -> list[Event]:
        """Wait for what comes next; empty at the end. Raises what ended the watch, if it was not the processes' end."""
        stream = self._stream
        with stream.filled:
            stream.filled.wait_for(lambda: self.ready)
            events = stream.drain()
        self._in_hand += events
        if not events and stream.error is not None:
            raise stream.error
        return events

    def acknowledge(self, keep: int = 0) -> None:
        """What was read has been dealt with, but for the last ``keep`` events."""
        done = len(self._in_hand) - keep
        events, self._in_hand = self._in_hand[:done], self._in_hand[done:]
        if events:
            self._backend.background.loop.call_soon_threadsafe(self._stream.subscription.acknowledge, events)

    def close(self) -> None:
        """End the watch. What was not acknowledged is there for the next one."""
        if self._finalizer.detach() is not None:
            self._backend.run(self._stream.close())
            self._backend.close()


def _socket(info: Socket) -> dict[str, Any]:
    """As Papa 1.0.6 gives a socket: what applies, numbers as numbers but for the umask."""
    result: dict[str, Any] = {
        "family": info.family, "type": info.type, "backlog": info.backlog, "path": info.path,
        "umask": None if info.umask is None else f"{info.umask:04o}", "host": info.host, "port": info.port,
        "interface": info.interface, "reuseport": "1" if info.reuseport else None, "fileno": info.fileno,
    }  # fmt: skip
    return {key: value for key, value in result.items() if value is not None}


def _process(info: Process) -> dict[str, Any]:
    """As Papa 1.0.6 gives a process: ``started`` in seconds, the rest as text."""
    result: dict[str, Any] = {
        "pid": info.pid, "running": info.running, "started": info.started / 1e6, "uid": str(info.uid),
        "gid": str(info.gid), "exit_code": None if info.exit_code is None else str(info.exit_code),
        "dropped": str(info.dropped) if info.dropped else None, "args": " ".join(info.args),
    }  # fmt: skip
    return {key: value for key, value in result.items() if value is not None}
