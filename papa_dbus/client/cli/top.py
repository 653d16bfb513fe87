"""top: what each process uses and writes, live."""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from papa_dbus.client.aio import Kernel, KernelInfo, Process
from papa_dbus.client.cli import printing
from papa_dbus.client.cli.columns import BUFFERED, NAME, state, state_style
from papa_dbus.client.cli.command import Command, Target, with_kernel
from papa_dbus.client.cli.printing import Column
from papa_dbus.client.cli.resource_usage import Usage, usage


@dataclass(frozen=True, slots=True)
class Row:
    """One process: ``cpu`` in per cent of one processor, ``memory`` in bytes, ``rate`` in bytes of output a second."""

    process: Process
    cpu: float | None
    memory: int | None
    rate: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time, in seconds of the monotonic clock."""

    time: float
    processes: dict[str, Process]
    usages: dict[str, Usage | None]

    @classmethod
    async def take(cls, kernel: Kernel, *, here: bool) -> "Sample":
        """Ask papad, and, where it is on this machine, Linux."""
        processes = await kernel.list_processes()
        usages = {name: usage(process) if here else None for name, process in processes.items()}
        return cls(time.monotonic(), processes, usages)

    def since(self, before: "Sample | None") -> list[Row]:
        """Return the rows; what is a rate is not known without a sample from before."""
        return [self._row(name, before) for name in self.processes]

    def _row(self, name: str, before: "Sample | None") -> Row:
        now, used = self.processes[name], self.usages[name]
        memory = used.memory if used is not None else None
        was = before.processes.get(name) if before is not None else None
        if before is None or was is None or was.started != now.started or self.time <= before.time:
            return Row(now, None, memory, None)
        seconds = self.time - before.time
        used_before = before.usages[name]
        cpu = (used.cpu - used_before.cpu) / seconds * 100 if used is not None and used_before is not None else None
        return Row(now, cpu, memory, max(now.written - was.written, 0) / seconds)


def _of(column: Column) -> Column:
    shown, style = column.shown, column.style
    return Column(
        column.title,
        lambda row: column.of(row.process),
        None if shown is None else lambda row: shown(row.process),
        lambda row: style(row.process),
        column.right,
    )


_COLUMNS = (
    _of(NAME),
    _of(Column("STATE", state, style=state_style)),
    _of(Column("PID", lambda p: p.pid, right=True)),
    Column("CPU%", lambda row: None if row.cpu is None else f"{row.cpu:.1f}", right=True),
    Column("MEMORY", lambda row: row.memory, lambda row: _size(row.memory), right=True),
    Column(
        "OUTPUT/s", lambda row: None if row.rate is None else round(row.rate), lambda row: _size(row.rate), right=True
    ),
    _of(BUFFERED),
    _of(Column("COMMAND", lambda p: shlex.join(p.args))),
)
_ORDERS: dict[str, Callable[[Row], tuple[float, str]]] = {
    "cpu": lambda row: (-(row.cpu or 0), row.process.name),
    "memory": lambda row: (-(row.memory or 0), row.process.name),
    "output": lambda row: (-(row.rate or 0), row.process.name),
    "buffered": lambda row: (-row.process.buffered, row.process.name),
    "name": lambda row: (0, row.process.name),
}
_FORMER_ORDERS = {"held": "buffered"}  # still understood, not shown


def _size(count: float | None) -> str:
    return "-" if count is None else printing.size(count)


class Waker:
    """Wakes who waits between two screens: for a key, and for a terminal of a new size."""

    def __init__(self) -> None:
        self.quit = False
        self._resized = False
        self._awake = asyncio.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take keys one by one and unseen, until the end."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._resize)
        if not sys.stdin.isatty():
            yield
            return
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        tty.setcbreak(keyboard)
        loop.add_reader(keyboard, self._key, keyboard)
        try:
            yield
        finally:
            loop.remove_reader(keyboard)
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)

    def _key(self, keyboard: int) -> None:
        pressed = os.read(keyboard, 64)
        if not pressed or b"q" in pressed:
            self.quit = True
            self._awake.set()

    def _resize(self) -> None:
        self._resized = True
        self._awake.set()

    async def wait(self, seconds: float) -> bool:
        """Wait so long, or until something has happened; whether the terminal has a new size."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._awake.wait()
        self._awake.clear()
        resized, self._resized = self._resized, False
        return resized and not self.quit


class Screens:
    """Takes samples and shows them, one after the other."""

    def __init__(self, kernel: Kernel, delay: float, order: str, target: Target) -> None:
        self._kernel = kernel
        self._delay = delay
        self._order = _ORDERS[_FORMER_ORDERS.get(order, order)]
        self._target = target
        self._before: Sample | None = None

    async def rows(self) -> list[Row]:
        """Return the next sample's rows."""
        sample = await Sample.take(self._kernel, here=self._target.host is None)
        rows = sample.since(self._before)
        self._before = sample
        return sorted(rows, key=self._order)

    async def print_tables(self, count: int | None) -> None:
        """Print plain tables, for a pipe: the first one after ``delay`` seconds, so that all have rates."""
        await self.rows()
        done = 0
        while count is None or done < count:
            await asyncio.sleep(self._delay)
            if done:
                printing.line()
            printing.table(_COLUMNS, await self.rows())
            sys.stdout.flush()
            done += 1

    async def show(self, count: int | None) -> None:
        """Show one screen, on a terminal, until q is pressed."""
        waker, console = Waker(), printing.console()
        done = 0
        with waker.listening(), Live(console=console, screen=True, auto_refresh=False) as live:
            while not waker.quit and (count is None or done < count):
                info, rows = await self._kernel.info(), await self.rows()
                done += 1
                live.update(self._screen(info, rows, console.height), refresh=True)
                end = time.monotonic() + self._delay
                while await waker.wait(end - time.monotonic()):
                    live.update(self._screen(info, rows, console.height), refresh=True)

    def _screen(self, info: KernelInfo, rows: Sequence[Row], height: int) -> Group:
        up = printing.duration(time.time() - info.started / 1_000_000)
        buffered = printing.size(info.buffered_bytes)
        head = (
            f"Papa {info.version}{self._target.described}, up {up}: {info.processes} processes, {buffered} buffered"
            " (q quits)"
        )
        room = max(height - 4, 1)
        more = f"and {len(rows) - room} more" if len(rows) > room else ""
        return Group(Text(head, style="bold"), Text(), printing.rich_table(_COLUMNS, rows[:room]), Text(more))


@click.command(cls=Command)
@click.option("--delay", "-d", type=click.FloatRange(min=0.1), default=2.0, help="Seconds between two screens (2).")
@click.option("--count", "-n", type=click.IntRange(min=1), help="How many screens, then the end.")
@click.option(
    "--sort", "order", type=click.Choice([*_ORDERS, *_FORMER_ORDERS]), metavar=f"[{'|'.join(_ORDERS)}]",
    default="cpu", help="What comes first (cpu).",
)  # fmt: skip
@with_kernel()
async def top(kernel: Kernel, delay: float, count: int | None, order: str) -> None:
    """Show live what processes use and write.

    Processor, memory, output a second and bytes buffered; q or Ctrl-C ends it.

    Processor and memory are those of all processes in its scope, so of what a process has started, too; they are not
    known of another machine (-H). In a pipe it prints plain tables.

    \b
    Example:
      papactl top --sort buffered
    """
    screens = Screens(kernel, delay, order, click.get_current_context().ensure_object(Target))
    if printing.on_terminal() and not printing.console().is_dumb_terminal:
        await screens.show(count)
    else:
        await screens.print_tables(count)
