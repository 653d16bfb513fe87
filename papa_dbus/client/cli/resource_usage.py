"""What a process on this machine uses, itself and all that it has started: from its scope's control group, or, where
it has none of its own, from /proc.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from papa_dbus.client.aio import Process


@dataclass(frozen=True, slots=True)
class Usage:
    """``cpu``: seconds of processor time so far; ``memory``: bytes."""

    cpu: float
    memory: int


def usage(process: Process) -> Usage | None:
    """Return what it uses now; None if it has ended."""
    if not process.running:
        return None
    try:
        group = _group_of(process.pid)
        if group is not None and group.name == process.unit:
            return Usage(_group_cpu(group), _group_memory(group))
        return Usage(_cpu(process.pid), _memory(process.pid))
    except (OSError, ValueError, IndexError):
        return None


@functools.cache
def _hierarchy() -> Path | None:
    """The unified control group hierarchy, alone or beside the old ones (cgroups(7))."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)


def _group_of(pid: int) -> Path | None:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::") and (root := _hierarchy()) is not None:
            return root / line.removeprefix("0::/")
    return None


def _group_cpu(group: Path) -> float:
    fields = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(fields["usage_usec"]) / 1_000_000


def _group_memory(group: Path) -> int:
    try:
        return int((group / "memory.current").read_text())
    except OSError:  # the memory controller is not switched on there
        return sum(_memory(int(pid)) for pid in (group / "cgroup.procs").read_text().split())


def _cpu(pid: int) -> float:
    # utime, stime and those of its children that have been waited for, the 14th to the 17th field (proc(5)); the
    # second one, the command, is the only one that may have spaces or parentheses in it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:  # it has just ended
        return 0
