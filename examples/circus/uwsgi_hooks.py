"""Circus hooks that make `circusctl reload` of a uWSGI watcher lossless, as Circus's own example does.

On a reload circusd starts a new uWSGI beside the old one, and only then stops the old one: `workers_started` keeps
the old one where the new one's workers do not come up; `pause_first` lets the old one's workers finish what they have
accepted, and accept no more, before it is told to quit. Both ask uWSGI's statistics, at run/stats-WID.
"""

import json
import signal
import socket
import time
from typing import Any

PATIENCE = 10.0  # seconds
_PAUSE = 0.05  # uWSGI tells its state only when it is asked
_SERVING = frozenset(("idle", "busy", "cheap"))


def read_stats(wid: int) -> dict[str, Any]:
    """What uWSGI says of itself. Raises OSError where it does not listen (yet)."""
    with socket.socket(socket.AF_UNIX) as stats:
        stats.settimeout(PATIENCE)
        stats.connect(f"/srv/web/run/stats-{wid}")
        with stats.makefile("rb") as answer:
            said: dict[str, Any] = json.loads(answer.read())
    return said


def wait_for_workers(pid: int, wid: int, states: frozenset[str]) -> bool:
    """Wait until all workers of the uWSGI with this PID are in one of these states; whether they are."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            said = read_stats(wid)
        except (OSError, ValueError):
            said = {"pid": 0}
        if said["pid"] == pid and all(worker["status"] in states for worker in said["workers"]):
            return True
        time.sleep(_PAUSE)
    return False


def workers_started(watcher: Any, pid: int, **_: Any) -> bool:
    """after_spawn: whether the workers serve. Where they do not, circusd ends this one again."""
    return wait_for_workers(pid, watcher.processes[pid].wid, _SERVING)


def pause_first(watcher: Any, pid: int, signum: int, **_: Any) -> bool:
    """before_signal: on a reload, pause the old uWSGI (SIGTSTP) before it is told to quit."""
    process = watcher.processes[pid]
    newer = [other for other in watcher.processes.values() if other.started > process.started]
    if signum == signal.SIGQUIT and len(newer) >= watcher.numprocesses:
        process.send_signal(signal.SIGTSTP)
        wait_for_workers(pid, process.wid, frozenset(("pause",)))
    return True


def add_stats(watcher: Any, pid: int, stats: dict[str, Any], **_: Any) -> bool:
    """extended_stats: what `circusctl stats --extended` shows besides."""
    try:
        said = read_stats(watcher.processes[pid].wid)
    except (OSError, ValueError):
        return False
    stats |= {"load": said["load"], "version": said["version"]}
    return True
