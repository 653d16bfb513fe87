"""The papa package of PyPI as the reference: its client before its own server, beside the drop-in."""

import contextlib
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papa_dbus import client as drop_in
from tests.bus.lineclient import PATIENCE, Papad, free_port, kill_session
from tests.support import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its source is older than what Python says about it
    import papa as pypi

__all__ = ["Call", "Pair", "Server", "Side", "output", "pypi", "taken_port"]

_SERVER = "import sys; from papa.server import socket_server; socket_server(int(sys.argv[1]))"

#: What differs from one run to the next: its type is compared.
_VARYING = frozenset({"pid", "port", "fileno", "started"})


class Server:
    """The reference's server. It works in / like one that was made a daemon."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-W", "ignore", "-c", _SERVER, str(self.port)]
        self.process = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL)
        pypi.Papa.spawned = True  # never another one
        with pypi.Papa(self.port):  # waits until it is there
            pass

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def clear(self) -> None:
        """Kill and forget whatever is hosted.

        The reference forgets a process by its name when it notices the end: before that a namesake would go instead.
        """
        with pypi.Papa(self.port) as p:

            def clear_processes() -> bool:
                for name, process in p.list_processes().items():
                    if process["running"]:
                        kill_session(process["pid"])
                    else:
                        with contextlib.suppress(pypi.Error):  # one that was removed goes with its end
                            p.remove_processes(name)
                return not p.list_processes()

            wait_until(clear_processes, p.list_processes)
            for name in p.list_sockets():
                p.remove_sockets(name)
            for name in p.list_values():
                p.remove_values(name)


@dataclass(frozen=True)
class Side:
    """One of the two: the module, its client, and a folder of its own."""

    papa: Any
    p: Any
    folder: Path

    def socket_path(self) -> str:
        """Where a Unix socket may be made."""
        return str(self.folder / "socket")


Call = Callable[[Side], Any]


class Pair:
    """The reference and the drop-in, each before a server of its own."""

    def __init__(self, server: Server, papad: Papad, folder: Path) -> None:
        for name in ("reference", "drop-in"):
            (folder / name).mkdir()
        self.reference = Side(pypi, pypi.Papa(server.port), folder / "reference")
        self.drop_in = Side(drop_in, drop_in.Papa(papad.address), folder / "drop-in")

    def close(self) -> None:
        """Close both clients."""
        self.reference.p.close()
        self.drop_in.p.close()

    def compare(self, call: Call) -> Any:
        """See both give the same, in values and in types; returns it."""
        expected, found = outcome(self.reference, call), outcome(self.drop_in, call)
        assert found == expected, f"the drop-in gives\n{found}\nand the reference\n{expected}"
        return found

    def differ(self, call: Call) -> tuple[Any, Any]:
        """What each gives, where that is not the same."""
        expected, found = outcome(self.reference, call), outcome(self.drop_in, call)
        assert found != expected, f"a difference no more: {found}"
        return expected, found


def outcome(side: Side, call: Call) -> Any:
    """What a call gives, with types and without what varies; "Error" where it raises the module's Error."""
    try:
        return shape(call(side), side)
    except side.papa.Error:
        return "Error"


def shape(value: Any, side: Side, key: str = "") -> Any:
    """A value with its types spelt out."""
    if key in _VARYING:
        return type(value).__name__
    if isinstance(value, dict):
        return {name: shape(item, side, name) for name, item in value.items() if not _over_and_above(name, value)}
    if isinstance(value, list | tuple):
        return type(value).__name__, [shape(item, side) for item in value]
    if isinstance(value, str):
        return value.replace(str(side.folder), "FOLDER")
    return type(value).__name__, value


def _over_and_above(name: str, value: dict[str, Any]) -> bool:
    """The drop-in tells a process's user and group also where none was asked for."""
    return name in ("uid", "gid") and "pid" in value


def output(side: Side, watcher: Any) -> Any:
    """All that a watcher gives: stdout, stderr, ends; and what it says of itself afterwards."""
    pieces: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    with watcher:
        while (read := watcher.read()) is not None:
            for place, piece in enumerate(read):
                pieces[place].extend(piece)
    out, err, closed = pieces
    assert all(type(record).__name__ == "ProcessOutput" for record in (*out, *err, *closed))
    assert all(record._fields == ("name", "timestamp", "data") for record in (*out, *err, *closed))
    assert all(type(record.timestamp) is float for record in (*out, *err, *closed))
    assert watcher.papa_object is side.p
    return {
        "out": b"".join(record.data for record in out),
        "err": b"".join(record.data for record in err),
        "closed": [(record.name, record.data) for record in closed],
        "exit_code": watcher.exit_code,
        "afterwards": (bool(watcher), len(watcher), watcher.read()),
    }


def taken_port() -> tuple[socket.socket, int]:
    """A port that is in use, and who uses it."""
    user = socket.create_server(("127.0.0.1", 0))
    return user, int(user.getsockname()[1])
