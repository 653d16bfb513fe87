"""What is on its way in a socket of OpenOutput stays as it was, whatever becomes of the log."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from papa_dbus import output_frames as frames
from papa_dbus.service.dbus.output_socket import OutputSockets
from papa_dbus.service.dbus.watch_turns import Client, Subscription
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.output.watches import Watch
from tests.source import Source

_SIZE = 50_001  # so that records end in the midst of pages


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source(3 * _SIZE)
    yield source
    source.close()


def subscribe(source: Source) -> tuple[Subscription, int]:
    """Return a watch with a socket, and the client's end."""
    subscription = Subscription(Client(":1.1", 0))
    subscription.watch = Watch(1, WatchSpec(), lambda: None, lambda end: None, lambda watch: None)
    subscription.watch.attach("p", source.log)
    theirs = OutputSockets(lambda *_: None).give(subscription, lambda _: None, lambda _, up_to: None, lambda _: None)
    return subscription, theirs


async def read_records(end: socket.socket, count: int) -> list[bytes]:
    """Return the bytes of so many records."""
    reader = frames.FrameReader(frames.MAX_FRAME)
    found: list[bytes] = []
    end.setblocking(False)
    while len(found) < count:
        got = await asyncio.get_running_loop().sock_recv_into(end, reader.buffer())
        assert got
        for kind, body in reader.read(got):
            if kind == frames.Kind.OUTPUT:
                found += [data for _, _, _, data in frames.read_output(body)[1]]
    return found


async def test_output_that_leaves_the_log_on_its_way_arrives_whole(source: Source) -> None:
    subscription, theirs = subscribe(source)
    assert subscription.socket is not None
    said = [bytes([number]) * _SIZE for number in range(3)]
    with socket.socket(fileno=theirs) as end:
        for each in said:
            source.say(each)
        assert subscription.socket.send_all(subscription.watch.take_unread(1 << 20)) == 3 * _SIZE
        for _ in range(4):
            source.say(b"later" * (_SIZE // 5))
        assert source.log.dropped >= 3 * _SIZE
        assert await read_records(end, 3) == said
    subscription.socket.close()
