"""What several folders of tests need: waiting, a kernel in the test's own loop, a watch that is read, leak checks."""

import asyncio
import inspect
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.specs import ProcessSpec, WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.events import Dropped, Event, Exited, Output
from papa_dbus.service.steps import Chores

#: Seconds for what takes milliseconds, on a machine that does other things too.
PATIENCE = 20.0
#: Seconds between two looks at a condition.
_PAUSE = 0.01

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | Literal[False] | None],
    what: str | Callable[[], object],
    patience: float = PATIENCE,
) -> T:
    """Wait until a condition holds, and return its value. Use it if no event tells of the change."""
    deadline = time.monotonic() + patience
    while True:
        last = time.monotonic() > deadline
        if result := condition():
            return result
        assert not last, f"not within {patience:g} s: {what() if callable(what) else what}"
        time.sleep(_PAUSE)  # paces the looks


async def until(condition: Callable[[], Any], what: str | Callable[[], object]) -> Any:
    """Wait in the test's loop as wait_until() does; the condition may be a coroutine function."""
    deadline = time.monotonic() + PATIENCE
    while True:
        last = time.monotonic() > deadline
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        assert not last, f"not within {PATIENCE:g} s: {what() if callable(what) else what}"
        await asyncio.sleep(_PAUSE)  # paces the looks


async def turns(count: int = 1) -> None:
    """Let the loop take so many turns: all that is ready now runs."""
    for _ in range(count):
        await asyncio.sleep(0)


class Reader:
    """A watch of the kernel that gathers what it gets, and acknowledges unless it is told not to."""

    def __init__(self, kernel: Kernel, patterns: Sequence[str], acknowledge: bool = True, **spec: object) -> None:
        self.events: list[Event] = []
        self._acknowledge = acknowledge
        self._something = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.end = ""
        self.watch = kernel.watch(patterns, WatchSpec(**spec), self._wake, self._finish)  # type: ignore[arg-type]

    def _wake(self) -> None:
        self._loop.call_soon(self._take)

    def _finish(self, end: str) -> None:
        self.end = end
        self.done.set()
        self._something.set()

    def _take(self) -> None:
        if self.watch.closed:
            return
        self.events += self.watch.take(1 << 20)
        self._something.set()
        if self._acknowledge:
            for _ in self.watch.acknowledge_taken() or ():
                pass

    async def until(self, what: str) -> None:
        """Wait for a text in the output."""
        while what.encode() not in self.data():
            await self._next(what)

    async def until_exited(self, count: int = 1) -> None:
        """Wait for so many ends."""
        while len(self.ends) < count:
            await self._next("an end")

    async def _next(self, what: str) -> None:
        self._something.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._something.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} came: {self.events}") from None

    def data(self, stream: str = "", name: str = "") -> bytes:
        """All output so far, of one stream and one process where they are named."""
        return b"".join(
            record.data
            for event in self.events
            if isinstance(event, Output) and name in ("", event.process)
            for record in event.records
            if stream in ("", record.stream)
        )

    @property
    def ends(self) -> list[Exited]:
        """The ends so far."""
        return [event for event in self.events if isinstance(event, Exited)]

    @property
    def dropped(self) -> int:
        """Bytes that were reported as dropped."""
        return sum(event.bytes for event in self.events if isinstance(event, Dropped))


async def run(kernel: Kernel, *command: str, name: str = "p", **options: object) -> ProcessInfo:
    """Make a process."""
    return await kernel.make_process(ProcessSpec(name, command, **options))  # type: ignore[arg-type]


async def ended(kernel: Kernel, name: str = "p") -> None:
    """Wait until a process is listed as ended."""
    await until(lambda: not any(info.running for info in kernel.list_processes([name])), f"the end of {name}")


async def output_of(kernel: Kernel, *command: str, name: str = "p", **options: object) -> str:
    """Run a process to its end, read it and return what it printed."""
    await run(kernel, *command, name=name, **options)
    reader = Reader(kernel, [name])
    await reader.until_exited()
    return reader.data().decode()


async def remove_sockets(kernel: Kernel, *names: str) -> list[str]:
    """Remove sockets and wait for their files, as the front ends do."""
    files = kernel.files(names)
    removed = kernel.remove_sockets(names)
    await kernel.files_removed(files)
    return removed


def end_processes(kernel: Kernel) -> None:
    """Kill all that a kernel in the test's own process hosts, and have it forget them."""
    for info in kernel.list_processes():
        if info.running:
            os.kill(info.pid, signal.SIGKILL)
            os.waitid(os.P_PID, info.pid, os.WEXITED | os.WNOWAIT)
        kernel._processes.listed[info.name].poll()
    if kernel.process_count:
        kernel.remove_processes(["*"])


def end(kernel: Kernel) -> None:
    """Kill all that a kernel in the test's own process hosts, have it forget everything, and close it."""
    end_processes(kernel)
    if kernel.socket_count:
        kernel.remove_sockets(["*"])
    for process in list(kernel._processes.superseded):
        process.poll()
    for watch in list(kernel._watches.open.values()):
        watch.close()
    for process in list(kernel._processes.every()):
        for absent in list(process.log.readers):  # its client does not come back
            process.log.detach(absent)
    kernel.close()


def hold_watches(kernel: Kernel) -> Callable[[], None]:
    """Keep the acting user's watches from what is done in steps, until the result is called."""
    return hold(kernel._watches._chores)


def hold(chores: Chores) -> Callable[[], None]:
    """Keep the acting user's from being done, until the result is called."""
    held = [True]

    def holding() -> Iterator[None]:
        while held:
            yield

    chores.add(holding())
    return held.clear


def descriptors() -> dict[str, str]:
    """This process's open descriptors, and what they are."""
    found = {}
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found[fd.name] = str(fd.readlink())
        except OSError:
            continue  # the listing's own
    return found


@contextmanager
def no_room(size: int = 1) -> Iterator[None]:
    """No file may become longer than so many bytes, as on a file system that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


#: What was there before the test: containers that other tests have booted are children, too.
_others: set[int] = set()


def children() -> set[int]:
    """This process's children that the test has made, zombies included."""
    return every_child() - _others


def every_child() -> set[int]:
    """This process's children, zombies included."""
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            pids |= {int(pid) for pid in (task / "children").read_text().split()}
    return pids


def begin_counting_children() -> None:
    """Leave out of account what is there now."""
    _others.clear()
    _others.update(children())


def alive(pid: int) -> bool:
    """Whether a process is there, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
