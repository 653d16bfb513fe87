"""Passes what comes on stdin to a TCP connection: the least that an asyncio loop between the two can do.

Argument: the port.
"""

import asyncio
import os
import socket
import sys


async def main(port: int) -> None:
    """Relay until the pipe's end."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    with socket.create_connection(("127.0.0.1", port)) as connection:

        def relay() -> None:
            if data := os.read(0, 65536):
                connection.sendall(data)
            else:
                loop.remove_reader(0)
                ended.set_result(None)

        loop.add_reader(0, relay)
        await ended


asyncio.run(main(int(sys.argv[1])))
