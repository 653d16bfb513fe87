"""Shared by the workloads: their sizes, and how figures are taken."""

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.subject import Handle

Figures = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is done."""

    processes: int
    lines: int
    quiet_lines: int
    flood: int  # bytes
    small_lines: int
    idle: int
    busy: int
    values: int
    listed: int
    watchers: int


FULL = Size(300, 200, 5, 512 * 1024 * 1024, 1_000_000, 2000, 200, 2000, 500, 100)
TINY = Size(5, 5, 1, 1024 * 1024, 1000, 10, 3, 10, 5, 3)


def timed(seen: list[float]) -> Handle:
    """Note how many ms ago each line of clock.py was written."""
    rests: dict[str, bytes] = defaultdict(bytes)

    def handle(name: str, piece: bytes) -> None:
        now = time.monotonic_ns()
        *lines, rests[name] = (rests[name] + piece).split(b"\n")
        seen.extend((now - int(line)) / 1e6 for line in lines)

    return handle


def status_of(pid: int, key: str) -> int:
    """Return a number from /proc/PID/status, 0 if it is not there."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has had, with its threads that have ended."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which Python has for itself only
