"""Tells what a child of circusd has from it, and a process in Papa has from papad: nice, processors, limits."""

import os
import resource
from collections.abc import Iterator

from circus import logger

from papa_dbus.client.compat import papa

#: A soft limit of open files that is higher is papad's alone: it gives its processes no more, and its own is raised.
_SOFT_FILES = 1024
#: papad's own is raised, so that it does not say what its processes have.
_RAISED = ("nofile", "fsize")


class _Told:
    """Remember whether it has been told: once for each circusd."""

    yet = False


def tell(kernel: papa.Papa) -> None:
    """Log one line if papad's processes have less, or more, than circusd's children would have.

    Over the line protocol nobody says which process papad is, so nothing is known then.
    """
    if _Told.yet:
        return
    _Told.yet = True
    try:
        pid = kernel.papads_pid()
        differences = [] if pid is None else list(_differences(pid))
    except (papa.Error, OSError):  # papad is in another PID namespace, say
        return
    if differences:
        logger.warning(
            "processes in papa do not have from circusd: %s; a limit is given by rlimit_NAME in [watcher:NAME], the"
            " others by nice or taskset in its cmd, and all of it for all processes by 'systemctl edit papa'",
            ", ".join(differences),
        )


def _differences(pid: int) -> Iterator[str]:
    """Name what differs between circusd and papad. Raises OSError."""
    mine, papads = (os.getpriority(os.PRIO_PROCESS, which) for which in (0, pid))
    if mine != papads:
        yield f"nice {mine} (papad has {papads})"
    own, its = (sorted(os.sched_getaffinity(which)) for which in (0, pid))
    if own != its:
        yield f"processors {_numbers(own)} (papad has {_numbers(its)})"
    limits = _limits(pid)
    for name, number in sorted(_BY_NAME.items()):
        soft, hard = resource.getrlimit(number)
        if name in _RAISED:
            # Of open files equal limits are carried over, see papa_dbus.client.circus.process.
            if name == "nofile" and soft != hard and soft > _SOFT_FILES:
                yield f"limit nofile {soft} (papad gives {_SOFT_FILES})"
        elif name in limits and limits[name] != (_text(soft), _text(hard)):
            yield f"limit {name} {_text(soft)}:{_text(hard)} (papad has {':'.join(limits[name])})"


_BY_NAME = {name[7:].lower(): getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
#: As /proc/PID/limits has them (proc(5)), which anybody may read.
_TITLES = {
    "Max cpu time": "cpu", "Max data size": "data", "Max stack size": "stack", "Max core file size": "core",
    "Max resident set": "rss", "Max processes": "nproc", "Max locked memory": "memlock", "Max address space": "as",
    "Max pending signals": "sigpending", "Max msgqueue size": "msgqueue", "Max nice priority": "nice",
    "Max realtime priority": "rtprio", "Max realtime timeout": "rttime",
}  # fmt: skip


def _limits(pid: int) -> dict[str, tuple[str, str]]:
    """Return the soft and the hard limits of a process by name, as text."""
    found = {}
    with open(f"/proc/{pid}/limits", encoding="ascii") as lines:
        for line in lines:
            if name := _TITLES.get(line[:25].rstrip()):
                soft, hard = line[25:].split()[:2]
                found[name] = (soft, hard)
    return found


def _text(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _numbers(processors: list[int]) -> str:
    """Return them as taskset(1) takes them: 0-3,7."""
    runs: list[list[int]] = []
    for number in processors:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
