"""logs and consume: processes' output, read along or taken."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import click

from papa_dbus.client.aio import Dropped, Event, Exited, Kernel, Record, Watch
from papa_dbus.client.cli import lines, names, printing
from papa_dbus.client.cli.ends import Status
from papa_dbus.client.cli.lines import Cat, Formatter, Item, Joiner, Line, Short
from papa_dbus.client.cli.running import Command, with_kernel
from papa_dbus.client.cli.sink import Sink
from papa_dbus.errors import NotFound

#: What `logs -f` shows of what was before, as journalctl -f.
_LAST = 10
_FAREWELL = 5.0  # seconds, after Ctrl-C


def _count(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None or value == "all":
        return None if value is None else -1
    if not value.isdigit():
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


def formatter_of(name: str, sink: Sink) -> Formatter:
    """The format of that name, for what the output goes to."""
    if name == "json":
        return lines.as_json
    return Short() if name == "short-precise" else Cat(printing.say, raw=not sink.terminal)


class Reader:
    """Reads along with some processes, and writes the lines that are wanted."""

    def __init__(self, sink: Sink, formatter: Formatter, *, since: int = 0, last: int = -1, stream: str = "") -> None:
        self._sink = sink
        self._formatter = formatter
        self._since = since
        self._stream = stream
        self._joiner = Joiner()
        # What is held back until all has come that was there, when only the last lines of that are wanted.
        self._held: deque[Item] | None = deque(maxlen=last) if last >= 0 else None

    async def read(self, watch: Watch, *, follow: bool) -> None:
        """Write what was there when the watch began, and, to ``follow``, what comes."""
        try:
            async with watch:
                async for events in watch.batches():
                    await self._take(events)
                    if not events:
                        await self._write_held()
                        if not follow:
                            break
            await self._write_held()
            await self._write(list(self._joiner.rest()))
        except asyncio.CancelledError:
            self._sink.write_at_once(lines.formatted(self._joiner.rest(), self._formatter))
            raise

    async def _take(self, events: Sequence[Event]) -> None:
        items = [item for event in events if self._wanted(event) for item in self._joiner.add(event)]
        items = [item for item in items if getattr(item, "timestamp", self._since) >= self._since]
        if self._held is not None:
            self._held.extend(items)
        else:
            await self._write(items)

    def _wanted(self, event: Event) -> bool:
        return not self._stream or not isinstance(event, Record) or event.stream == self._stream

    async def _write_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await self._write(list(held))

    async def _write(self, items: Sequence[Item]) -> None:
        await self._sink.write(lines.formatted(items, self._formatter))


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, metavar="[NAME]...", type=names.PROCESS)
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

    It is what nobody has acknowledged yet, and nothing is taken away from anybody. A managed process's output is
    acknowledged by its manager, so what that has read already is gone from here.

    Lines that were written in pieces are put together. Each has its time and the process's name before it; [err] behind
    the name says that it comes from stderr, [papa] that it is the kernel's word. In --output cat it is the line alone,
    byte for byte where it goes to a pipe or a file.

    \b
    Examples:
      papactl logs web
      papactl logs -f 'web*' --stderr
      papactl logs web --since '10 min ago' -o cat | grep ERROR
    """
    try:
        await names.check(kernel, ("process",), patterns)
    except NotFound as error:
        if not follow:
            raise
        printing.say(f"{error} (waiting for it)")
    if last is None:
        last = _LAST if follow and not since else -1
    sink = Sink(sys.stdout.fileno())
    reader = Reader(sink, formatter_of(output, sink), since=since, last=last, stream=stream or "")
    try:
        watch = kernel.watch(*patterns, observe=True, follow=follow)
        await until_nobody_reads(sink, reader.read(watch, follow=follow))
    except NotFound:
        if patterns:
            raise


async def until_nobody_reads(sink: Sink, work: Any) -> None:
    """Do it, unless the pipe's reader goes away: then BrokenPipeError."""
    working, broken = asyncio.ensure_future(work), asyncio.ensure_future(sink.nobody_reads())
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
    sinks = {"out": Sink(sys.stdout.fileno()), "err": Sink(sys.stderr.fileno(), "stderr")}
    formats = {stream: formatter_of("cat", sink) for stream, sink in sinks.items()}
    joiner = Joiner()
    async with kernel.watch(name, observe=True) as watch:
        async for events in watch.batches():
            for item in (item for event in events for item in joiner.add(event)):
                stream = item.stream if isinstance(item, Line) else "err"
                await sinks[stream].write(formats[stream](item))
                if isinstance(item, Exited):
                    return item.exit_code
    raise NotFound(f"process '{name}' was removed while it was followed")


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...", type=names.PROCESS)
@click.option("--to", "path", type=click.Path(dir_okay=False), metavar="FILE", help="Append to a file, not to stdout.")
@click.option(
    "--output",
    "-o",
    "output",
    type=click.Choice(["cat", "json"]),
    default="cat",
    help="The bytes as they are, or an object for each record (cat).",
)
@with_kernel()
async def consume(kernel: Kernel, patterns: tuple[str, ...], path: str | None, output: str) -> None:
    """Take processes' output, to stdout or a file.

    That goes on until they have ended: what has been written is acknowledged, and leaves the kernel.

    Output is acknowledged only after it has been written; to a file, after it is on the disk (fsync). Where papactl or
    the machine stops between the two, that piece comes again: never lost, perhaps twice. Two who consume the same
    process both get everything. Ctrl-C ends papactl, and the rest stays in the kernel.

    \b
    Examples:
      papactl consume web --to /var/log/web.log
      papactl consume 'job-*' -o json | jq -r .message
    """
    await names.check(kernel, ("process",), patterns)
    with contextlib.ExitStack() as stack:
        fd = sys.stdout.fileno()
        if path is not None:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            stack.callback(os.close, fd)
        sink = Sink(fd, path or "stdout")
        await until_nobody_reads(sink, _consume(kernel.watch(*patterns), sink, output))


async def _consume(watch: Watch, sink: Sink, output: str) -> None:
    async with watch:
        async for events in watch.batches():
            await sink.write(b"".join(_raw(event, output, sink.terminal) for event in events))
            sink.sync()


def _raw(event: Event, output: str, terminal: bool) -> bytes:
    if output == "json":
        return lines.as_json(event)
    if isinstance(event, Dropped):
        printing.say(f"{event.process}: {lines.note(event)}")
    if not isinstance(event, Record):
        return b""
    if terminal:
        return b"\n".join(printing.clean(line.removesuffix(b"\r")).encode() for line in event.data.split(b"\n"))
    return event.data
