"""A message bus of papad's own, for a machine or a session that has none: a real dbus-daemon, ended with papad."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from papa_dbus.bus import BusLost

_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)


class OwnBus:
    """A dbus-daemon for this user alone (its session configuration lets nobody else in)."""

    def __init__(self) -> None:
        program = shutil.which("dbus-daemon")
        if program is None:
            raise BusLost("there is no dbus-daemon to start: install the Debian package dbus-daemon")
        self._folder = tempfile.TemporaryDirectory(prefix="papa-")
        self.address = f"unix:path={Path(self._folder.name) / 'bus'}"
        complaints = Path(self._folder.name) / "log"
        read, write = os.pipe()
        command = [program, "--session", "--nofork", "--nopidfile", "--nosyslog", f"--address={self.address}"]
        with complaints.open("wb") as stderr:
            self._daemon = subprocess.Popen(
                [*command, f"--print-address={write}"],
                stdin=subprocess.DEVNULL,
                stderr=stderr,  # it complains of limits that it can do without
                pass_fds=(write,),
                # It would say to systemd that it is ready, in papad's place (sd_notify(3)).
                env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
                start_new_session=True,  # Ctrl-C is for papad, which ends the bus last
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (one thread)
            )
        os.close(write)
        with open(read, "rb") as said:
            if not said.readline():
                raise BusLost(f"dbus-daemon ended with {self._daemon.wait()}: {complaints.read_text()}")

    def close(self) -> None:
        """End the bus."""
        self._daemon.terminate()
        self._daemon.wait(10)
        self._folder.cleanup()


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
