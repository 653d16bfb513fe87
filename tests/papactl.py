"""papactl as a program, for a kernel on a bus of the test's own."""

import os
import subprocess
import sys

from tests.support import PATIENCE

PAPACTL = [sys.executable, "-m", "papa_dbus.client.cli"]
Done = subprocess.CompletedProcess[bytes]


def environment(address: str, **more: str) -> dict[str, str]:
    """papactl's, with the kernel's bus; what Python itself has to complain about is an error."""
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM", "COLUMNS", "LINES")}
    return {**clean, "PAPA_BUS_ADDRESS": address, "PYTHONWARNINGS": "error", "TZ": "UTC", **more}


class Papactl:
    """papactl for one bus, run to its end; ``more`` is added to its environment."""

    def __init__(self, address: str, **more: str) -> None:
        self.address = address
        self._environment = environment(address, **more)

    def __call__(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> Done:
        """Run it. It must end with this status, and never with a traceback."""
        done = subprocess.run(
            [*PAPACTL, *arguments], env=self._environment, input=stdin, capture_output=True, timeout=PATIENCE
        )
        assert done.returncode == status, (arguments, done)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done
