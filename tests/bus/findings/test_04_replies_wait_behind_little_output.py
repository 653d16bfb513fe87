"""Output is added to what waits for the bus only as long as that is little: each reply goes out behind it."""

import asyncio
from pathlib import Path

from papa_dbus.bus import Bus, Message, MessageType
from papa_dbus.bus.bus import BULK_WATER
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.bus.isolated import PrivateBus
from tests.support import PATIENCE

PIECE = 8192


async def test_replies_wait_behind_little_output(tmp_path: Path) -> None:
    private = PrivateBus(tmp_path)
    bus = Bus(private.address)
    try:
        await bus.start()
        room = asyncio.Event()
        bus.on_room = room.set
        private.pause()
        sent = 0
        while bus.has_room:
            bus.send(Message(
                message_type=MessageType.SIGNAL, destination=bus.unique_name, path=OBJECT_PATH, interface=BUS_NAME,
                member="Output", signature="ay", body=[bytes(PIECE)],
            ))  # fmt: skip
            sent += PIECE
        assert bus._connection is not None
        assert bus._connection.writer.queued < BULK_WATER + 2 * PIECE
        assert sent < 4 * BULK_WATER  # the socket itself holds little more
        assert not room.is_set()
        private.resume()
        async with asyncio.timeout(PATIENCE):
            await room.wait()
        assert bus.has_room
    finally:
        private.resume()
        await bus.close()
        private.stop()
