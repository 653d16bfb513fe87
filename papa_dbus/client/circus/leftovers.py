"""Tells what Papa has under this circusd's names that no section of its file asks for."""

from collections.abc import Iterable, Mapping
from typing import Any

from circus import logger

from papa_dbus.client import papa
from papa_dbus.client.circus.prefix import prefix


def tell(watchers: Iterable[Any], sockets: Mapping[str, Any]) -> None:
    """Log one line for each process and socket that is left over, and how to be rid of it."""
    watchers = list(watchers)
    mine = {watcher.papa_name(wid) for watcher in watchers if watcher.use_papa for wid in watcher.found}
    plain = {watcher.name.lower() for watcher in watchers if not watcher.use_papa}
    expected = {getattr(sock, "papa_name", "") for sock in sockets.values()}
    try:
        with papa.Papa() as kernel:
            processes = kernel.list_processes(f"{prefix()}*")
            left_open = sorted(kernel.list_sockets(f"{prefix()}*").keys() - expected)
    except papa.Error as error:
        logger.warning("what papa has that the file does not say is not known: %s", error)
        return
    for name in sorted(processes.keys() - mine):
        _tell_process(name, processes[name], plain)
    for name in left_open:
        logger.warning(
            "socket %s is in papa, and no [socket:] of the file with use_papa is it; if it is not needed any more:"
            " papactl socket remove %s",
            name, name,
        )  # fmt: skip


def _tell_process(name: str, info: Mapping[str, Any], plain: Iterable[str]) -> None:
    watcher = name.removeprefix(prefix()).rpartition(".")[0]
    why = "its watcher has no use_papa any more" if watcher in plain else "no watcher of the file is its own"
    if info["running"]:
        logger.warning(
            "process %s runs in papa (PID %d), and %s; if it is not needed any more: kill %d and papactl remove %s",
            name, info["pid"], why, info["pid"], name,
        )  # fmt: skip
    else:
        logger.warning(
            "process %s has ended in papa, and %s; its output is kept until: papactl remove %s", name, why, name
        )
