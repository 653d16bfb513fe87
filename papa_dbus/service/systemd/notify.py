"""What papad tells systemd, if that has started it (sd_notify(3)): readiness, status, signs of life."""

import asyncio
import os
import time

from papa_dbus.service.systemd.notify_queue import Notifications

#: As papad was started: it leaves its environment as it is.
notifications = Notifications(os.environ.get("NOTIFY_SOCKET", ""))


def notify(**fields: str | int) -> None:
    """Tell systemd something, as sd_notify(3) has it; nothing if systemd did not start papad."""
    notifications.tell("\n".join(f"{key}={value}" for key, value in fields.items()))


def finish_notifying(seconds: float) -> None:
    """Tell systemd what it has not taken yet, at papad's end, and wait for so long at most."""
    notifications.finish(seconds)


def remove_stored(name: str) -> None:
    """Have systemd remove what its descriptor store has under a name."""
    notifications.demand(f"FDSTOREREMOVE=1\nFDNAME={name}")


def notify_reloading() -> None:
    """Tell systemd that papad is becoming its new version (sd_notify(3))."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS="Reloading")


def watchdog_interval() -> float | None:
    """Return the seconds between two signs of life, half of what systemd waits (sd_watchdog_enabled(3)), or None."""
    micros = os.environ.get("WATCHDOG_USEC")
    if micros is None or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(micros) / 2_000_000


def keep_watchdog_quiet(interval: float) -> None:
    """Send a sign of life now and after every interval, from the loop that serves clients: if that hangs, it stops."""
    notify(WATCHDOG=1)
    asyncio.get_running_loop().call_later(interval, keep_watchdog_quiet, interval)
