"""What a process that is gone has still to say in the journal is said by the next papad, if this one is killed."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from papa_dbus.service.items.store import Store
from papa_dbus.service.journal.forwarder import Fields
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import PATIENCE, Reader, run, until


class Sink:
    """A journal that takes so many entries, and is full then."""

    def __init__(self, room: int) -> None:
        self.on_room: list[Callable[[], object]] = []
        self.said: list[str | bytes] = []
        self.room = room
        self.refused = asyncio.Event()

    def unavailable_reason(self) -> str | None:
        return None

    def send(self, fields: Fields, /) -> bool:
        if len(self.said) >= self.room:
            self.refused.set()
            return False
        self.said.append(dict(fields)["MESSAGE"])
        return True


class FdStore:
    """systemd's descriptor store."""

    def __init__(self) -> None:
        self.held: dict[str, list[int]] = {}

    def store(self, name: str, fds: Sequence[int], more: bool = False) -> None:
        self.held.setdefault(name, []).extend(os.dup(fd) for fd in fds)

    def remove(self, name: str) -> None:
        for fd in self.held.pop(name, []):
            os.close(fd)

    async def kept(self) -> None:
        pass


async def test_the_last_line_the_end_and_what_was_left_out(tmp_path: Path) -> None:
    fd_store, full = FdStore(), Sink(room=1)
    killed = Kernel(store=Store(tmp_path / "state.db", fd_store), journal=full)
    await run(killed, "sh", "-c", "echo whole; printf half; exit 3", journal=True)
    await asyncio.wait_for(full.refused.wait(), PATIENCE)
    reader = Reader(killed, ["p"])
    await asyncio.wait_for(reader.done.wait(), PATIENCE)
    assert not killed.list_processes()
    assert full.said == [b"whole"]
    # What follows is a kill, as far as one process can have it.
    killed._store.close()
    killed._processes.callbacks.poller.close()

    given = {name: [os.dup(fd) for fd in fds] for name, fds in fd_store.held.items()}
    journal = Sink(room=1000)
    kernel = Kernel(store=Store(tmp_path / "state.db", fd_store), journal=journal)
    assert not kernel.recover(given)
    assert not kernel.list_processes()
    await until(lambda: not kernel._processes.superseded, "end of the last words")
    assert journal.said == [b"half", "ended with exit status 3"]
    assert (fd_store.held, kernel._store.processes()) == ({}, [])
    kernel.close()
    for process in killed._processes.superseded:
        os.close(process.pidfd)
        process.log.close()
