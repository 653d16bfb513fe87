"""papad as a process on a message bus of the test's own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import PATIENCE


@dataclass
class Papad:
    """A papad that runs as a process, and how to reach it."""

    process: "subprocess.Popen[bytes]"
    address: str
    socket: Path
    log: Path

    def stop(self) -> str:
        """End it as systemd would; returns what it logged."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        return self.log.read_text()


def start_papad(address: str, path: Path, *arguments: str, prefix: Sequence[str] = ()) -> Papad:
    """Start papad, by a command of its own if need be, and wait until it says that it is ready (sd_notify(3))."""
    log, notify = path.with_suffix(".log"), path.with_suffix(".notify")
    command = [sys.executable, "-m", "papa_dbus.service", "--bus", address, "--port", "0", "--socket", str(path)]
    with log.open("wb") as stderr, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(notify))
        ready.settimeout(0.1)
        process = subprocess.Popen(
            [*prefix, *command, *arguments],
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDEVMODE": "1", "NOTIFY_SOCKET": str(notify)},
        )
        while process.poll() is None:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in ready.recv(4096):
                    return Papad(process, address, path, log)
    raise AssertionError(f"papad ended with {process.returncode}: {log.read_text()}")


def stop_with_children(papad: Papad) -> str:
    """End it, and what it has started; returns what it logged."""
    pids = hosted_pids(papad.process.pid)
    log = papad.stop()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # one that was writing ends with the pipe's reader
            os.kill(pid, signal.SIGKILL)
    return log


def hosted_pids(papad: int) -> list[int]:
    """The processes that a papad has started."""
    tasks = Path(f"/proc/{papad}/task")
    if not tasks.exists():
        return []
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
