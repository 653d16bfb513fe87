"""papad by hand, and a port or a path that another program has: it says which, and what to do."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support import PATIENCE


def by_hand(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run papad to its end, as a shell does."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "JOURNAL_STREAM")}
    command = [sys.executable, "-m", "papa_dbus.service", "--bus", "own", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)


def test_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = by_hand("--port", str(port))
    assert done.returncode == 1
    assert done.stdout == ""  # no word of a papad that is up
    assert done.stderr.splitlines()[-1] == (
        f"papad: port {port}: cannot listen on 127.0.0.1 port {port}: Address already in use; end the program that has"
        f" it ('ss -ltnp sport = {port}' shows it), or choose another with --port"
    )


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "line"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        done = by_hand("--port", "0", "--socket", str(path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"papad: socket {path}: cannot listen on {path}: somebody listens there; put that right, or choose another with"
        " --socket"
    )
