"""What every command has in common: which papad it asks, and how it is run."""

import asyncio
import contextlib
import functools
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import click

from papa_dbus.bus import Bus
from papa_dbus.client import aio
from papa_dbus.client.cli.exit_status import Status
from papa_dbus.client.cli.options import as_typed
from papa_dbus.client.discovery import offers_kernel
from papa_dbus.client.link import KernelConnection
from papa_dbus.errors import PapaError, Unreachable
from papa_dbus.names import BUS_NAME

#: A word too many, as click says it.
_SURPLUS = re.compile(r"extra arguments? \((.*)\)")
#: Seconds for a papad that is reloaded or restarted to be on the bus again.
_COMES_BACK = 10.0


@dataclass
class Target:
    """Which papad is meant."""

    bus: str | None = None
    host: str | None = None

    @property
    def described(self) -> str:
        """In words, after "papad"."""
        where = "" if self.host is None else f" of {self.host}"
        if self.bus is None and self.host is None:
            return ""
        bus = self.bus or "system"
        return f" on the {bus} bus{where}" if bus in ("system", "session") else f" at {bus}{where}"

    @asynccontextmanager
    async def connect(self, *, needs_kernel: bool = True, patience: float = 30.0) -> AsyncIterator[aio.Kernel]:
        """A connection; ``needs_kernel``: Unreachable where no papad is on the bus, and none would be started."""
        async with aio.connect(self.bus, host=self.host, timeout=patience) as kernel:
            link = kernel.link
            if needs_kernel and not link.present and not await offers_kernel(link.bus):
                raise Unreachable(f"{BUS_NAME} is not on {link.bus.described}")
            yield kernel


async def missing(link: KernelConnection, where: str) -> str | None:
    """Return what is to be said if no papad is on the bus. One that is being reloaded or restarted is waited for."""
    if link.present:
        return None
    state = await _state_of_service(link.bus)
    if state == "masked":
        return f"papad{where} is not running, and papa.service is masked: 'systemctl unmask papa' lets it be started"
    if state not in ("active", "reloading", "activating"):
        return f"papad{where} is not running; 'systemctl start papa' starts it, as the first call does"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_COMES_BACK):
            await link.wait_for_kernel()
            return None
    return f"papa.service is {state}, and papad{where} is not on the bus: 'journalctl --unit=papa' says why"


async def _state_of_service(bus: Bus) -> str | None:
    """systemd's word for it, or "masked"; None where systemd is not on the bus."""
    systemd, properties = "org.freedesktop.systemd1", "org.freedesktop.DBus.Properties"
    try:
        reply = await bus.call(
            systemd, "/org/freedesktop/systemd1", f"{systemd}.Manager", "LoadUnit", "s", ["papa.service"]
        )
        of = (await bus.call(systemd, reply.body[0], properties, "GetAll", "s", [f"{systemd}.Unit"])).body[0]
        return "masked" if of["LoadState"].value == "masked" else str(of["ActiveState"].value)
    except PapaError:
        return None


def _set_bus(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        context.ensure_object(Target).bus = value


def _set_host(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        context.ensure_object(Target).host = value


def connection_options(*, hidden: bool = False) -> list[click.Option]:
    """Return the options that say which papad is meant: of papactl itself, and (hidden) of each command."""
    common: dict[str, Any] = {"expose_value": False, "hidden": hidden}
    return [
        click.Option(
            ["at_host", "-H", "--host"], metavar="[USER@]HOST", callback=_set_host,
            help="Use papad on another machine, by ssh, as systemctl -H does.", **common,
        ),
        click.Option(["--system"], flag_value="system", callback=_set_bus, help="On the system bus.", **common),
        click.Option(["--user"], flag_value="session", callback=_set_bus, help="On the user's bus.", **common),
        click.Option(
            ["--bus"], metavar="ADDRESS", callback=_set_bus,
            help="At the message bus of this address, or: system, session.", **common,
        ),
    ]  # fmt: skip


class Command(click.Command):
    """A command that also takes which papad is meant: `papactl list -H host` is `papactl -H host list`.

    An option of the command's own is never hidden by one of these: `socket make --host`, `run --user`.
    ``instead`` has what to type for options of other tools, ``surplus`` gives it for a word too many.
    """

    def __init__(
        self,
        *arguments: Any,
        instead: Mapping[str, str] | None = None,
        surplus: Callable[[str], str] = lambda word: "",
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self._instead = instead or {}
        self._surplus = surplus

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, and the hidden ones, without the words that the command has taken."""
        params = super().get_params(ctx)
        taken = {word for param in params for word in param.opts}
        shared = connection_options(hidden=True)
        for option in shared:
            option.opts = [word for word in option.opts if word not in taken]
        return [*params, *(option for option in shared if option.opts)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as ever; but an error says what to type if that can be guessed."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if not (hint := self._hint(error.option_name, args)):
                raise
            raise click.UsageError(f"no such option '{error.option_name}': {hint}", ctx) from None
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click's parser does not always say which command it is
            if (word := _SURPLUS.search(error.message)) and (hint := self._surplus(word[1])):
                raise click.UsageError(f"{error.message}; {hint}", ctx) from None
            raise

    def _hint(self, option: str, args: Sequence[str]) -> str:  # noqa: ARG002
        """Return what to type for an option that is none of the command's."""
        return self._instead.get(option, "")

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; an error of papad's names options as they are on this command's line."""
        try:
            return super().invoke(ctx)
        except PapaError as error:
            error.args = (as_typed(str(error), self),)
            raise


class ProcessCommand(Command):
    """A command that starts a process."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as ever; but the error says how the command is written if something is missing."""
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            message = f"{error.format_message().removesuffix('.')}: it is 'papactl run NAME -- COMMAND'"
            raise click.UsageError(message, ctx) from None

    def _hint(self, option: str, args: Sequence[str]) -> str:
        """Hint as ever; but an option that is not ours may well be one of the process's."""
        hints = [super()._hint(option, args), "" if "--" in args else "a command's own options come after --"]
        return "; ".join(filter(None, hints))


def with_kernel(
    needs_kernel: bool = True,
) -> Callable[[Callable[..., Awaitable[int | None]]], Callable[..., None]]:
    """For a command's function, which gets a connection first and may return an exit status."""

    def decorate(function: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**arguments: Any) -> None:
            target = click.get_current_context().ensure_object(Target)

            async def serve() -> int | None:
                _end_in_order(signal.SIGTERM)
                async with target.connect(needs_kernel=needs_kernel) as kernel:
                    return await function(kernel, **arguments)

            sys.exit(asyncio.run(serve()) or Status.OK)

        return command

    return decorate


def _end_in_order(number: signal.Signals) -> None:
    """Be cancelled by a signal: a terminal is to be as it was, and what has been dealt with acknowledged."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
