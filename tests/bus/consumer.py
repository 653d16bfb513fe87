"""A client that reads as the test wants it: it can stop, and it looks at every number that it gets."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from papa_dbus.bus import Message, MessageFlag, Variant
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.bus.conftest import Client
from tests.support import PATIENCE


class Consumer(Client):
    """Watches, and acknowledges all but what the processes in ``holds`` print.

    ``gaps`` are numbers that are missing without a Dropped that says so. A watch that ends as 'failed' is begun again.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.got: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.gaps: list[tuple[str, int, int]] = []
        self.dropped = 0
        self.received = 0  # bytes of output, what came twice included
        self.ends: list[tuple[int, str]] = []
        self.exits: dict[str, int] = {}
        self.holds: set[str] = set()
        self.watches: dict[int, list[str]] = {}
        self._most: dict[str, int] = {}  # the newest number of each process
        self._tasks: set[asyncio.Task[Any]] = set()

    async def consume(self, *names: str, **options: Variant) -> int:
        """Begin a watch."""
        number = await self.watch(*names, **options)
        self.watches[number] = list(names)
        return number

    def stall(self) -> None:
        """Read nothing more from the bus."""
        asyncio.get_running_loop().remove_reader(self.connection._fd)

    def go_on(self) -> None:
        """Read again."""
        asyncio.get_running_loop().add_reader(self.connection._fd, self.connection._message_reader)

    @property
    def connection(self) -> Any:
        """That to the bus."""
        return self.bus._connection

    def _hear(self, signal: Message) -> None:
        if not signal.path.startswith(OBJECT_PATH):
            return
        match signal.member, signal.body:
            case "Output", [number, name, records]:
                self.received += sum(len(record[3]) for record in records)
                had = self._most.get(name, 0)
                self._note(name, records[0][0], records[-1][0])
                self.got[name] = self.got.get(name, 0) + sum(len(data) for seq, _, _, data in records if seq > had)
                self._acknowledge(number, name, records[-1][0])
            case "Dropped", [number, name, first, last, size]:
                self._note(name, first, last)
                self.dropped += size
                self._acknowledge(number, name, last)
            case "Exited", [number, name, seq, _, code, _]:
                self._note(name, seq, seq)
                self.exits[name] = code
                self._acknowledge(number, name, seq)
            case "WatchEnded", [number, reason]:
                self.ends.append((number, reason))
                if reason == "failed":
                    for name in self.watches[number]:  # what was not acknowledged comes again
                        self.last.pop(name, None)
                    self._tasks.add(asyncio.ensure_future(self.consume(*self.watches[number])))
        self._something.set()

    def _note(self, name: str, first: int, last: int) -> None:
        before = self.last.get(name)
        if before is None and first > self._most.get(name, 0) + 1:
            self.gaps.append((name, self._most.get(name, 0), first))
        if before is not None and first != before + 1:
            self.gaps.append((name, before, first))
        self.last[name] = last
        self._most[name] = max(last, self._most.get(name, 0))

    def _acknowledge(self, number: int, name: str, seq: int) -> None:
        if name in self.holds:
            return
        call = Message(
            destination=BUS_NAME,
            path=OBJECT_PATH,
            interface=BUS_NAME,
            member="Acknowledge",
            signature="ta{st}",
            body=[number, {name: seq}],
            flags=MessageFlag.NO_REPLY_EXPECTED,
        )
        self.bus.send(call)

    async def until_all(self, total: int) -> None:
        """Wait until so many bytes have come; as long as something comes."""
        while self.total < total:
            self._something.clear()
            try:
                await asyncio.wait_for(self._something.wait(), PATIENCE)
            except TimeoutError:
                raise AssertionError(f"{self.total} of {total} bytes came: {self.got}, {self.gaps[:3]}") from None

    @property
    def total(self) -> int:
        """Bytes of output that came."""
        return sum(self.got.values())


@asynccontextmanager
async def consumer(address: str) -> AsyncIterator[Consumer]:
    """One, for as long as a test needs it."""
    client = Consumer(address)
    await client.bus.start()
    try:
        yield client
    finally:
        await client.bus.close()


class Gate:
    """Holds processes up until it is opened: the shell of each begins with what ``wait`` gives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fifos: list[Path] = []

    def wait(self) -> str:
        """A command that ends when the gate is opened."""
        self._fifos.append(self._folder / f"gate{len(self._fifos)}")
        os.mkfifo(self._fifos[-1])
        self._fifos[-1].chmod(0o666)
        return f": < {self._fifos[-1]}"

    async def open(self) -> None:
        """Let all go on."""
        async with asyncio.timeout(PATIENCE):
            for fifo in self._fifos:
                await asyncio.to_thread(self._open, fifo)

    @staticmethod
    def _open(fifo: Path) -> None:
        with fifo.open("w"):
            pass
