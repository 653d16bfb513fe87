"""socket: makes and removes sockets."""

import os
from typing import Any

import click

from papa_dbus.client.aio import Kernel
from papa_dbus.client.cli import completion, other_tools, printing
from papa_dbus.client.cli.columns import SOCKETS
from papa_dbus.client.cli.command import Command, with_kernel
from papa_dbus.client.cli.group import Group
from papa_dbus.client.cli.options import options_of
from papa_dbus.schema import SocketRequest


@click.group("socket", cls=Group, same=other_tools.SOCKET_SAME, instead=other_tools.SOCKET_INSTEAD)
def socket_() -> None:
    """Make and remove sockets."""


def _address(word: str) -> str:
    """Return how an address is given that stands where no option is."""
    if "/" in word:
        return f"a path is given with --path {word}"
    host, _, port = word.rpartition(":")
    if not port.isdecimal() or (":" in host and host[0] != "["):
        return f"an address is given with --host {word}"
    host = host.strip("[]")
    return f"an address is given with --host {host} --port {port}" if host else f"a port is given with --port {port}"


@socket_.command("make", cls=Command, instead=other_tools.SOCKET_OPTIONS, surplus=_address)
@click.argument("name")
@options_of(SocketRequest, path={"metavar": "PATH", "help": "Path of a Unix socket's file."})
@with_kernel()
async def make_socket(kernel: Kernel, name: str, path: str | None, **options: Any) -> None:
    """Host a socket, or give the one that is there with the same options.

    \b
    Examples:
      papactl socket make http --host 0.0.0.0 --port 80 --backlog 1024
      papactl socket make app --path /run/app.sock --umask 007
    """
    if path is not None:
        path = callers_path(path, "--path", here=kernel.link.bus.passes_descriptors)
    made = await kernel.make_socket(name, path=path, **options)
    printing.table(SOCKETS, [made])


def callers_path(path: str, what: str, *, here: bool) -> str:
    """Return an absolute path; a relative one is the caller's. Raises UsageError for one if papad is not ``here``.

    The last part is kept as it is: a link may be a program of its own (a virtual environment's python).
    """
    if os.path.isabs(path) or not path:
        return path
    if not here:
        raise click.UsageError(f"{what}: {path!r} must be absolute, since papad is on another machine")
    folder, _, last = path.rpartition("/")
    if last in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(folder), last)


@socket_.command("remove", cls=Command)
@click.argument("patterns", nargs=-1, required=True, metavar="NAME...", type=completion.SOCKET)
@with_kernel()
async def remove_socket(kernel: Kernel, patterns: tuple[str, ...]) -> None:
    """Close sockets. Processes that have them keep theirs.

    One that a socket unit of systemd's has passed to papad is there again when papad starts anew.
    """
    await completion.check(kernel, ("socket",), patterns, completion.REMOVED)
    before = await kernel.list_sockets(*patterns)
    for name in await kernel.remove_sockets(*patterns):
        unit = before[name].unit if name in before else None
        holds = f" ({unit or 'a socket unit'} holds it still, and passes it again when papad starts anew)"
        printing.line(name if unit is None else f"{name}{holds}")
