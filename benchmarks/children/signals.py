"""Sends what comes on stdin as unicast D-Bus signals, by dbus-next alone: one for each piece, an empty one at the end.

Arguments: the bus's address, and whom they are for.
"""

import asyncio
import os
import sys

from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus


async def main(address: str, receiver: str) -> None:
    """Send each piece once the one before is with Linux."""
    bus = await MessageBus(address).connect()
    readable = asyncio.Event()
    os.set_blocking(0, False)
    loop = asyncio.get_running_loop()
    loop.add_reader(0, readable.set)
    data = b"?"
    while data:
        await readable.wait()
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            readable.clear()
            continue
        await bus.send(
            Message(
                message_type=MessageType.SIGNAL,
                destination=receiver,
                path="/bare",
                interface="org.bare",
                member="Output",
                signature="ay",
                body=[data],
            )
        )
    loop.remove_reader(0)
    await asyncio.sleep(0.5)


asyncio.run(main(*sys.argv[1:]))
