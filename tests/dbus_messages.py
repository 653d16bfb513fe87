"""D-Bus messages as bytes: as the code writes them, and as dbus-next does, against which it is held."""

import asyncio
import gc
import socket
import struct
import warnings
from pathlib import Path

from dbus_next import Message
from dbus_next.aio import MessageBus

from papa_dbus.bus import header as bus_header
from papa_dbus.bus.encoder import encode
from tests.support import PATIENCE

_HELLO_REPLY = struct.pack("<4B3I", ord("l"), 2, 0, 1, 9, 1, 15) + struct.pack(
    "<B3sIB3sB2sxI5s", 5, b"\1u\0", 1, 8, b"\1g\0", 1, b"s\0", 4, b":1.1\0"
)


def as_bytes(message: Message) -> bytearray:
    """Return what the code writes of a message."""
    body = encode(message.signature, message.body)
    header = bus_header.header(message.message_type.value, message.flags.value, len(body), message.serial, message)
    return bytearray(header + body)


class DbusNextSender:
    """A connection of dbus-next's own to a bus that is the test's: what is sent through it is what it writes."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        path = str(folder / "bus")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            self._loop.run_until_complete(self._connect(listener, f"unix:path={path}"))

    async def _connect(self, listener: socket.socket, address: str) -> None:
        self._bus = MessageBus(bus_address=address, negotiate_unix_fd=True)
        self._end, _ = listener.accept()
        self._end.setblocking(False)
        connecting = asyncio.ensure_future(self._bus.connect())
        for line, answer in (
            (b"\0AUTH EXTERNAL ", b"OK 1234deadbeef1234deadbeef1234dead\r\n"),
            (b"NEGOTIATE_UNIX_FD", b"AGREE_UNIX_FD\r\n"),
            (b"BEGIN", b""),
        ):
            told = b""
            while not told.endswith(b"\r\n"):
                told += await self._loop.sock_recv(self._end, 1)
            assert told.startswith(line)
            await self._loop.sock_sendall(self._end, answer)
        await self._take()
        await self._loop.sock_sendall(self._end, _HELLO_REPLY)
        await connecting

    async def _take(self) -> bytes:
        """Return the next message."""
        data = b""
        while len(data) < 16:
            data += await self._loop.sock_recv(self._end, 16 - len(data))
        body, _, fields = struct.unpack_from("<3I", data, 4)
        size = 16 + fields + -fields % 8 + body
        while len(data) < size:
            data += await self._loop.sock_recv(self._end, size - len(data))
        return data

    def sent(self, message: Message) -> bytes:
        """Return a message's bytes."""

        async def send() -> bytes:
            self._bus.send(message)
            return await self._take()

        return self._loop.run_until_complete(asyncio.wait_for(send(), PATIENCE))

    def close(self) -> None:
        """Disconnect."""
        self._bus.disconnect()
        self._loop.run_until_complete(self._bus.wait_for_disconnect())
        del self._bus
        self._end.close()
        self._loop.close()
        collect()


def collect() -> None:
    """Have the garbage collector close the sockets that dbus-next leaves to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
