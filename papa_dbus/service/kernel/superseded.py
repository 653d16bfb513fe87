"""Processes that have left the list, by name: they are read to their end, and then forgotten.

Most have been replaced by a namesake. Others have ended, and were removed or acknowledged.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from papa_dbus.errors import PapaError
from papa_dbus.service import limits
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.rows import ProcessRecord
from papa_dbus.service.items.store import Store
from papa_dbus.service.journal.forwarder import LastWords
from papa_dbus.service.journal.scheduler import Scheduler
from papa_dbus.service.kernel.tokens import Tokens
from papa_dbus.service.process.hosted import HostedProcess

log = logging.getLogger(__name__)


class Superseded:
    """Processes that have left the list and are still being read. All of one name are found at once.

    ``on_unread`` is called with one whose readers have gone before they had acknowledged everything: a watch of its
    name may read it.
    """

    def __init__(self, store: Store, tokens: Tokens[ProcessInfo], journal: Scheduler) -> None:
        self.on_unread: Callable[[HostedProcess], None] = lambda process: None
        self._store = store
        self._tokens = tokens
        self._journal = journal
        self._by_name: dict[str, dict[HostedProcess, None]] = {}
        self._count = 0
        self._leaving: set[HostedProcess] = set()  # gone, but for descendants that hold its pipes open

    def __contains__(self, process: HostedProcess) -> bool:
        return process in self._by_name.get(process.spec.name, ())

    def __iter__(self) -> Iterator[HostedProcess]:
        return (process for of_name in self._by_name.values() for process in of_name)

    def __len__(self) -> int:
        return self._count

    @property
    def in_all(self) -> int:
        """Return how many there are, with those that are forgotten and whose pipes a descendant holds open."""
        return self._count + len(self._leaving)

    def of(self, name: str) -> list[HostedProcess]:
        """Return those of a name."""
        return list(self._by_name.get(name, ()))

    def unread(self, name: str, who: str = "") -> list[HostedProcess]:
        """Return those of a name that nobody consumes now, or that a client did when papad itself ended; oldest first.

        ``who`` is that client.
        """
        unread = [
            old
            for old in self.of(name)
            if not (old.removed or old.removable)
            and (not old.log.has_present_consumers or (who and old.log.absent(who)))
        ]
        return sorted(unread, key=lambda process: process.key)

    def add(self, process: HostedProcess) -> None:
        """Take one that has left the list."""
        self._by_name.setdefault(process.spec.name, {})[process] = None
        self._count += 1
        process.log.superseded = True

    def _remove(self, process: HostedProcess) -> None:
        of_name = self._by_name[process.spec.name]
        del of_name[process]
        self._count -= 1
        if not of_name:
            del self._by_name[process.spec.name]

    def store_facts(self, process: HostedProcess, facts: ProcessRecord) -> None:
        """Store facts of a process, listed or not. If one that is not cannot be stored, a next papad may list it.

        It takes the older of two with one name for superseded.
        """
        process.facts = facts
        try:
            self._store.update_process(process.key, facts, "retired" if process in self else "running")
        except PapaError as error:
            log.error("process '%s' (PID %d): %s", process.spec.name, process.pid, error)

    def release(self, process: HostedProcess) -> bool:
        """Forget a process if nothing holds it any more. Return whether it had left the list."""
        if process in self:
            if not process.fully_acknowledged:
                self.on_unread(process)
                self._bound(process.spec.name)
            elif (words := self._journal.leave(process.key)) is None:
                self._forget(process)
            else:
                self._keep_last_words(process, words)
            return True
        if process in self._leaving:
            if not process.holds_pipes:
                self._leaving.remove(process)
                self._store.drop_process_descriptors(process.key)
            return True
        return False

    def journal_has_all(self, key: int) -> None:
        """Forget a process that is gone: its last words are in the journal now."""
        process = next((process for process in self if process.key == key), None)
        if process is not None and process.fully_acknowledged:
            self._forget(process)

    def _keep_last_words(self, process: HostedProcess, words: LastWords) -> None:
        """Only the journal still wants something of it: if papad ends before that, the next one tells it."""
        facts = replace(process.facts, removed=True, last_words=words)
        if facts != process.facts:
            self.store_facts(process, facts)
            process.forget_output()

    def _forget(self, process: HostedProcess) -> None:
        """Let it go. The pipes that its descendants write to stay kept: without a reader SIGPIPE would end them."""
        self._remove(process)
        self._journal.remove(process.key)
        last = self._tokens.last_of(process)
        self._tokens.gone(process, last)
        if process.holds_pipes:
            self._leaving.add(process)
            self._store.forget_process(process.key, last)
        else:
            self._store.remove_process(process.key, last)
        crash_point("process forgotten")
        process.dispose()

    def _bound(self, name: str) -> None:
        """Keep the last few of a name whose readers went away before they had acknowledged everything."""
        unread = [old for old in self.unread(name) if not old.log.consumers]  # else a client may come back for it
        for old in unread[: -limits.MAX_UNREAD_PREDECESSORS]:
            log.warning(
                "process '%s' (PID %d): %d bytes that nobody has read are given up", name, old.pid, old.log.buffered
            )
            old.forget_output()
