"""The columns of lists: what stands in each for a socket, a process and a value."""

import shlex

from papa_dbus.client.aio import Process, Socket
from papa_dbus.client.cli import printing
from papa_dbus.client.cli.printing import Column


def state(process: Process) -> str:
    """Return 'running', or how it ended; 'unknown' if nobody saw how."""
    if process.exit_code is None or not process.exit_known:
        return process.state
    if process.state == "killed":
        return f"signal={printing.signal_name(-process.exit_code)}"
    return f"exit={process.exit_code}"


def state_style(process: Process) -> str:
    """Return green for one that runs, red for one that has failed."""
    if process.running:
        return "green"
    return "" if process.exit_code == 0 else "red"


def address(socket: Socket) -> str:
    """Return the address that a socket is bound to: a path, or HOST:PORT."""
    if socket.path is not None:
        return socket.path
    host = f"[{socket.host}]" if socket.host and ":" in socket.host else socket.host or ""
    return f"{host}:{socket.port}" if socket.port is not None else host


NAME = Column("NAME", lambda item: item.name, style=lambda item: "bold")
BUFFERED = Column("BUFFERED", lambda p: p.buffered, lambda p: printing.size(p.buffered), right=True)
SOCKETS = (
    NAME,
    Column("FAMILY", lambda s: s.family),
    Column("TYPE", lambda s: s.type),
    Column("FILENO", lambda s: s.fileno, right=True),
    Column("UNIT", lambda s: s.unit if s.unit != "" else "?"),
    Column("ADDRESS", address),
)
PROCESSES = (
    NAME,
    Column("STATE", state, style=state_style),
    Column("PID", lambda p: p.pid, right=True),
    BUFFERED,
    Column(
        "DROPPED", lambda p: p.dropped, lambda p: printing.size(p.dropped), lambda p: "yellow" if p.dropped else "",
        right=True,
    ),
    Column("STARTED", lambda p: printing.moment_in_a_word(p.started), lambda p: printing.moment(p.started)),
    Column("COMMAND", lambda p: shlex.join(p.args)),
)  # fmt: skip
VALUES = (
    Column("NAME", lambda pair: pair[0], style=lambda item: "bold"),
    Column("VALUE", lambda pair: pair[1]),
)
