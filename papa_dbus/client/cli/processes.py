"""run, wait and remove: processes."""

import os
import shlex
import shutil
from collections.abc import Sequence
from typing import Any

import click

from papa_dbus.client.aio import Kernel
from papa_dbus.client.cli import completion, logs, other_tools, printing
from papa_dbus.client.cli.command import Command, ProcessCommand, with_kernel
from papa_dbus.client.cli.exit_status import Status, exit_125_on_error
from papa_dbus.client.cli.options import options_of
from papa_dbus.client.cli.sockets import callers_path
from papa_dbus.errors import Spawn
from papa_dbus.forms import LIMIT
from papa_dbus.schema import ProcessRequest


def _environment(given: tuple[str, ...]) -> dict[str, str] | None:
    pairs = {}
    for item in given:
        name, assigned, value = item.partition("=")
        if not assigned and name not in os.environ:
            raise click.BadParameter(
                f"{name!r} is not in papactl's own environment; write {name}=VALUE", param_hint="'--env'"
            )
        pairs[name] = value if assigned else os.environ[name]
    return pairs or None


def _limits(given: tuple[str, ...]) -> dict[str, Any] | None:
    limits = {}
    for item in given:
        name, _, value = item.partition("=")
        try:
            limits[name.lower()] = LIMIT.read(value)
        except ValueError:
            raise click.BadParameter(
                f"{item!r} is not like nofile=1024 or core=infinity", param_hint="'--limit'"
            ) from None
    return limits or None


@click.command(cls=ProcessCommand, instead=other_tools.RUN_OPTIONS)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@options_of(
    ProcessRequest,
    env={
        "words": ["--env", "-E"],
        "metavar": "NAME[=VALUE]",
        "help": "A variable, of papactl's own environment if it has no value; may be repeated. If there is one,"
        " these are the whole environment.",
    },
    working_dir={
        "words": ["--directory", "-d"],
        "metavar": "PATH",
        "help": "The directory to start in (the user's home).",
    },
    uid={"words": ["--user", "--uid"], "metavar": "USER"},
    gid={"words": ["--group", "--gid"], "metavar": "GROUP"},
    rlimits={
        "words": ["--limit"],
        "metavar": "NAME=VALUE",
        "help": "A resource limit, such as nofile=4096 or core=infinity; may be repeated.",
    },
    sockets={
        "words": ["--socket"],
        "type": completion.SOCKET,
        "metavar": "NAME",
        "help": "A hosted socket to hand over (LISTEN_FDS); may be repeated.",
    },
)
@click.option("--follow", "-f", is_flag=True, help="Show its output until it ends, and end with its exit status.")
@click.option("--remove", is_flag=True, help="With --follow: forget the process once it has ended.")
@with_kernel()
async def run(
    kernel: Kernel,
    name: str,
    command: tuple[str, ...],
    follow: bool,
    remove: bool,
    **options: Any,
) -> int | None:
    """Start a process and leave it to papad.

    The command comes after --, so that its options are its own. A relative path of a program or a
    directory starts from the directory in which papactl is called; with -H it must be absolute. The process's user is
    --user USER; papad on the user's own bus is `papactl --user run`. $(socket.NAME.fileno) and $(socket.NAME.port) in
    the command are replaced.

    With --follow papactl shows its output, as `papactl logs -f` does, and ends as the process does: with its exit
    status, or with 128 and the signal's number; 125 if papactl itself fails. Ctrl-C ends papactl, not the process.

    \b
    Examples:
      papactl run web --socket http --user www-data -- gunicorn app:app
      papactl run backup --follow --remove -- /usr/local/bin/backup
      papactl run report --memory-max 512m --cpu-quota 50% -- /usr/local/bin/report
    """
    if remove and not follow:
        raise click.UsageError("--remove is for --follow: without it, 'papactl remove NAME' forgets a process")
    options |= {
        "env": _environment(options["env"]),
        "rlimits": _limits(options["rlimits"]),
        "sockets": options["sockets"] or None,
    }
    here = kernel.link.bus.passes_descriptors
    if (directory := options["working_dir"]) is not None:
        options["working_dir"] = callers_path(directory, "--directory", here=here)
    if "/" in command[0]:
        command = (callers_path(command[0], "the program", here=here), *command[1:])
    start = exit_125_on_error(_start) if follow else _start
    return await start(kernel, name=name, command=command, options=options, follow=follow, remove=remove)


async def _start(
    kernel: Kernel, *, name: str, command: tuple[str, ...], options: dict[str, Any], follow: bool, remove: bool
) -> int | None:
    try:
        process = await kernel.make_process(name, command, **options)
    except Spawn as error:
        error.args = (f"{error}{_misread(name, command)}",)
        raise
    if not follow:
        unit = f", {process.unit}" if process.unit else ""
        printing.line(f"{process.name}: PID {process.pid}{unit}")
        return None
    code = await logs.follow_to_the_end(kernel, name)
    if remove:
        await kernel.remove_processes(name)
    return status_of(name, code)


def _misread(name: str, command: Sequence[str]) -> str:
    """Say, after what papad says of a command that does not start, which word was probably meant otherwise."""
    if shutil.which(name):
        return f"; '{name}' is the process's name here: write 'papactl run NAME -- {shlex.join([name, *command])}'"
    if len(command) == 1 and " " in command[0]:
        return "; it is one word: quote each word for itself, not the command"
    return ""


def status_of(name: str, code: int | None) -> int:
    """Return the exit status that a shell would give for the process's."""
    if code is None:
        printing.say(f"'{name}' has ended while nobody could see its exit code")
        return Status.PAPACTL_FAILED
    return code if code >= 0 else Status.SIGNAL - code


@click.command(cls=Command)
@click.argument("name", type=completion.PROCESS)
@with_kernel()
@exit_125_on_error
async def wait(kernel: Kernel, name: str) -> int:
    """Wait for a process's end.

    papactl ends with its exit status. A process that a signal has ended gives 128 and the signal's number, as in a
    shell; if papactl itself fails, or nobody could see the exit code, it is 125. No output is acknowledged.

    \b
    Example:
      papactl wait migrate && papactl run web -- gunicorn app:app
    """
    await completion.check(kernel, ("process",), [name])
    return status_of(name, await kernel.wait(name))


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...", type=completion.PROCESS)
@with_kernel()
async def remove(kernel: Kernel, patterns: tuple[str, ...]) -> None:
    """Forget processes and their output. One that runs goes on, and leaves the list when it ends.

    \b
    Example:
      papactl remove 'job-*'
    """
    await completion.check(kernel, ("process",), patterns, completion.REMOVED)
    before = await kernel.list_processes(*patterns)
    for name in await kernel.remove_processes(*patterns):
        process = before.get(name)
        goes_on = f" (PID {process.pid} goes on)" if process is not None and process.running else ""
        printing.line(f"{name}{goes_on}")
