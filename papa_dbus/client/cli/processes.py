"""run, wait and remove: processes."""

import os
from typing import Any

import click

from papa_dbus.client.aio import Kernel
from papa_dbus.client.cli import names, output, printing
from papa_dbus.client.cli.ends import Status, own_failures
from papa_dbus.client.cli.items import callers_path, octal
from papa_dbus.client.cli.running import Command, ProcessCommand, with_kernel

_MULTIPLES = {"k": 1024, "m": 1024**2, "g": 1024**3}
#: RLIM_INFINITY: no limit (getrlimit(2)).
_NO_LIMIT = 2**64 - 1


class Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """With k, m or g for its multiples of 1024."""
        digits, unit = (value[:-1], value[-1].lower()) if value[-1:].lower() in _MULTIPLES else (value, "")
        if not (digits.isascii() and digits.isdigit()):
            self.fail(f"{value!r} is not a number of bytes, such as 65536, 64k or 2m", param, ctx)
        return int(digits) * _MULTIPLES.get(unit, 1)


class Percent(click.ParamType):  # type: ignore[type-arg]  # as Size
    """A whole number of per cent."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """With or without its sign, as systemd's CPUQuota= has it."""
        digits = str(value).removesuffix("%")
        if not (digits.isascii() and digits.isdigit()):
            self.fail(f"{value!r} is not a whole number of per cent, such as 50% or 200%", param, ctx)
        return int(digits)


def _environment(given: tuple[str, ...]) -> dict[str, str] | None:
    pairs = {}
    for item in given:
        name, assigned, value = item.partition("=")
        if not assigned and name not in os.environ:
            raise click.BadParameter(f"{name!r} is not in papactl's own environment: NAME=VALUE", param_hint="'--env'")
        pairs[name] = value if assigned else os.environ[name]
    return pairs or None


def _limits(given: tuple[str, ...]) -> dict[str, int] | None:
    limits = {}
    for item in given:
        name, _, value = item.partition("=")
        if value == "infinity":
            limits[name.lower()] = _NO_LIMIT
        elif value.isascii() and value.isdigit():
            limits[name.lower()] = int(value)
        else:
            raise click.BadParameter(f"{item!r} is not like nofile=1024 or core=infinity", param_hint="'--limit'")
    return limits or None


def _identity(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdigit() else text


@click.command(cls=ProcessCommand)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    type=names.SOCKET,
    metavar="NAME",
    help="A hosted socket to hand over (LISTEN_FDS); may be repeated.",
)
@click.option(
    "--env",
    "-E",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A variable, of papactl's own environment where it has no value; may be repeated. Where there is one,"
    " these are the whole environment.",
)
@click.option("--user", "--uid", metavar="USER", help="The user to run as, by name or number (papad's own).")
@click.option("--group", "--gid", metavar="GROUP", help="The group to run as, by name or number (the user's).")
@click.option("--directory", "-d", metavar="PATH", help="The directory to start in (the user's home).")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="A resource limit, such as nofile=4096 or core=infinity; may be repeated.",
)
@click.option("--memory-max", type=Size(), metavar="SIZE", help="Memory for it and its descendants (no limit).")
@click.option(
    "--cpu-quota", type=Percent(), metavar="PERCENT", help="Per cent of one processor for them; 200% is two (no limit)."
)
@click.option(
    "--tasks-max", type=click.IntRange(1), metavar="NUMBER", help="Processes and threads for them (no limit)."
)
@click.option("--umask", metavar="OCTAL", help="The file mode mask (022).")
@click.option("--stdout", type=click.Choice(["pipe", "null"]), help="Keep the output, or not (pipe).")
@click.option("--stderr", type=click.Choice(["pipe", "null", "stdout"]), help="Likewise; stdout: the same pipe (pipe).")
@click.option("--bufsize", type=Size(), metavar="SIZE", help="Bytes of output kept until acknowledged (2m).")
@click.option("--overflow", type=click.Choice(["drop", "block"]), help="What a full buffer does (drop).")
@click.option(
    "--journal", is_flag=True, default=None, help="Output goes to the systemd journal, too: journalctl -t NAME."
)
@click.option("--follow", "-f", is_flag=True, help="Show its output until it ends, and end with its exit status.")
@click.option("--remove", is_flag=True, help="With --follow: forget the process once it has ended.")
@with_kernel()
async def run(
    kernel: Kernel,
    name: str,
    command: tuple[str, ...],
    env: tuple[str, ...],
    limits: tuple[str, ...],
    user: str | None,
    group: str | None,
    directory: str | None,
    umask: str | None,
    follow: bool,
    remove: bool,
    **options: Any,
) -> int | None:
    """Start a process and leave it to the kernel.

    The command comes after --, so that its options are its own. A program or a directory whose path is relative is
    looked for where papactl is called; with -H it must be absolute. The process's user is --user USER; the kernel on
    the user's own bus is `papactl --user run`. $(socket.NAME.fileno) and $(socket.NAME.port) in the command are
    replaced.

    With --follow papactl reads along, as `papactl logs`, and ends as the process does: with its exit status, or with
    128 and the signal's number; 125 where papactl itself fails. Ctrl-C ends papactl, not the process.

    \b
    Examples:
      papactl run web --socket http --user www-data -- gunicorn app:app
      papactl run backup --follow --remove -- /usr/local/bin/backup
      papactl run report --memory-max 512m --cpu-quota 50% -- /usr/local/bin/report
    """
    if remove and not follow:
        raise click.UsageError("--remove is for --follow: without it, 'papactl remove NAME' forgets a process")
    options |= {
        "env": _environment(env),
        "rlimits": _limits(limits),
        "uid": _identity(user),
        "gid": _identity(group),
        "umask": octal(umask),
        "sockets": options["sockets"] or None,
    }
    here = kernel.link.bus.passes_descriptors
    options["working_dir"] = None if directory is None else callers_path(directory, "--directory", here=here)
    if "/" in command[0]:
        command = (callers_path(command[0], "the program", here=here), *command[1:])
    start = own_failures(_start) if follow else _start
    return await start(kernel, name=name, command=command, options=options, follow=follow, remove=remove)


async def _start(
    kernel: Kernel, *, name: str, command: tuple[str, ...], options: dict[str, Any], follow: bool, remove: bool
) -> int | None:
    process = await kernel.make_process(name, command, **options)
    if not follow:
        unit = f", {process.unit}" if process.unit else ""
        printing.line(f"{process.name}: PID {process.pid}{unit}")
        return None
    code = await output.follow_to_the_end(kernel, name)
    if remove:
        await kernel.remove_processes(name)
    return status_of(name, code)


def status_of(name: str, code: int | None) -> int:
    """The exit status that a shell would give for the process's."""
    if code is None:
        printing.say(f"'{name}' has ended while nobody could see its exit code")
        return Status.OURS
    return code if code >= 0 else Status.SIGNAL - code


@click.command(cls=Command)
@click.argument("name", type=names.PROCESS)
@with_kernel()
@own_failures
async def wait(kernel: Kernel, name: str) -> int:
    """Wait for a process's end.

    papactl ends with its exit status. A process that a signal has ended gives 128 and the signal's number, as in a
    shell; where papactl itself fails, or nobody could see the exit code, it is 125. None of the output is taken.

    \b
    Example:
      papactl wait migrate && papactl run web -- gunicorn app:app
    """
    await names.check(kernel, ("process",), [name])
    return status_of(name, await kernel.wait(name))


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...", type=names.PROCESS)
@with_kernel()
async def remove(kernel: Kernel, patterns: tuple[str, ...]) -> None:
    """Forget processes and their output. One that runs goes on, and leaves the list when it ends.

    \b
    Example:
      papactl remove 'job-*'
    """
    await names.check(kernel, ("process",), patterns)
    before = await kernel.list_processes(*patterns)
    for name in await kernel.remove_processes(*patterns):
        process = before.get(name)
        goes_on = f" (PID {process.pid} goes on)" if process is not None and process.running else ""
        printing.line(f"{name}{goes_on}")
