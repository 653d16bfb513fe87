"""Whose output goes to the journal, and in which turns: so many entries of each process, one process after the other.

A flood slows nobody down: a turn of the loop takes a few entries, and a process that has written what it may in an
interval waits, as all do while the journal is full. Knows neither journald's protocol nor its socket.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from papa_dbus.errors import NotSupported
from papa_dbus.service import limits
from papa_dbus.service.journal.forwarder import Fields, Forwarder, LastWords, Progress
from papa_dbus.service.output.log import OutputLog

log = logging.getLogger(__name__)

#: Entries of one process at a turn of the loop, and processes: what takes a millisecond.
_ENTRIES_AT_A_TURN, _PROCESSES_AT_A_TURN = 16, 4


class Journal(Protocol):
    """Where lines go."""

    on_room: list[Callable[[], object]]

    def unavailable_reason(self) -> str | None:
        """Why there is none; None where there is one."""

    def send(self, fields: Fields, /) -> bool:
        """Write an entry. False: not now; ``on_room`` is called when it may be tried again."""


class NoJournal:
    """Where there is none."""

    def __init__(self) -> None:
        self.on_room: list[Callable[[], object]] = []

    def unavailable_reason(self) -> str | None:
        """Why."""
        return "papad has no connection to one"

    def send(self, _: Fields, /) -> bool:
        """Write nothing."""
        return False


class Scheduler:
    """All processes that write to the journal: at each turn of the loop a few entries of some, one after the other.

    ``on_all_told`` gets the key of a process that has gone when the journal has had its last words.
    """

    def __init__(self, journal: Journal, on_all_told: Callable[[int], None] = lambda key: None) -> None:
        self._journal = journal
        self._on_all_told = on_all_told
        self._by_key: dict[int, Forwarder] = {}
        self._gone: dict[Forwarder, None] = {}  # their processes have; the oldest first
        self._ready: dict[Forwarder, None] = {}  # in the order in which they are served
        self._full = False
        self._unlimited = False
        self._turn_due = False
        journal.on_room.append(self._go_on)

    def check(self) -> None:
        """Raise NotSupported where there is no journal."""
        if (reason := self._journal.unavailable_reason()) is not None:
            raise NotSupported(f"option 'journal': there is no systemd journal here ({reason}); ask without it")

    def add(self, key: int, name: str, pid: int, unit: str | None, log: OutputLog, last_words: LastWords = ()) -> None:
        """Begin, or go on, with a process."""
        forwarder = self._by_key[key] = Forwarder(name, pid, unit, log, last_words, key)
        log.listener = lambda: self._mark_ready(forwarder)
        self._mark_ready(forwarder)

    def leave(self, key: int) -> LastWords | None:
        """Nobody else wants anything of a process: None if the journal has had all, too.

        Else its log must stay, and so must what is returned, until ``on_all_told`` is called.
        """
        forwarder = self._by_key.get(key)
        if forwarder is None:
            return None
        words = forwarder.leave()
        if forwarder.over:
            return None
        if forwarder not in self._gone:
            self._gone[forwarder] = None
            forwarder.paused = False  # a few entries are left
            self._mark_ready(forwarder)
            if len(self._gone) > limits.MAX_JOURNAL_GONE:
                asyncio.get_running_loop().call_soon(self._give_up_oldest)
        return words

    def _give_up_oldest(self) -> None:
        oldest = next(iter(self._gone), None)
        if oldest is not None and len(self._gone) > limits.MAX_JOURNAL_GONE:
            log.warning(
                "process '%s': the journal does not get its last words: it has been full for too long", oldest.name
            )
            self._on_all_told(oldest.key)

    def remove(self, key: int) -> None:
        """Forget the process."""
        forwarder = self._by_key.pop(key, None)
        if forwarder is not None:
            forwarder.detach()
            self._gone.pop(forwarder, None)
            self._ready.pop(forwarder, None)

    def lift_limit(self) -> None:
        """Let no process wait for its next interval, since papad is about to end."""
        self._unlimited = True
        for forwarder in self._by_key.values():
            forwarder.paused = False
            self._mark_ready(forwarder)

    def has_more(self) -> bool:
        """Return whether there is something to be written."""
        return bool(self._ready)

    def finish(self) -> None:
        """papad is about to end."""
        for forwarder in self._by_key.values():
            forwarder.finish(self._journal.send)

    def _mark_ready(self, forwarder: Forwarder) -> None:
        if not forwarder.paused:
            self._ready[forwarder] = None
            self._schedule()

    def _schedule(self) -> None:
        if self._ready and not self._full and not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _go_on(self) -> None:
        self._full = False
        self._schedule()

    def _turn(self) -> None:
        self._turn_due = False
        now = asyncio.get_running_loop().time()
        for _ in range(min(_PROCESSES_AT_A_TURN, len(self._ready))):
            forwarder = next(iter(self._ready))
            del self._ready[forwarder]
            if self._serve(forwarder, now) is Progress.NO_FURTHER:
                self._full = True
                return
        self._schedule()

    def _serve(self, forwarder: Forwarder, now: float) -> Progress:
        if now - forwarder.interval_begins >= limits.JOURNAL_INTERVAL:
            forwarder.interval_begins, forwarder.entries = now, 0
        most = _ENTRIES_AT_A_TURN
        if not forwarder.gone and not self._unlimited:
            most = min(most, limits.JOURNAL_BURST - forwarder.entries)
        if most <= 0:
            self._pause(forwarder)
            return Progress.SO_FAR
        progress = forwarder.turn(self._journal.send, most, now)
        if progress is not Progress.TO_THE_END:
            self._ready[forwarder] = None
        elif forwarder.over:
            self._on_all_told(forwarder.key)
        return progress

    def _pause(self, forwarder: Forwarder) -> None:
        """Let a process wait that has written what it may: its log keeps the rest, as long as there is room."""
        forwarder.paused = True
        asyncio.get_running_loop().call_at(forwarder.interval_begins + limits.JOURNAL_INTERVAL, self._resume, forwarder)

    def _resume(self, forwarder: Forwarder) -> None:
        forwarder.paused = False
        self._mark_ready(forwarder)
