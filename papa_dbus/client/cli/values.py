"""set, get and unset: papad's values."""

import sys

import click

from papa_dbus.client.aio import Kernel
from papa_dbus.client.cli import completion, printing
from papa_dbus.client.cli.command import Command, with_kernel


@click.command("set", cls=Command, surplus=lambda _: "a value of several words is quoted: papactl set NAME 'A VALUE'")
@click.argument("name", type=completion.VALUE)
@click.argument("value")
@with_kernel()
async def set_(kernel: Kernel, name: str, value: str) -> None:
    """Keep a value; - takes it from stdin."""
    try:
        text = sys.stdin.buffer.read().decode() if value == "-" else value
    except UnicodeDecodeError:
        raise click.UsageError("stdin is no UTF-8 text, and a value is") from None
    await kernel.set_value(name, text)


@click.command(cls=Command)
@click.argument("name", type=completion.VALUE)
@with_kernel()
async def get(kernel: Kernel, name: str) -> None:
    """Print a value.

    In a pipe it is the value itself and a line's end, on a terminal what cannot harm that.
    """
    await completion.check(kernel, ("value",), [name])
    value = await kernel.get_value(name)
    print(printing.clean(value) if printing.on_terminal() else value)


@click.command(cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...", type=completion.VALUE)
@with_kernel()
async def unset(kernel: Kernel, patterns: tuple[str, ...]) -> None:
    """Forget values."""
    await completion.check(kernel, ("value",), patterns, completion.REMOVED)
    for name in await kernel.remove_values(*patterns):
        printing.line(name)
