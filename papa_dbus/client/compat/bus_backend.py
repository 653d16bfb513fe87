"""The drop-in's way over D-Bus: the asyncio client, in the thread of loop_thread.py."""

import asyncio
import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from papa_dbus.client.compat.loop_thread import the_background
from papa_dbus.client.link import KernelConnection
from papa_dbus.client.records import Event, Process
from papa_dbus.client.subscription import Subscription
from papa_dbus.errors import NotFound, PapaError
from papa_dbus.names import BUS_NAME
from papa_dbus.schema import pairs

_T = TypeVar("_T")


class BusBackend:
    """A papad on a message bus: ``address``, or the one that is found.

    ``timeout`` bounds each call, ``patience`` reaching papad, in seconds.
    """

    def __init__(self, address: str | None, timeout: float, patience: float) -> None:
        self.background = the_background()
        self._address = address
        self._timeout = timeout
        self.kernel = self.background.run(self.background.acquire(address, timeout, patience))
        # Whoever forgets to close it gives the connection back all the same.
        self._finalizer = weakref.finalize(self, self.background.start, self.background.release, address)
        self._finalizer.atexit = False

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have the loop do it, and wait."""
        return self.background.run(work)

    def fileno(self) -> int:
        """Return the connection's descriptor."""
        return self.kernel.link.fileno()

    def close(self) -> None:
        """Use the connection no more."""
        if self._finalizer.detach() is not None and not self.background.forked:
            self.background.run(self.background.release(self._address), to_its_end=True)

    def make_socket(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return pairs(self.run(self.kernel.make_socket(name, **options)))

    def list_sockets(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = self.run(self.kernel.list_sockets(*patterns))
        return {name: pairs(info) for name, info in found.items()}

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

    def pid(self) -> int | None:
        bus, kernel = "org.freedesktop.DBus", [BUS_NAME]
        asked = self.kernel.link.bus.call(bus, "/org/freedesktop/DBus", bus, "GetConnectionUnixProcessID", "s", kernel)
        return int(self.run(asked).body[0])

    def exit_if_idle(self) -> bool:
        return self.run(self.kernel.exit_if_idle())

    def watch(self, patterns: Sequence[str]) -> "BusWatch":
        return BusWatch(BusBackend(self._address, self._timeout, self._timeout), patterns)


class _Stream:
    """A watch's events on their way from the loop to a reader in another thread."""

    def __init__(self, link: KernelConnection, patterns: Sequence[str]) -> None:
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
        """Return what has come. Called with ``filled`` held."""
        events, self.events = self.events, []
        if not self.ended:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.fd)
        return events

    async def resume(self) -> None:
        """Open the watch again that has ended with an error."""
        with self.filled:
            self.error, self.ended = None, False
            if not self.events:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self.fd)
        self.subscription.resume()
        self._task = asyncio.create_task(self._fill())

    async def close(self, done: Sequence[Event] = ()) -> None:
        """End the watch; these events have been dealt with."""
        self.subscription.acknowledge(done)
        if self._task is not None:
            self._task.cancel()  # it may wait for papad to come back
            await asyncio.wait([self._task])
        await self.subscription.close()
        os.close(self.fd)

    async def acknowledge(self, events: Sequence[Event]) -> None:
        """Note that these have been dealt with; wait until papad knows."""
        self.subscription.acknowledge(events)
        await self.subscription.settle()


class BusWatch:
    """A consuming watch, read from any thread."""

    exact = True

    def __init__(self, backend: BusBackend, patterns: Sequence[str]) -> None:
        self._backend = backend
        self._stream = _Stream(backend.kernel.link, patterns)
        self._in_hand: list[Event] = []
        backend.run(self._stream.open())
        self._finalizer = weakref.finalize(self, backend.background.start, self._stream.close)
        self._finalizer.atexit = False

    def fileno(self) -> int:
        """Return a descriptor that is readable while read() would not wait."""
        return self._stream.fd

    @property
    def ready(self) -> bool:
        """Return whether read() would not wait."""
        return bool(self._stream.events) or self._stream.ended

    def read(self) -> list[Event]:
        """Wait for what comes next; empty at the end. What was read before is acknowledged.

        Raises what ended the watch, where it was not the processes' end.
        """
        self.done(len(self._in_hand))
        return self.take()

    def take(self) -> list[Event]:
        """Return the same, and nothing is acknowledged."""
        self._backend.background.check()
        stream = self._stream
        with stream.filled:
            stream.filled.wait_for(lambda: self.ready)
            events = stream.drain()
        self._in_hand += events
        if not events and stream.error is not None:
            raise stream.error
        return events

    def done(self, count: int) -> None:
        """Note that the first so many of what was taken have been dealt with; papad hears of it soon."""
        events, self._in_hand = self._in_hand[:count], self._in_hand[count:]
        if events:
            self._backend.background.loop.call_soon_threadsafe(self._stream.subscription.acknowledge, events)

    def acknowledge(self) -> None:
        """Note that what was read has been dealt with. papad knows when this returns, unless it has gone meanwhile."""
        if done := self._take_in_hand():
            self._backend.run(self._stream.acknowledge(done))

    def _take_in_hand(self) -> list[Event]:
        events, self._in_hand = self._in_hand, []
        return events

    def resume(self) -> None:
        """Open it again after take() has raised an error; what was taken before does not come again."""
        self._backend.run(self._stream.resume())

    def leave(self) -> None:
        """End the watch; what was taken and not done with is there for the next one, too."""
        self._in_hand.clear()
        self.close()

    def close(self) -> None:
        """Acknowledge what was read, and end the watch; what was not read is there for the next one."""
        if self._finalizer.detach() is None:
            return
        if self._backend.background.forked:  # the watch is the parent's
            os.close(self._stream.fd)
            return
        try:
            self._backend.background.run(self._stream.close(self._take_in_hand()), to_its_end=True)
        finally:
            self._backend.close()


def _process(info: Process) -> dict[str, Any]:
    """Return a process as Papa 1.0.6 gives it: ``started`` in seconds, the rest as text."""
    result: dict[str, Any] = {
        "pid": info.pid, "running": info.running, "started": info.started / 1e6, "uid": str(info.uid),
        "gid": str(info.gid), "exit_code": None if info.exit_code is None else str(info.exit_code),
        "dropped": str(info.dropped) if info.dropped else None, "args": " ".join(info.args),
    }  # fmt: skip
    return {key: value for key, value in result.items() if value is not None}
