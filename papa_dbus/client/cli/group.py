"""A group of commands that knows the words of other tools, and guesses at what was misspelt."""

import difflib
from collections.abc import Mapping

import click

#: How like a word has to be to one that is only explained, for it to be meant.
_MISSPELT = 0.8


class Group(click.Group):
    """A group of papactl's, with ``same`` and ``instead`` as in papa_dbus.client.cli.other_tools."""

    def __init__(
        self, *, same: Mapping[str, tuple[str, ...]], instead: Mapping[str, str], **attributes: object
    ) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]  # click's own
        self.same = same
        self.instead = instead

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands' names as they were added: what is asked most often first."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Print the help if there are no arguments; from click 8.2 on that is an error, whose one line is the help."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; one of ``same`` that this group does not have is papactl's own."""
        if args[0] == "help":
            args = [*args[1:], "--help"]
            if len(args) == 1:
                click.echo(ctx.get_help())
                ctx.exit()
        word = args[0]
        if word in self.same:
            args = [*self.same[word], *args[1:]]
            root = ctx.find_root().command
            if args[0] not in self.commands and isinstance(root, Group):
                return root.resolve_command(ctx, args)
        elif word in self.instead:
            raise click.UsageError(f"no command '{word}': {self.instead[word]}", ctx)
        elif self.get_command(ctx, word) is None and not ctx.resilient_parsing:
            close = difflib.get_close_matches(word, [*self.commands, *self.same], n=5)
            close += difflib.get_close_matches(word, self.instead, n=5, cutoff=_MISSPELT)
            close.sort(key=lambda known: sorted(known) != sorted(word))  # first those with two letters exchanged
            raise click.UsageError(f"no command '{word}'" + (f"; did you mean '{close[0]}'?" if close else ""), ctx)
        return super().resolve_command(ctx, args)
