"""papactl's commands, in the order of its help."""

from typing import Any

import click

from papa_dbus import __version__
from papa_dbus.client.cli import consume, doctor, inspect, kill, logs, other_tools, processes, top, values
from papa_dbus.client.cli import sockets as cli_sockets
from papa_dbus.client.cli.command import connection_options
from papa_dbus.client.cli.group import Group


@click.group(
    cls=Group, same=other_tools.SAME, instead=other_tools.INSTEAD, params=connection_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(__version__, "-V", "--version", message="papactl %(version)s")
def papactl(**_: Any) -> None:
    """Inspect and control the Papa daemon.

    A NAME is a whole name, or a beginning and a final * (quoted, so that the shell leaves it alone).

    Without -H, --system, --user or --bus papad is looked up at PAPA_BUS_ADDRESS if set, then on the system bus, then on
    the user's bus. These options may also stand after the command, unless that has an option of the same name.
    Words of supervisorctl, systemctl, circusctl, docker and pm2 (ps, tail, stop, restart, …) are known: they are done,
    or papactl says what to type.

    \b
    Examples:
      papactl status
      papactl run web --socket http -- gunicorn app:app
      papactl logs -f web
      papactl -H root@host list processes
    """


for _command in (
    inspect.status, inspect.list_, inspect.show, processes.run, kill.kill, processes.wait, logs.logs, consume.consume,
    top.top, processes.remove, cli_sockets.socket_, values.set_, values.get, values.unset, inspect.exit_if_idle,
    doctor.doctor,
):  # fmt: skip
    papactl.add_command(_command)
