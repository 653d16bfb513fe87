"""Processes that an earlier papad was starting when it ended: each is waited for, and then hosted or forgotten."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from papa_dbus.errors import Exists, Spawn
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.rows import StoredProcess
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel.reservation import Reservations
from papa_dbus.service.kernel.tokens import Tokens
from papa_dbus.service.process.gate import Word, executed, said
from papa_dbus.service.process.hosted import HostedProcess
from papa_dbus.service.process.start import note_no_home

log = logging.getLogger(__name__)


class Start:
    """A process whose start an earlier papad has seen or not. ``found``: its descriptors by role."""

    def __init__(self, stored: StoredProcess, found: dict[str, int]) -> None:
        self.stored = stored
        self.found = found
        self._status = found.pop("status", None)

    @property
    def name(self) -> str:
        """The process's."""
        return self.stored.spec.name

    @property
    def word(self) -> Word:
        """Return what its status pipe says. Without one an older papad has stored it: past its gate, or nearly."""
        return Word.EXECUTED if self._status is None else said(self._status)

    async def executed(self, store: Store) -> bool:
        """Wait until it has executed its program, or it is certain that it will not."""
        try:
            return self._status is None or await executed(
                self._status, self.found["pidfd"], lambda: self.without_home(store)
            )
        except Spawn:
            return False

    def without_home(self, store: Store) -> None:
        """Note that its user's home was not there."""
        facts = note_no_home(store, self.stored.key, self.name, self.stored.facts)
        self.stored = replace(self.stored, facts=facts)

    def close_status(self) -> None:
        """Let go of the pipe, of which the fd store has a duplicate."""
        if self._status is not None:
            os.close(self._status)
            self._status = None


class Host(Protocol):
    """What makes a process of a start that is over, or forgets it: the recovery."""

    def host(self, start: Start) -> tuple[StoredProcess, HostedProcess]:
        """Make a process of one that has executed its program."""

    def forget(self, start: Start) -> None:
        """Forget one that has not."""


class Starts:
    """Those that are waited for. ``on_hosted`` is called with each that has executed its program."""

    def __init__(
        self,
        store: Store,
        reservations: Reservations,
        tokens: Tokens[ProcessInfo],
        on_hosted: Callable[[StoredProcess, HostedProcess], None],
    ) -> None:
        self._store = store
        self._reservations = reservations
        self._tokens = tokens
        self._on_hosted = on_hosted
        self._tasks: list[asyncio.Task[None]] = []

    def wait_for(self, starting: Iterable[Start], host: Host) -> None:
        """Hold their names until it is known whether each child has executed its program."""
        self._tasks = [self._wait_for(start, host) for start in starting]

    def _wait_for(self, start: Start, host: Host) -> "asyncio.Task[None]":
        turn = ExitStack()
        turn.enter_context(self._reservations.reserve(("process", start.name)))

        async def wait() -> None:
            with turn:
                try:
                    self._end(start, host, await start.executed(self._store))
                except Exception:  # nobody waits for this, and the name must be free again
                    log.exception("process '%s': what an earlier papad has started cannot be hosted", start.name)
                    self._tokens.now_answer(start.stored.key, _not_hosted(start.name, start.stored.facts.pid))

        return asyncio.ensure_future(wait())

    def _end(self, start: Start, host: Host, has_executed: bool) -> None:
        if has_executed:
            self._on_hosted(*host.host(start))
        else:
            self._tokens.not_made(start.stored.key)
            host.forget(start)


def answers(starting: Iterable[Start]) -> Mapping[int, Callable[[], ProcessInfo]]:
    """Return what stands for the answers of each until its start is over, by key."""
    return {start.stored.key: being_started(start.name) for start in starting}


def being_started(name: str) -> Callable[[], ProcessInfo]:
    """Return what stands for the answer until a start is over; whoever asks for that name waits until then."""

    def answer() -> ProcessInfo:
        raise Exists(f"process '{name}' is being started; try again in a moment")

    return answer


def _not_hosted(name: str, pid: int) -> Callable[[], ProcessInfo]:
    """Return what stands for the answer if it is not known whether a process runs that papad cannot host."""

    def answer() -> ProcessInfo:
        raise Spawn(
            f"process '{name}' (PID {pid}) was started by an earlier papad and cannot be hosted, as papad's journal"
            " says; ask with another token to start another one"
        )

    return answer
