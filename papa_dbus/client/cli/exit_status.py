"""What papactl's end says: exit statuses, and the sentence on stderr where something went wrong."""

import asyncio
import functools
import io
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Any

import click

from papa_dbus.client import aio
from papa_dbus.client.cli import printing
from papa_dbus.client.cli.options import as_typed
from papa_dbus.errors import (
    AccessDenied,
    BusFull,
    InvalidArgs,
    Late,
    NoReply,
    NotFound,
    NotStarted,
    PapaError,
    Unreachable,
)


class Status(IntEnum):
    """papactl's exit statuses."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    ACCESS_DENIED = 6
    PAPACTL_FAILED = 125
    SIGNAL = 128
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


#: What they mean, for the manual.
MEANINGS = {
    Status.OK: "Done.",
    Status.FAILED: "What was asked for could not be done. Of doctor: something is bad; of exit-if-idle: not idle.",
    Status.USAGE: "The command line is wrong, or papad does not take an option's value.",
    Status.NOT_RUNNING: "Of status: papad does not run; of status NAME: a process has ended.",
    Status.NOT_FOUND: "There is nothing of that name.",
    Status.UNREACHABLE: "papad is not running or cannot be reached, or it went away before it answered.",
    Status.ACCESS_DENIED: "This user may not talk to papad.",
    Status.PAPACTL_FAILED: "Of wait and run --follow, whose status is else the process's: papactl itself has failed, or"
    " nobody could see the exit code.",
    Status.SIGNAL: "And the number of a signal, of wait and run --follow: the process was ended by that.",
    Status.INTERRUPTED: "Ctrl-C.",
    Status.BROKEN_PIPE: "Nobody reads what papactl prints any more.",
    Status.TERMINATED: "SIGTERM.",
}


_STATUS: dict[type[PapaError], Status] = {
    InvalidArgs: Status.USAGE,
    NotFound: Status.NOT_FOUND,
    Unreachable: Status.UNREACHABLE,
    NoReply: Status.UNREACHABLE,
    AccessDenied: Status.ACCESS_DENIED,
}


def exit_125_on_error(function: Callable[..., Awaitable[int | None]]) -> Callable[..., Awaitable[int | None]]:
    """Decorate `wait` and the like: what fails here must not look like the process's own exit status."""

    @functools.wraps(function)
    async def command(kernel: aio.Kernel, **arguments: Any) -> int | None:
        try:
            return await function(kernel, **arguments)
        except PapaError as error:
            error.args = (as_typed(str(error), click.get_current_context().command),)
            printing.say(_sentence(error))
            return Status.PAPACTL_FAILED

    return command


def run(group: click.Group, arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status, everything that went wrong said on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale, what it has no letter for is no error
            stream.reconfigure(errors="backslashreplace")
    stdout = sys.stdout
    try:
        status = group.main(arguments, prog_name="papactl", standalone_mode=False)  # an int if click itself has exited
        sys.stdout.flush()
    except SystemExit as end:
        if sys.stdout is not stdout:  # click's way with a broken pipe, and its status for that is 1
            sys.stdout = stdout
            _forget_stdout()
            return Status.BROKEN_PIPE
        return int(end.code or 0)
    except BrokenPipeError:
        _forget_stdout()
        return Status.BROKEN_PIPE
    except (KeyboardInterrupt, asyncio.CancelledError, RuntimeError, OSError, click.ClickException) as error:
        return _end_with(error)
    return status if isinstance(status, int) else Status.OK


def _end_with(error: BaseException) -> int:
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return Status.INTERRUPTED
        case asyncio.CancelledError():
            return Status.TERMINATED
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "papactl"
            printing.say(f"{_in_our_style(error.format_message())} ({path} --help)")
            return Status.USAGE
        case click.ClickException():
            printing.say(error.format_message())
            return Status.FAILED
        case PapaError():
            printing.say(_sentence(error))
            return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), Status.FAILED)
        case OSError():
            printing.say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            return Status.FAILED
    raise error


def _sentence(error: PapaError) -> str:
    if isinstance(error, AccessDenied):
        return f"permission denied: {error}"
    if isinstance(error, Unreachable) and not isinstance(error, (BusFull, NotStarted)):
        return f"cannot reach papad: {error}; 'papactl doctor', with the same options, says more"
    if isinstance(error, NoReply) and not isinstance(error, Late):
        return f"papad went away before it answered ({error}); see whether it was done before you repeat it"
    return str(error)


def _in_our_style(message: str) -> str:
    """Return click's sentence as papactl's are: without a capital and a full stop."""
    return message[:1].lower() + message[1:].removesuffix(".").replace(" Did you mean", "; did you mean")


def _forget_stdout() -> None:
    """Discard it: nobody reads it any more, and Python would complain about what it still has to write."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
