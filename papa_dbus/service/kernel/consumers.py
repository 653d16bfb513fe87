"""How far the consumers of each process have come: stored, so that after a kill none misses what it has not had.

Those that are away, because papad or the bus went away, are waited for, ABSENCE at most.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from papa_dbus.service import limits
from papa_dbus.service.kernel.superseded import Superseded
from papa_dbus.service.output.readers import OTHERS, Absent, Reader, consumers_of
from papa_dbus.service.process.hosted import HostedProcess
from papa_dbus.service.steps import Chores


class Consumers:
    """The consumers of all processes. It is stored once for all that happens at a turn of the loop.

    Until then less is noted of them, which holds back more than it need.
    """

    def __init__(self, chores: Chores, superseded: Superseded) -> None:
        self._chores = chores
        self._superseded = superseded
        self._to_note: dict[HostedProcess, None] = {}
        self._will_note = False  # all of those
        self._noted: asyncio.Future[None] | None = None
        self._absences: dict[Absent, tuple[float, HostedProcess]] = {}  # with the loop's time at which each is given up
        self._absence: asyncio.TimerHandle | None = None  # until the first of them is

    def follow(self, process: HostedProcess) -> None:
        """Note how far this process's consumers have come, from now on."""
        process.log.on_shared = partial(self._note_newcomer, process)
        process.log.on_moved = partial(self._note_soon, process)

    def waits(self, process: HostedProcess) -> bool:
        """Return whether how far the consumers of a process have come is not stored yet."""
        return process in self._to_note

    def noted(self) -> "asyncio.Future[None] | None":
        """Return what tells when it is stored how far consumers have come, None if it is."""
        return None if self._noted is None or self._noted.done() else asyncio.shield(self._noted)

    def close(self) -> None:
        """Store what is not stored yet, and wait for nobody any more."""
        for _ in self._noting():
            pass
        if self._absence is not None:
            self._absence.cancel()

    def _note_newcomer(self, process: HostedProcess, newcomer: Reader) -> None:
        if not self._is_noted(process, newcomer):
            self._note_soon(process)

    def _is_noted(self, process: HostedProcess, newcomer: Reader) -> bool:
        """Return whether one that has come no further than the log is noted with those who have not, either."""
        if isinstance(newcomer, Absent) or process in self._to_note or process in self._superseded:
            return False
        noted = process.facts.consumers
        if noted[:1] != ((OTHERS, 0, 0),) or newcomer.acknowledged > process.log.acknowledged:
            return False
        return all(who != newcomer.who for who, _, _ in noted)

    def _note_soon(self, process: HostedProcess) -> None:
        """Of a newcomer nothing is noted before; so it is told that it is one once noted() is over."""
        self._to_note[process] = None
        if not self._will_note:
            self._will_note = True
            self._noted = self._chores.add(self._noting())

    def _noting(self) -> Iterator[None]:
        self._will_note = False
        for process in list(self._to_note):
            if process in self._to_note:  # else close() was quicker
                del self._to_note[process]
                self._note(process)
            yield

    def _note(self, process: HostedProcess) -> None:
        """Store how far each consumer has come: after a kill the others may not let go of what one has not had."""
        for reader in process.log.consumers:
            if isinstance(reader, Absent) and reader not in self._absences:
                self._absences[reader] = asyncio.get_running_loop().time() + limits.ABSENCE, process
                self._wait_for_absent()
        noted = consumers_of(process.log, process in self._superseded)
        if noted != process.facts.consumers:
            self._superseded.store_facts(process, replace(process.facts, consumers=noted))

    def _wait_for_absent(self) -> None:
        if self._absences and self._absence is None:
            due, _ = next(iter(self._absences.values()))
            loop = asyncio.get_running_loop()
            self._absence = loop.call_at(due, lambda: self._chores.add(self._giving_up(loop.time())))

    def _giving_up(self, until: float) -> Iterator[None]:
        """Keep nothing more for clients that have not come back."""
        for absent, (due, process) in list(self._absences.items()):
            if due > until:
                break
            del self._absences[absent]
            if absent in process.log.readers:
                process.log.detach(absent)
            yield
        self._absence = None
        self._wait_for_absent()
