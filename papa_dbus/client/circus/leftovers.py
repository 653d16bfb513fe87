"""Tells what Papa has under this circusd's names that no section of its file asks for."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from circus import logger

from papa_dbus.client.circus import prefix
from papa_dbus.client.compat import papa
from papa_dbus.errors import Unreachable

#: What is kept of a process as a value: its name and one of these.
_NOTES = (".asked", ".passed", ".begun")
#: How many items one line names.
_LISTED = 8


class _Look(papa.Papa):
    """A client for which no papad is started."""

    def _start_kernel(self, why: Unreachable) -> Any:
        raise why


def tell(watchers: Iterable[Any], sockets: Mapping[str, Any]) -> None:
    """Log one line for each process and socket that is left over, and how to be rid of it."""
    watchers = list(watchers)
    mine = {watcher.papa_name(wid) for watcher in watchers for wid in watcher.found}
    plain = {prefix.of_watcher(watcher.name) for watcher in watchers if not watcher.use_papa}
    its_sockets = {getattr(sock, "papa_name", "") for sock in sockets.values()}
    try:
        with _Look(connection_timeout=1) as kernel:
            if prefix.is_mine(kernel):
                processes, names = _under(kernel, prefix.prefix())
                _tell_processes({name: processes[name] for name in processes.keys() - mine}, plain)
                _tell_sockets(names - its_sockets)
            for other in prefix.former(kernel):
                _tell_former(kernel, other)
    except papa.Error as error:
        if prefix.claimed():
            logger.warning("what papa has that the file does not say is not known: %s", error)


def _under(kernel: papa.Papa, begin: str) -> tuple[dict[str, Any], set[str]]:
    """Return the processes and the names of the sockets under a prefix; forget what is noted of those that are gone."""
    processes, sockets = kernel.list_processes(f"{begin}*"), set(kernel.list_sockets(f"{begin}*"))
    notes = [name for name in kernel.list_values(f"{begin}*") if name.endswith(_NOTES)]
    if gone := [name for name in notes if name.rpartition(".")[0] not in processes]:
        kernel.remove_values(*gone)
    return processes, sockets


def _tell_former(kernel: papa.Papa, begin: str) -> None:
    """Tell what is left under a prefix that the file said once; forget the prefix once there is nothing."""
    processes, sockets = _under(kernel, begin)
    if not processes and not sockets:
        kernel.remove_values(f"{begin}*")
        return
    logger.warning(
        "papa_prefix was %s before, and what has such a name in papa is not this file's any more: %s; to have it back,"
        " set papa_prefix = %s in [circus] again; if it is not needed: papactl kill '%s*', then papactl remove '%s*'%s",
        begin.rstrip("."), ", ".join(_what(processes, sockets)), begin.rstrip("."), begin, begin,
        f" and papactl socket remove '{begin}*'" if sockets else "",
    )  # fmt: skip


def _what(processes: Mapping[str, Any], sockets: Iterable[str]) -> list[str]:
    running = [f"process {name} (PID {info['pid']})" for name, info in sorted(processes.items()) if info["running"]]
    ended = [f"process {name} (ended)" for name, info in sorted(processes.items()) if not info["running"]]
    what = [*running, *ended, *(f"socket {name}" for name in sorted(sockets))]
    return what if len(what) <= _LISTED else [*what[:_LISTED], f"and {len(what) - _LISTED} more"]


def _tell_sockets(names: Iterable[str]) -> None:
    for name in sorted(names):
        logger.warning(
            "socket %s is in papa, and no [socket:] of the file with use_papa is it; if it is not needed any more:"
            " papactl socket remove %s",
            name, shlex.quote(name),
        )  # fmt: skip


def _tell_processes(processes: Mapping[str, Mapping[str, Any]], plain: Iterable[str]) -> None:
    for name, info in sorted(processes.items()):
        is_plain = f"{name.rpartition('.')[0]}." in plain
        why = "its watcher has no use_papa any more" if is_plain else "no watcher of the file is its own"
        if info["running"]:
            logger.warning(
                "process %s runs in papa (PID %d), and %s; if it is not needed any more: papactl kill %s, then papactl"
                " remove %s",
                name, info["pid"], why, shlex.quote(name), shlex.quote(name),
            )  # fmt: skip
        else:
            logger.warning(
                "process %s has ended in papa, and %s; its output is kept until: papactl remove %s",
                name, why, shlex.quote(name),
            )  # fmt: skip
