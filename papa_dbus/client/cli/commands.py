"""papactl's commands, in the order of its help."""

import difflib
from typing import Any

import click

from papa_dbus import __version__
from papa_dbus.client.cli import consuming, doctor, items, kill, output, processes, top, values, words
from papa_dbus.client.cli.running import connection_options


class Ordered(click.Group):
    """Lists its commands as they were added: what is asked most often first."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands' names."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; know the words of other tools, and guess at what was misspelt."""
        if args[0] == "help":
            args = [*args[1:], "--help"]
            if len(args) == 1:
                click.echo(ctx.get_help())
                ctx.exit()
        if args[0] in words.SAME:
            args = [*words.SAME[args[0]], *args[1:]]
        elif args[0] in words.INSTEAD:
            raise click.UsageError(f"no command '{args[0]}': {words.INSTEAD[args[0]]}", ctx)
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # click before 8.4 (Debian's) makes no such guess.
            close = difflib.get_close_matches(args[0], self.commands, n=1)
            if not close or "Did you mean" in error.format_message():
                raise
            raise click.UsageError(f"{error.format_message()} Did you mean '{close[0]}'?", ctx) from None


@click.group(cls=Ordered, params=connection_options(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="papactl %(version)s")
def papactl(**_: Any) -> None:
    """Looks at the Papa process kernel and tells it what to hold.

    A NAME is a whole name, or a beginning and a final * (quoted, so that the shell leaves it alone).

    Without -H, --system, --user or --bus it is the kernel at PAPA_BUS_ADDRESS where that is set; else on the system bus
    where there is one; else on the user's bus. These options may also stand after the command, unless that has an
    option of the same name. Words of supervisorctl, systemctl, circusctl, docker and pm2 (ps, tail, stop, restart, …)
    are known: they are done, or papactl says what to type.

    \b
    Examples:
      papactl status
      papactl run web --socket http -- gunicorn app:app
      papactl logs -f web
      papactl -H root@host list processes
    """


for _command in (
    items.status, items.list_, items.show, processes.run, kill.kill, processes.wait, output.logs, consuming.consume,
    top.top, processes.remove, items.socket_, values.set_, values.get, values.unset, items.exit_if_idle, doctor.doctor,
):  # fmt: skip
    papactl.add_command(_command)
