"""logs: processes' output, read along; and what it shares with consume."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import click

from papa_dbus.client.aio import Dropped, Event, Exited, Kernel, Record, Watch
from papa_dbus.client.cli import completion, line_format, printing
from papa_dbus.client.cli.command import Command, with_kernel
from papa_dbus.client.cli.exit_status import Status
from papa_dbus.client.cli.line_format import Cat, Formatter, Item, Joiner, Line, Short
from papa_dbus.client.cli.log_file import LogFile
from papa_dbus.client.cli.output_writer import OutputWriter
from papa_dbus.client.cli.partial_lines import paced
from papa_dbus.errors import NotFound

#: What `logs -f` shows of what was before, as journalctl -f.
_LAST = 10
_FAREWELL = 5.0  # seconds, after Ctrl-C


def _count(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None or value == "all":
        return None if value is None else -1
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number of lines nor 'all'", context, parameter)
    return int(value)


def _since(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """µs of CLOCK_REALTIME; in systemd's own words (systemd.time(7)), which systemd itself reads."""
    if value is None:
        return 0
    try:
        done = subprocess.run(
            ["systemd-analyze", "timestamp", "--", value], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise click.ClickException(f"--since needs systemd-analyze(1): {error.strerror}") from None
    found = re.search(r"UNIX seconds: @([0-9]+)(?:\.([0-9]{1,6}))?", done.stdout)
    if found is None:
        raise click.BadParameter(
            f"{value!r} is no time such as '10 min ago', '12:30' or '2030-01-31 12:30' (systemd.time(7))",
            context, parameter,
        )  # fmt: skip
    return int(found[1]) * 1_000_000 + int((found[2] or "0").ljust(6, "0"))


def formatter_of(name: str, writer: OutputWriter) -> Formatter:
    """Return the format of that name, for what the output goes to."""
    if name == "json":
        return line_format.as_json
    return Short() if name == "short-precise" else Cat(printing.say, raw=not writer.terminal)


class _Held:
    """The last lines, while it is not known yet which those are. Parts of a line count as one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._items: deque[Item] = deque()
        self._begins = 0

    def add(self, items: Iterable[Item]) -> None:
        """Add some, and let go what is too much."""
        for item in items:
            self._items.append(item)
            self._begins += _begins(item)
        while self._items and (self._begins > self._count or not _begins(self._items[0])):
            self._begins -= _begins(self._items.popleft())

    def all(self) -> list[Item]:
        """Return all that are left."""
        return list(self._items)


def _begins(item: Item) -> bool:
    return not (isinstance(item, Line) and item.continued)


class Reader:
    """Reads along with some processes, and writes the lines that are wanted."""

    def __init__(
        self, writer: OutputWriter, formatter: Formatter, *, since: int = 0, last: int = -1, stream: str = ""
    ) -> None:
        self._writer = writer
        self._formatter = formatter
        self._since = since
        self._stream = stream
        self._joiner = Joiner()
        # What is held back until all has come that was there, when only the last lines of that are wanted.
        self._held: _Held | None = _Held(last) if last >= 0 else None

    async def read(self, watch: Watch, *, follow: bool) -> None:
        """Write what was there when the watch began, and, to ``follow``, what comes."""
        try:
            async with watch, paced(watch, lambda: self._joiner.due) as batches:
                async for events in batches:
                    if events is None:
                        await self._pass(self._joiner.begun(time.monotonic()))
                    elif events:
                        await self._take(events)
                    elif follow:
                        await self._pass(self._joiner.begun())
                        await self._write_held()
                    else:
                        break
            await self._pass(self._joiner.rest(final=False))
            await self._write_held()
        except asyncio.CancelledError:
            self._writer.write_at_once(line_format.formatted(self._joiner.rest(final=False), self._formatter))
            raise

    async def _take(self, events: Sequence[Event]) -> None:
        await self._pass([item for event in events if self._wanted(event) for item in self._joiner.add(event)])

    async def _pass(self, items: Sequence[Item]) -> None:
        """Write those that are new enough, or hold them."""
        new = [item for item in items if self._is_new(item)]
        if self._held is not None:
            self._held.add(new)
        else:
            await self._write(new)

    def _wanted(self, event: Event) -> bool:
        return not self._stream or not isinstance(event, Record) or event.stream == self._stream

    def _is_new(self, item: Item) -> bool:
        """Return whether it is new: as new as its end, or what has come of a line since then would not be shown."""
        if isinstance(item, Line):
            return item.latest >= self._since
        return isinstance(item, Dropped) or item.timestamp >= self._since

    async def _write_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await self._write(held.all())

    async def _write(self, items: Sequence[Item]) -> None:
        await self._writer.write(line_format.formatted(items, self._formatter))


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, metavar="[NAME]...", type=completion.PROCESS)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, of processes made later, too.")
@click.option(
    "--lines",
    "-n",
    "last",
    metavar="COUNT",
    callback=_count,
    help=f"Only the last lines of what is there, or all ({_LAST} with --follow, else all).",
)
@click.option("--since", metavar="TIME", callback=_since, help="Only what is newer, such as '10 min ago' or '12:30'.")
@click.option("--stdout", "stream", flag_value="out", help="Only what was written to stdout.")
@click.option("--stderr", "stream", flag_value="err", help="Only what was written to stderr.")
@click.option(
    "--output",
    "-o",
    "output",
    type=click.Choice(["short-precise", "json", "cat"]),
    default="short-precise",
    help="How a line is written (short-precise).",
)
@with_kernel()
async def logs(
    kernel: Kernel,
    patterns: tuple[str, ...],
    follow: bool,
    last: int | None,
    since: int,
    stream: str | None,
    output: str,
) -> None:
    """Show processes' output.

    It is the output that has not been acknowledged yet; reading it does not acknowledge it. A manager acknowledges the
    output of its processes, so what it has read already is not shown here.

    Lines that were written in pieces are put together. Each has its time and the process's name before it; [err] behind
    the name says that it comes from stderr, [papa] that it is papad's word. In --output cat it is the line alone,
    byte for byte if stdout is a pipe or a file.

    With --follow, a line whose end does not come is shown after half a second, as far as it has come: [partial] says
    that more of it may follow, [continued], without a time, that this is more of it. So are the parts of a line of more
    than 64 KiB. On a terminal such a line grows, if nothing comes between. In --output json they are "partial": true
    and "continued": true.

    \b
    Examples:
      papactl logs web
      papactl logs -f 'web*' --stderr
      papactl logs web --since '10 min ago' -o cat | grep ERROR
    """
    there, missed = await completion.divide(kernel, ("process",), patterns)
    if missed is not None and follow:
        printing.say(f"{missed} (waiting for it)")
    elif missed is not None and not there:
        raise missed
    if last is None:
        last = _LAST if follow and not since else -1
    writer = OutputWriter(sys.stdout.fileno())
    reader = Reader(writer, formatter_of(output, writer), since=since, last=last, stream=stream or "")
    try:
        watch = kernel.watch(*(patterns if follow else there), observe=True, follow=follow)
        await until_reader_gone(writer, reader.read(watch, follow=follow))
    except NotFound:
        if patterns:
            raise
    if missed is not None and not follow:
        raise missed


async def until_reader_gone(writer: OutputWriter | LogFile, work: Any) -> None:
    """Do it, unless the pipe's reader goes away: then BrokenPipeError."""
    working, broken = asyncio.ensure_future(work), asyncio.ensure_future(writer.reader_gone())
    try:
        await asyncio.wait((working, broken), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # Whoever presses Ctrl-C does not wait for a machine that does not answer.
        asyncio.get_running_loop().call_later(_FAREWELL, os._exit, Status.INTERRUPTED)
        raise
    finally:
        for task in (working, broken):
            task.cancel()
        await asyncio.gather(working, broken, return_exceptions=True)
    await (working if not working.cancelled() else broken)


async def follow_to_the_end(kernel: Kernel, name: str) -> int | None:
    """Write a process's output, stdout and stderr apart, until it has ended; its exit code."""
    writers = {"out": OutputWriter(sys.stdout.fileno()), "err": OutputWriter(sys.stderr.fileno(), "stderr")}
    formats = {stream: formatter_of("cat", writer) for stream, writer in writers.items()}
    joiner = Joiner()
    watch = kernel.watch(name, observe=True)
    async with watch, paced(watch, lambda: joiner.due) as batches:
        async for events in batches:
            items = joiner.begun(time.monotonic()) if events is None else joiner.add_all(events)
            for item in items:
                stream = item.stream if isinstance(item, Line) else "err"
                await writers[stream].write(formats[stream](item))
                if isinstance(item, Exited):
                    return item.exit_code
    raise NotFound(f"process '{name}' was removed while it was followed")
