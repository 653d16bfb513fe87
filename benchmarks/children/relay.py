"""Passes what comes on stdin to a TCP connection: the least that an asyncio loop between the two can do.

Arguments: the port; and `keep`, where what it passes on is to outlive it until it is acknowledged, by a byte for each
piece: then it lies in a memory file, and another says where.
"""

import asyncio
import os
import socket
import struct
import sys


class Relay:
    """Reads and sends."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.ended = asyncio.get_running_loop().create_future()

    def pass_on(self) -> None:
        """There is something, or nothing more comes."""
        if data := os.read(0, 65536):
            self.connection.sendall(data)
        else:
            self.end()

    def end(self) -> None:
        """Nothing more comes."""
        asyncio.get_running_loop().remove_reader(0)
        self.ended.set_result(None)


class Keeper(Relay):
    """As papad does it, with nothing of what papad is."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.output, self.index = os.memfd_create("output"), os.memfd_create("index")
        self.size = self.pieces = 0
        asyncio.get_running_loop().add_reader(connection, self.acknowledged)

    def pass_on(self) -> None:
        """Say what comes, move it, read it back, send it."""
        os.pwrite(self.index, struct.pack("=QQ", 0, self.size), 80 + 16 * self.pieces)
        if size := os.splice(0, self.output, 65536, offset_dst=self.size):
            self.connection.sendall(os.pread(self.output, size, self.size))
            self.size += size
            self.pieces += 1
        else:
            self.end()

    def acknowledged(self) -> None:
        """Note it."""
        if self.connection.recv(65536):
            os.pwrite(self.index, bytes(80), 0)
        else:
            asyncio.get_running_loop().remove_reader(self.connection)
            self.ended.set_result(None)

    def end(self) -> None:
        """Say so, and wait for the reader: closing over a byte that nobody read resets the connection (tcp(7))."""
        asyncio.get_running_loop().remove_reader(0)
        self.connection.shutdown(socket.SHUT_WR)


async def main(port: str, how: str = "") -> None:
    """Relay until the pipe's end."""
    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relay = Keeper(connection) if how == "keep" else Relay(connection)
        asyncio.get_running_loop().add_reader(0, relay.pass_on)
        await relay.ended


asyncio.run(main(*sys.argv[1:]))
