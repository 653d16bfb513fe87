"""kill: sends a signal to hosted processes. papad itself signals nothing."""

import os
import signal
from typing import Any

import click

from papa_dbus.client.aio import Kernel, Process
from papa_dbus.client.cli import completion, printing
from papa_dbus.client.cli.columns import state
from papa_dbus.client.cli.command import Command, with_kernel
from papa_dbus.client.cli.exit_status import Status
from papa_dbus.errors import AccessDenied, NotFound, NotSupported, PapaError

_SYSTEMD = "org.freedesktop.systemd1"
_ROOT = "/org/freedesktop/systemd1"


class Signal(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A signal: TERM, SIGTERM, term or 15."""

    name = "signal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return its number."""
        word = str(value).upper()
        if word.isascii() and word.isdigit() and int(word) in signal.valid_signals():
            return int(word)
        try:
            return signal.Signals["SIG" + word.removeprefix("SIG")]
        except KeyError:
            self.fail(f"{value!r} is not a signal, such as TERM, HUP, KILL or 15", param, ctx)


class KillCommand(Command):
    """A command that takes a signal as kill(1) does, too: -9, -HUP."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read -HUP as --signal HUP; else it would be -H UP."""
        return super().parse_args(ctx, [f"--signal={arg[1:]}" if _is_signal(arg) else arg for arg in args])


def _is_signal(arg: str) -> bool:
    word = arg[1:]
    return arg.startswith("-") and (word.isdecimal() or f"SIG{word.removeprefix('SIG')}" in signal.Signals.__members__)


@click.command(cls=KillCommand)
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...", type=completion.PROCESS)
@click.option("--signal", "-s", "number", type=Signal(), default="TERM", help="The signal to send (TERM).")
@with_kernel()
async def kill(kernel: Kernel, patterns: tuple[str, ...], number: int) -> int:
    """Send a signal to processes.

    It goes to the process itself, not to what that has started. On another machine (-H) systemd sends it, to all
    processes of its scope.

    papad does not restart what ends; a manager such as Circus may.

    \b
    Examples:
      papactl kill web
      papactl kill 'job-*' --signal HUP
      papactl kill -9 web
      papactl kill web && papactl wait web
    """
    await completion.check(kernel, ("process",), patterns)
    failed = False
    for name, process in sorted((await kernel.list_processes(*patterns)).items()):
        if not process.running:
            if name in patterns or str(process.pid) in patterns:  # a pattern means those that run
                printing.say(f"'{name}' has ended already ({state(process)})")
                failed = True
            continue
        try:
            to = await _send(kernel, process, number)
        except PapaError as error:
            printing.say(str(error))
            failed = True
        else:
            printing.line(f"{name}: {printing.signal_name(number)} sent to {to}")
    return Status.FAILED if failed else Status.OK


async def _send(kernel: Kernel, process: Process, number: int) -> str:
    """Send a signal to this process and no other, whatever has its name or its PID by now; return what it was sent to.

    Raises NotFound if it has ended.
    """
    if not kernel.link.bus.passes_descriptors:
        await _send_by_systemd(kernel, process, number)
        return f"all processes of {process.unit}"
    pidfd = await kernel.open_process(process.name)
    try:
        await _check_same(kernel, process)
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise NotFound(f"'{process.name}' has ended already") from None
    except PermissionError:
        raise AccessDenied(
            f"'{process.name}' (PID {process.pid}) cannot be signalled: it is another user's; use sudo"
        ) from None
    finally:
        os.close(pidfd)
    return f"PID {process.pid}"


async def _check_same(kernel: Kernel, process: Process) -> None:
    """Raise NotFound unless the process runs and has its name still, so that what the name gave is its own."""
    now = (await kernel.list_processes(process.name)).get(process.name)
    if now is None or not now.running or (now.pid, now.started) != (process.pid, process.started):
        raise NotFound(f"'{process.name}' (PID {process.pid}) has ended or was replaced meanwhile; nothing was sent")


async def _send_by_systemd(kernel: Kernel, process: Process, number: int) -> None:
    """Have systemd send it to the scope by its invocation, since a later process of that name has a scope so named."""
    if not process.unit:
        raise NotSupported(
            f"'{process.name}' has no scope of systemd's, so it cannot be signalled from another machine:"
            f" there, type 'kill {process.pid}'"
        )
    bus = kernel.link.bus
    try:
        [path] = (await bus.call(_SYSTEMD, _ROOT, f"{_SYSTEMD}.Manager", "GetUnit", "s", [process.unit])).body
        which = [f"{_SYSTEMD}.Unit", "InvocationID"]
        [invocation] = (await bus.call(_SYSTEMD, path, "org.freedesktop.DBus.Properties", "Get", "ss", which)).body
        await _check_same(kernel, process)
        path = f"{_ROOT}/unit/{bytes(invocation.value).hex()}"
        await bus.call(_SYSTEMD, path, f"{_SYSTEMD}.Unit", "Kill", "si", ["all", number])
    except PapaError as error:
        raise type(error)(f"'{process.name}' ({process.unit}) was not signalled: {error}") from None
