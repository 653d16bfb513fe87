"""Starts a papad where none runs and neither systemd nor a message bus would start one: a daemon of its own.

It is nobody's child, so it outlives whoever asked for it; but it does not outlive itself, as one under systemd does.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from papa_dbus.client.compat.arguments import is_bus
from papa_dbus.errors import PapaError, Unreachable
from papa_dbus.names import DEFAULT_PORT

# What belongs to the service that asks, and not to the daemon.
_NOT_FOR_IT = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def papad_command(arguments: list[str]) -> list[str]:
    """The command that runs papad, of the same installation."""
    return [sys.executable, "-m", "papa_dbus.service", *arguments]


def papad_arguments(where: int | str, for_debugging: bool) -> list[str]:
    """Return the options of a papad that serves this port, path or bus."""
    if isinstance(where, int):
        on_bus = where == DEFAULT_PORT and not for_debugging
        bus = (os.environ.get("PAPA_BUS_ADDRESS") if on_bus else None) or "own"
        return ["--bus", bus, "--port", str(where)]
    if is_bus(where):
        return ["--bus", where, "--port", "0"]
    return ["--bus", "own", "--port", "0", "--socket", where]


def systemd_runs() -> bool:
    """Return whether this machine was booted with systemd (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def start_daemon(arguments: list[str]) -> Path:
    """Start papad as a daemon; returns the file that it logs to.

    Raises Unreachable on a machine with systemd: there it belongs to systemd, or ends with the service that asked.
    """
    if systemd_runs():
        raise Unreachable(
            "this machine runs systemd, so papad is not started by its clients: install it (make install, or the"
            " package of your system) and systemd starts it when it is asked for, or, if it is installed, see"
            " 'systemctl status papa.service papa.socket'"
        )
    log = _log_file()
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_IT}
    try:
        with log.open("ab") as output:
            # setsid(1) from util-linux: forks, so that init has it, and in a session of its own.
            subprocess.run(
                ["setsid", "--fork", *papad_command(arguments)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=environment, check=True,
            )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise PapaError(f"papad could not be started: {error}") from error
    return log


class Child:
    """papad as a child that ends with this process, however that ends. Raises PapaError where it cannot be started."""

    def __init__(self, arguments: list[str]) -> None:
        # What the signal of setpriv(1) is bound to is the thread that started papad (PR_SET_PDEATHSIG, prctl(2)).
        self._process: Future[subprocess.Popen[bytes]] = Future()
        self._thread = Thread(target=self._run, args=(arguments,), name="papad", daemon=True)
        self._thread.start()
        self._process.result()

    def _run(self, arguments: list[str]) -> None:
        command = ["setpriv", "--pdeathsig", "TERM", *papad_command(arguments)]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except OSError as error:
            self._process.set_exception(PapaError(f"papad could not be started: {error}"))
            return
        self._process.set_result(process)
        process.wait()

    @property
    def ended(self) -> bool:
        """Return whether it runs no more."""
        return not self._thread.is_alive()

    def end(self) -> None:
        """End it."""
        self._process.result().send_signal(signal.SIGTERM)
        self._thread.join()


def _log_file() -> Path:
    """Return where papad logs without systemd: /var/log/papad.log, or papa/papad.log in the user's state folder."""
    if os.geteuid() == 0:
        return Path("/var/log/papad.log")
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    (state / "papa").mkdir(parents=True, exist_ok=True)
    return state / "papa/papad.log"


def last_words(log: Path) -> str:
    """Return what papad said last, for whoever it did not come up for."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return str(error)
    return lines[-1] if lines else "it said nothing"
