"""What every command has in common: where its kernel is, how it is run, and what its end says.

Exit statuses are here and nowhere else.
"""

import asyncio
import functools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import click

from papa_dbus.client import aio
from papa_dbus.client.cli import printing
from papa_dbus.client.link import offers_kernel
from papa_dbus.errors import AccessDenied, InvalidArgs, NoReply, NotFound, PapaError, Unreachable
from papa_dbus.names import BUS_NAME


class Status(IntEnum):
    """papactl's exit statuses."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    ACCESS_DENIED = 6
    OURS = 125
    SIGNAL = 128
    INTERRUPTED = 130
    BROKEN_PIPE = 141


#: What they mean, for the manual.
MEANINGS = {
    Status.OK: "Done.",
    Status.FAILED: "What was asked for could not be done. Of doctor: something is bad; of exit-if-idle: not idle.",
    Status.USAGE: "The command line is wrong, or the kernel does not take an option's value.",
    Status.NOT_RUNNING: "Of status: no kernel runs.",
    Status.NOT_FOUND: "There is nothing of that name.",
    Status.UNREACHABLE: "There is no kernel, or no way to it; or it went away before it answered.",
    Status.ACCESS_DENIED: "This user may not talk to the kernel.",
    Status.OURS: "Of wait and run --follow, whose status is else the process's: papactl itself has failed, or nobody"
    " could see the exit code.",
    Status.SIGNAL: "And the number of a signal, of wait and run --follow: the process was ended by that.",
    Status.INTERRUPTED: "Ctrl-C.",
    Status.BROKEN_PIPE: "Nobody reads what papactl prints any more.",
}


_STATUS: dict[type[PapaError], Status] = {
    InvalidArgs: Status.USAGE,
    NotFound: Status.NOT_FOUND,
    Unreachable: Status.UNREACHABLE,
    NoReply: Status.UNREACHABLE,
    AccessDenied: Status.ACCESS_DENIED,
}
_DENIED = (
    "only root and the members of the group papa may talk to it: use sudo, or have an administrator run"
    " 'usermod -aG papa USER' and log in again"
)


@dataclass
class Target:
    """Where the kernel is that is meant."""

    bus: str | None = None
    host: str | None = None

    @property
    def described(self) -> str:
        """In words, after "the kernel"."""
        where = "" if self.host is None else f" of {self.host}"
        if self.bus is None and self.host is None:
            return ""
        bus = self.bus or "system"
        return f" on the {bus} bus{where}" if bus in ("system", "session") else f" at {bus}{where}"

    @asynccontextmanager
    async def connect(self, *, needs_kernel: bool = True, patience: float = 30.0) -> AsyncIterator[aio.Kernel]:
        """A connection; ``needs_kernel``: Unreachable where no kernel is on the bus, and none would be started."""
        async with aio.connect(self.bus, host=self.host, timeout=patience) as kernel:
            link = kernel.link
            if needs_kernel and not link.present and not await offers_kernel(link.bus):
                raise Unreachable(f"{BUS_NAME} is not on {link.bus.described}")
            yield kernel


def _set_bus(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        context.ensure_object(Target).bus = value


def _set_host(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        context.ensure_object(Target).host = value


def connection_options(*, hidden: bool = False, user: bool = True) -> list[click.Option]:
    """The options that say where the kernel is: of papactl itself, and (hidden) of each command."""
    common: dict[str, Any] = {"expose_value": False, "hidden": hidden}
    options = [
        click.Option(
            ["-H", "--host"], metavar="[USER@]HOST", callback=_set_host,
            help="The kernel of another machine, by ssh, as systemctl -H.", **common,
        ),
        click.Option(["--system"], flag_value="system", callback=_set_bus, help="On the system bus.", **common),
        click.Option(
            ["--bus"], metavar="ADDRESS", callback=_set_bus,
            help="At the message bus of this address, or: system, session.", **common,
        ),
    ]  # fmt: skip
    if user:
        options.insert(
            2, click.Option(["--user"], flag_value="session", callback=_set_bus, help="On the user's bus.", **common)
        )
    return options


class Command(click.Command):
    """A command that also takes where the kernel is: `papactl list -H host` is `papactl -H host list`."""

    user_is_the_bus = True

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, and the hidden ones."""
        params = super().get_params(ctx)
        return [*params, *connection_options(hidden=True, user=self.user_is_the_bus)]


class ProcessCommand(Command):
    """A command whose --user is a process's."""

    user_is_the_bus = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As ever; but an option that is not ours may well be one of the process's."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if "--" in args:
                raise
            hint = "A command's own options come after --."
            raise click.UsageError(f"{error.format_message()} {hint}", ctx) from None


def with_kernel(
    needs_kernel: bool = True,
) -> Callable[[Callable[..., Awaitable[int | None]]], Callable[..., None]]:
    """For a command's function, which gets a connection first and may return an exit status."""

    def decorate(function: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            target = click.get_current_context().ensure_object(Target)

            async def serve() -> int | None:
                async with target.connect(needs_kernel=needs_kernel) as kernel:
                    return await function(kernel, **arguments)

            sys.exit(asyncio.run(serve()) or Status.OK)

        return command

    return decorate


def own_failures(function: Callable[..., Awaitable[int | None]]) -> Callable[..., Awaitable[int | None]]:
    """For `wait` and the like: what fails here must not look like the process's own exit status."""

    @functools.wraps(function)
    async def command(kernel: aio.Kernel, **arguments: Any) -> int | None:
        try:
            return await function(kernel, **arguments)
        except PapaError as error:
            printing.say(_sentence(error))
            return Status.OURS

    return command


def run(group: click.Group, arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status, everything that went wrong said on stderr."""
    try:
        group.main(arguments, prog_name="papactl", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as end:
        return int(end.code or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "papactl"
        printing.say(f"{error.format_message()} ({path} --help)")
        return Status.USAGE
    except click.ClickException as error:
        printing.say(error.format_message())
        return Status.FAILED
    except (click.Abort, KeyboardInterrupt):
        return Status.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return Status.BROKEN_PIPE
    except PapaError as error:
        printing.say(_sentence(error))
        return _status_of(error)
    except OSError as error:
        printing.say(str(error))
        return Status.FAILED
    return Status.OK


def _status_of(error: PapaError) -> Status:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), Status.FAILED)


def _sentence(error: PapaError) -> str:
    if isinstance(error, AccessDenied):
        return f"the kernel may not be talked to ({error}): {_DENIED}"
    if isinstance(error, Unreachable):
        return f"there is no kernel: {error}; see 'papactl doctor'"
    return str(error)


def _forget_stdout() -> None:
    """Nobody reads it any more, and Python would complain about what it still has to write."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
