"""consume: processes' output, taken: what has been written is acknowledged."""

import asyncio
import contextlib
import os
import stat
import sys

import click

from papa_dbus.client.aio import Dropped, Event, Kernel, Record, Watch
from papa_dbus.client.cli import completion, line_format, printing
from papa_dbus.client.cli.command import Command, with_kernel
from papa_dbus.client.cli.log_file import LogFile
from papa_dbus.client.cli.logs import until_reader_gone
from papa_dbus.client.cli.options import Value
from papa_dbus.client.cli.output_writer import OutputWriter
from papa_dbus.forms import SIZE
from papa_dbus.text import whole_characters

#: Rotated files that are kept, as Supervisor's stdout_logfile_backups.
_KEEP = 10


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...", type=completion.PROCESS)
@click.option("--to", "path", type=click.Path(dir_okay=False), metavar="FILE", help="Append to a file, not to stdout.")
@click.option(
    "--rotate-size", type=Value(SIZE), metavar="SIZE", help="Rotate the file before it has more bytes, at a line's end."
)
@click.option(
    "--rotate-keep", type=click.IntRange(0), metavar="COUNT", help=f"Keep so many: FILE.1 is the newest ({_KEEP})."
)
@click.option(
    "--output",
    "-o",
    "output",
    type=click.Choice(["cat", "json"]),
    default="cat",
    help="The bytes as they are, or an object for each record (cat).",
)
@with_kernel()
async def consume(
    kernel: Kernel,
    patterns: tuple[str, ...],
    path: str | None,
    rotate_size: int | None,
    rotate_keep: int | None,
    output: str,
) -> None:
    """Take processes' output, to stdout or a file.

    That goes on until they have ended: what has been written is acknowledged, and leaves papad.

    Output is acknowledged only after it has been written; to a file, after it is on the disk (fsync). If papactl or the
    machine stops between the two, that piece comes again: never lost, perhaps twice. If two clients consume the same
    process, each receives all of its output. Ctrl-C ends papactl, and the rest stays in papad.

    A file that is moved away is opened again under its name: with the next output, or at once after SIGHUP, SIGUSR1 or
    SIGUSR2, as logrotate sends them. If the disk is full, papactl says so and waits; papad keeps --bufsize bytes for
    each process meanwhile, and then drops the oldest, unless the process was made with --overflow block.

    In --output json "partial": true says that a record does not end a line, "continued": true that it begins within
    one.

    \b
    Examples:
      papactl consume web --to /var/log/web.log
      papactl consume web --to /var/log/web.log --rotate-size 50m
      papactl consume 'job-*' -o json | jq -r .message
    """
    if path is None and rotate_size is not None:
        raise click.UsageError("--rotate-size is for a file: give it with --to FILE")
    if rotate_size is None and rotate_keep is not None:
        raise click.UsageError("--rotate-keep needs --rotate-size, which says when to rotate")
    if rotate_size == 0:
        raise click.BadParameter("a file of 0 bytes holds nothing; without the option nothing is rotated")
    await completion.check(kernel, ("process",), patterns)
    with contextlib.ExitStack() as stack:
        writer: OutputWriter | LogFile
        if path is None:
            writer = OutputWriter(sys.stdout.fileno())
        elif _is_regular(path):
            writer = LogFile(path, printing.say, rotate_size, _KEEP if rotate_keep is None else rotate_keep)
            stack.callback(writer.close)
            if (task := asyncio.current_task()) is not None:
                writer.listen(hung_up=task.cancel)
        elif rotate_size is not None:
            raise click.UsageError(f"{path} is not a regular file: --rotate-size cannot rotate it")
        else:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            writer = OutputWriter(fd, path)
        write = Objects() if output == "json" else _Bytes(writer.terminal)
        await until_reader_gone(writer, _consume(kernel.watch(*patterns), writer, write))


def _is_regular(path: str) -> bool:
    """Return whether it is a file, or will be one."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


async def _consume(watch: Watch, writer: OutputWriter | LogFile, write: "Objects | _Bytes") -> None:
    async with watch:
        async for events in watch.batches():
            await writer.write(b"".join(map(write, events)))
            writer.sync()
            write.leave_undone(events)


class _Bytes:
    """The bytes as they are; what was dropped is said on stderr."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def __call__(self, event: Event) -> bytes:
        """Return what is to be written of an event."""
        if isinstance(event, Dropped):
            printing.say(f"{event.process}: {line_format.note(event)}")
        if not isinstance(event, Record):
            return b""
        if self._terminal:
            return b"\n".join(printing.clean(line.removesuffix(b"\r")).encode() for line in event.data.split(b"\n"))
        return event.data

    def leave_undone(self, events: list[Event]) -> None:
        """All is done."""


class Objects:
    """A JSON object for each record, cut between characters: half a character goes with the next record."""

    def __init__(self) -> None:
        self._half: dict[tuple[str, str], Record] = {}  # what is left of a record
        self._open: set[tuple[str, str]] = set()  # streams whose last line has no end yet

    def __call__(self, event: Event) -> bytes:
        """Return what is to be written of an event."""
        if not isinstance(event, Record):
            return self._rest(event.process) + line_format.as_json(event)
        source = event.process, event.stream
        half = self._half.pop(source, None)
        data = (half.data if half else b"") + event.data
        size = whole_characters(data)
        if left := data[size:]:
            begins_in = half if half and len(left) > len(event.data) else event
            self._half[source] = begins_in._replace(data=left)
        return self._object(event._replace(data=data[:size])) if size else b""

    def _object(self, record: Record) -> bytes:
        source = record.process, record.stream
        continued = source in self._open
        partial = not record.data.endswith(b"\n")
        (self._open.add if partial else self._open.discard)(source)
        return line_format.as_json(record, continued=continued, partial=partial)

    def _rest(self, process: str) -> bytes:
        sources = [(process, stream) for stream in ("out", "err")]
        rest = b"".join(self._object(self._half.pop(source)) for source in sources if source in self._half)
        self._open.difference_update(sources)
        return rest

    def leave_undone(self, events: list[Event]) -> None:
        """Take from the list what is not to be acknowledged: half a character has not been written."""
        for half in self._half.values():
            events[:] = [event for event in events if event.process != half.process or _before(event, half)]


def _before(event: Event, record: Record) -> bool:
    return (event.last_seq if isinstance(event, Dropped) else event.seq) < record.seq
