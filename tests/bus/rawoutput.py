"""A client of OpenOutput that knows of its frames what docs/reference/output-socket.md says, and no more."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

from papa_dbus.bus import Variant
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.bus.client import Client
from tests.support import PATIENCE

#: The end of the stream, and the same in the middle of a frame.
EOF, CUT = ("eof",), ("cut",)
GREETING = ("greeting", 1)
ANSWER = ("answer", "", "")


def acknowledgement(**up_to: int) -> bytes:
    """An ACKNOWLEDGE."""
    body = struct.pack("<H", len(up_to))
    for name, seq in up_to.items():
        body += struct.pack("<QH", seq, len(name.encode())) + name.encode()
    return struct.pack("<IB3x", len(body), 16) + body


class RawOutput:
    """One watch: its number, its processes' names, and its socket."""

    def __init__(self, number: int, names: list[str], fd: int) -> None:
        self.number = number
        self.names = names
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(False)
        self.frames: list[tuple[Any, ...]] = []  # all that came
        self._bytes = b""

    def close(self) -> None:
        """End the watch by closing the socket."""
        self.socket.close()

    async def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def acknowledge(self, **up_to: int) -> None:
        """Acknowledge; the answer is a frame."""
        await self.send(acknowledgement(**up_to))

    async def frame(self) -> tuple[Any, ...]:
        """The next frame: its name and what is in it; EOF or CUT at the end."""
        while (frame := self._cut()) is None:
            async with asyncio.timeout(PATIENCE):
                try:
                    data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
                except ConnectionResetError:
                    data = b""
            if not data:
                return CUT if self._bytes else EOF
            self._bytes += data
        self.frames.append(frame)
        return frame

    async def next(self, kind: str) -> tuple[Any, ...]:
        """The next frame of a kind; what comes before it is in ``frames``."""
        while True:
            frame = await self.frame()
            if frame[0] == kind:
                return frame
            assert frame not in (EOF, CUT), f"no {kind}: {self.frames[-10:]}"

    async def until_end(self) -> list[tuple[Any, ...]]:
        """All frames that are left, EOF or CUT the last of them."""
        left = []
        while (frame := await self.frame()) not in (EOF, CUT):
            left.append(frame)
        return [*left, frame]

    async def until_output(self, text: bytes) -> int:
        """Wait for a text in the output; the number of the record that has its end."""
        while text not in self.data():
            await self.next("output")
        return self.last

    def data(self, process: str = "") -> bytes:
        """The output that came."""
        return b"".join(
            data
            for kind, *body in self.frames
            if kind == "output" and process in ("", body[0])
            for _, _, _, data in body[1]
        )

    @property
    def last(self) -> int:
        """The number of the last record that came."""
        return int([frame[2][-1][0] for frame in self.frames if frame[0] == "output"][-1])

    def _cut(self) -> tuple[Any, ...] | None:
        if len(self._bytes) < 8:
            return None
        size, kind = struct.unpack_from("<IB3x", self._bytes)
        if len(self._bytes) < 8 + size:
            return None
        body, self._bytes = self._bytes[8 : 8 + size], self._bytes[8 + size :]
        match kind:
            case 1:
                return ("greeting", *struct.unpack("<I", body))
            case 2:
                return self._output(body)
            case 3:
                return ("dropped", body[24:].decode(), *struct.unpack_from("<QQQ", body))
            case 4:
                return ("exited", body[24:].decode(), *struct.unpack_from("<QQiB", body))
            case 5:
                return ("ended", body.decode())
            case 6:
                error, _, text = body.decode().partition("\0")
                return ("answer", error, text)
        raise AssertionError(f"kind {kind}: {body!r}")

    def _output(self, body: bytes) -> tuple[str, str, list[tuple[int, int, int, bytes]]]:
        first, count, size = struct.unpack_from("<QHH", body)
        table = 12 + size
        at, records = table + 16 * count, []
        for number in range(count):
            timestamp, length, stream = struct.unpack_from("<QIB3x", body, table + 16 * number)
            records.append((first + number, timestamp, stream, body[at : at + length]))
            at += length
        assert at == len(body)
        return "output", body[12:table].decode(), records


async def opened(client: Client, *patterns: str, **options: Variant) -> RawOutput:
    """OpenOutput."""
    arguments = [list(patterns), options]
    reply = await client.bus.call(BUS_NAME, OBJECT_PATH, BUS_NAME, "OpenOutput", "asa{sv}", arguments, PATIENCE)
    return RawOutput(reply.body[0], reply.body[1], reply.unix_fds[0])


@contextlib.asynccontextmanager
async def output(client: Client, *patterns: str, **options: Variant) -> AsyncIterator[RawOutput]:
    """One, for as long as a test needs it; its GREETING has been read."""
    raw = await opened(client, *patterns, **options)
    with closing(raw):
        assert await raw.frame() == GREETING
        yield raw


@contextlib.contextmanager
def closing(*outputs: RawOutput) -> Iterator[None]:
    """Close them at the end."""
    try:
        yield
    finally:
        for each in outputs:
            each.close()
