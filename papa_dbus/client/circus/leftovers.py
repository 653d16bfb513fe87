"""Tells what Papa has under this circusd's names that no section of its file asks for."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from circus import logger

from papa_dbus.client import papa
from papa_dbus.client.circus import prefix
from papa_dbus.errors import Unreachable

#: What is kept of a process as a value: its name and one of these.
_NOTES = (".asked", ".passed", ".begun")


class _Look(papa.Papa):
    """A client for which no papad is started."""

    def _start_kernel(self, why: Unreachable) -> Any:
        raise why


def tell(watchers: Iterable[Any], sockets: Mapping[str, Any]) -> None:
    """Log one line for each process and socket that is left over, and how to be rid of it."""
    pattern = f"{prefix.prefix()}*"
    try:
        with _Look(connection_timeout=1) as kernel:
            if not prefix.is_mine(kernel):
                return
            processes, names = kernel.list_processes(pattern), kernel.list_sockets(pattern)
            notes = [name for name in kernel.list_values(pattern) if name.endswith(_NOTES)]
            if gone := [name for name in notes if name.rpartition(".")[0] not in processes]:
                kernel.remove_values(*gone)
    except papa.Error as error:
        if prefix.claimed():
            logger.warning("what papa has that the file does not say is not known: %s", error)
        return
    watchers = list(watchers)
    mine = {watcher.papa_name(wid) for watcher in watchers for wid in watcher.found}
    plain = {watcher.name.lower() for watcher in watchers if not watcher.use_papa}
    for name in sorted(processes.keys() - mine):
        _tell_process(name, processes[name], plain)
    for name in sorted(names.keys() - {getattr(sock, "papa_name", "") for sock in sockets.values()}):
        logger.warning(
            "socket %s is in papa, and no [socket:] of the file with use_papa is it; if it is not needed any more:"
            " papactl socket remove %s",
            name, shlex.quote(name),
        )  # fmt: skip


def _tell_process(name: str, info: Mapping[str, Any], plain: Iterable[str]) -> None:
    watcher = name.removeprefix(prefix.prefix()).rpartition(".")[0]
    why = "its watcher has no use_papa any more" if watcher in plain else "no watcher of the file is its own"
    if info["running"]:
        logger.warning(
            "process %s runs in papa (PID %d), and %s; if it is not needed any more: papactl kill %s, then papactl"
            " remove %s",
            name, info["pid"], why, shlex.quote(name), shlex.quote(name),
        )  # fmt: skip
    else:
        logger.warning(
            "process %s has ended in papa, and %s; its output is kept until: papactl remove %s",
            name,
            why,
            shlex.quote(name),
        )
