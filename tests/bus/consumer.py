"""A client that reads as the test wants it: it can stop, and it looks at every number that it gets."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from papa_dbus.bus import Message, MessageFlag, Variant
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.bus.client import Client
from tests.support import PATIENCE


class Consumer(Client):
    """Watches, and acknowledges all but what the processes in ``holds`` print.

    ``gaps`` are numbers that are missing without a Dropped that says so: what follows such a one counts for nothing,
    and is not acknowledged. A watch that ends as 'failed' is begun again.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.got: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self._gaps: dict[int, tuple[str, int, int]] = {}  # by watch
        self.dropped = 0
        self.received = 0  # bytes of output, what came twice included
        self.ends: list[tuple[int, str]] = []
        self.exits: dict[str, int] = {}
        self.holds: set[str] = set()
        self.watches: dict[int, list[str]] = {}
        self._most: dict[str, int] = {}  # the newest number of each process
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def gaps(self) -> list[tuple[str, int, int]]:
        """Process, the last number before and the first after, of watches that have not ended as 'failed'."""
        return list(self._gaps.values())

    async def consume(self, *names: str, **options: Variant) -> int:
        """Begin a watch."""
        number = await self.watch(*names, **options)
        self.watches[number] = list(names)
        return number

    def stall(self) -> None:
        """Read nothing more from the bus."""
        asyncio.get_running_loop().remove_reader(self.connection.fileno())

    def go_on(self) -> None:
        """Read again."""
        asyncio.get_running_loop().add_reader(self.connection.fileno(), self.connection.read)

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
                if self._follows(number, name, records[0][0], records[-1][0]):
                    new = sum(len(data) for seq, _, _, data in records if seq > had)
                    self.got[name] = self.got.get(name, 0) + new
            case "Dropped", [number, name, first, last, size]:
                if self._follows(number, name, first, last):
                    self.dropped += size
            case "Exited", [number, name, seq, _, code, _]:
                if self._follows(number, name, seq, seq):
                    self.exits[name] = code
            case "WatchEnded", [number, reason]:
                self._end(number, reason)
        self._something.set()

    def _end(self, number: int, reason: str) -> None:
        self.ends.append((number, reason))
        if reason == "failed":
            self._gaps.pop(number, None)
            for name in self.watches[number]:  # what was not acknowledged comes again
                self.last.pop(name, None)
            self._tasks.add(asyncio.ensure_future(self.consume(*self.watches[number])))

    def _follows(self, number: int, name: str, first: int, last: int) -> bool:
        """Note what came, and acknowledge it, if nothing is missing before it."""
        before = self.last.get(name)
        most = self._most.get(name, 0)
        if (first > most + 1) if before is None else (first != before + 1):
            self._gaps.setdefault(number, (name, before or most, first))
        if number in self._gaps:
            return False
        self.last[name] = last
        self._most[name] = max(last, most)
        self._acknowledge(number, name, last)
        return True

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
