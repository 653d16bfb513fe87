"""A papad whose frames make no sense to this client is asked for signals instead."""

import socket
import struct
from typing import Any

import pytest

from papa_dbus.bus import Message, MessageType
from papa_dbus.client.open_watches import OpenWatches
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.support import until


class FakeLink:
    """Gives a socket, or a watch without one, and is the bus, too."""

    timeout = 1.0
    owner = ":1.1"
    passes_descriptors = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.own: list[socket.socket] = []

    async def call(self, member: str, signature: str, *body: Any, auto_start: bool) -> Message:
        """Answer."""
        self.asked.append(member)
        fds = []
        if member == "OpenOutput":
            own, theirs = socket.socketpair()
            self.own.append(own)
            fds.append(theirs.detach())
        return Message(
            message_type=MessageType.METHOD_RETURN, sender=self.owner, path=OBJECT_PATH, interface=BUS_NAME,
            body=[len(self.asked), ["p"], 0][: 2 + len(fds)], unix_fds=fds, reply_serial=1,
        )  # fmt: skip


class FakeWatcher:
    """Hears that its watch has gone."""

    lost = 0

    def on_events(self, events: object) -> None:
        """Hear nothing."""

    def on_ended(self, reason: str) -> None:
        """Hear nothing."""

    def on_disconnect(self) -> None:
        """Count it."""
        self.lost += 1


@pytest.mark.parametrize("frame", [struct.pack("<IB3xI", 4, 1, 2), b"\xff" * 8], ids=["version", "garbage"])
async def test_frames_that_are_not_understood_are_not_asked_for_again(frame: bytes) -> None:
    link, watcher = FakeLink(), FakeWatcher()
    watches = OpenWatches(link, link)  # type: ignore[arg-type]
    key, _ = await watches.open(watcher, ["p"], {}, auto_start=False)
    assert watches.has_socket(key)
    with link.own[0] as own:
        own.send(frame)
        await until(lambda: watcher.lost, "the loss of the watch")
    key, _ = await watches.open(watcher, ["p"], {}, auto_start=False)
    assert not watches.has_socket(key)
    assert link.asked == ["OpenOutput", "Watch"]
    watches.lose_all()
    assert watches.opens_sockets  # the next papad may be another version
