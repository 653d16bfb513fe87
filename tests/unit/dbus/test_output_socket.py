"""What is on its way in a socket of OpenOutput stays as it was, whatever becomes of the log."""

import asyncio
import mmap
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from papa_dbus import output_frames as frames
from papa_dbus.service.dbus.output_socket import OutputSocket, OutputSockets
from papa_dbus.service.dbus.watch_turns import Client, Subscription
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.output import files
from papa_dbus.service.output.events import Unread
from papa_dbus.service.output.watches import Watch
from papa_dbus.service.steps import STEP
from tests.source import Source
from tests.support import until

SHMEM = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
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


@pytest.mark.parametrize(
    ("small", "large", "stay"),
    [
        ("always inherit within_size advise [never]", "always [inherit] within_size advise never", True),
        ("[always] inherit within_size advise never", "always inherit within_size advise [never]", False),
        ("always inherit within_size advise [never]", "always inherit [within_size] advise never", False),
    ],
)
def test_sizes_of_pages_that_memory_files_get(tmp_path: Path, small: str, large: str, stay: bool) -> None:
    for size, setting in ("64kB", small), ("2048kB", large):
        (tmp_path / f"hugepages-{size}").mkdir()
        (tmp_path / f"hugepages-{size}" / "shmem_enabled").write_text(f"{setting}\n")
    assert files._has_larger_pages(tmp_path) is not stay


async def test_no_huge_page_is_lent_to_a_socket(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of one that is given back would be zeroed in the socket, too: what is in it is read instead."""
    assert files.pages_stay(source.log.files.output) or "[never]" not in SHMEM.read_text()
    monkeypatch.setattr(mmap, "PAGESIZE", mmap.PAGESIZE // 2)  # as if the file's were twice as large
    assert not files.pages_stay(source.log.files.output)
    lent: list[int] = []
    monkeypatch.setattr(os, "sendfile", lambda *_: lent.append(1))
    subscription, theirs = subscribe(source)
    assert subscription.socket is not None
    with socket.socket(fileno=theirs) as end:
        source.say(b"x" * _SIZE)
        subscription.socket.send_all(subscription.watch.take_unread(1 << 20))
        assert await read_records(end, 1) == [b"x" * _SIZE]
    assert not lent
    subscription.socket.close()


# ------------------------------------------------------------------------------------------- turns


class Many:
    """Watches of one client, with a socket each, whose acknowledgements take longer than a turn has time."""

    def __init__(self, source: Source, count: int) -> None:
        self.served: list[Subscription] = []
        self.sockets = OutputSockets(lambda *_: None)
        self.subscriptions: list[Subscription] = []
        self.ends: list[socket.socket] = []
        client = Client(":1.1", 0)
        for number in range(count):
            subscription = Subscription(client)
            subscription.watch = Watch(number, WatchSpec(), lambda: None, lambda end: None, lambda watch: None)
            subscription.watch.attach("p", source.log)
            theirs = self.sockets.give(subscription, lambda _: None, self._acknowledge, lambda _: None)
            self.subscriptions.append(subscription)
            self.ends.append(socket.socket(fileno=theirs))
            self.ends[-1].setblocking(False)

    def _acknowledge(self, subscription: Subscription, up_to: Mapping[str, int]) -> None:
        self.served.append(subscription)
        end = time.perf_counter() + 2 * STEP
        while up_to and time.perf_counter() < end:
            pass

    def close(self) -> None:
        for subscription, end in zip(self.subscriptions, self.ends, strict=True):
            assert subscription.socket is not None
            end.close()  # first: nothing is left in it then
            subscription.socket.close()


@pytest.fixture
async def many(source: Source) -> AsyncIterator[Many]:
    many = Many(source, 20)
    yield many
    many.close()


def fill(end: socket.socket, frame: bytes) -> int:
    """Send a frame as often as there is room for; return how many bytes that was."""
    sent = 0
    try:
        while True:
            sent += end.send(frame)
    except BlockingIOError:
        return sent


def drain(end: socket.socket) -> None:
    """Read what is there."""
    try:
        while end.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


async def test_answers_that_waited_for_room_are_given_by_turns(many: Many) -> None:
    """Who reads nothing, and then on all its sockets at once, does not have all served at once."""

    def held_up() -> bool:
        sent = sum([fill(end, frames.acknowledge({}) * 100) for end in many.ends])
        return not sent and all(each.socket and each.socket._requests for each in many.subscriptions)

    await until(held_up, "answers that find no room")
    for subscription in many.subscriptions:  # each takes long from here on
        assert subscription.socket is not None
        subscription.socket._requests.appendleft({"p": 0})
    many.served.clear()
    for end in many.ends:
        drain(end)
    while len(set(many.served)) < len(many.ends):
        before = len(many.served)
        await asyncio.sleep(0)
        assert len(set(many.served[before:])) <= 2


async def test_one_that_waits_for_its_turn_when_its_watch_ends_is_not_read_again(
    many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it looked at all the time what it has sent, until its last words are read."""
    second = many.subscriptions[1].socket
    assert second is not None
    for end in many.ends[:2]:
        end.send(frames.acknowledge({"p": 0}))
    await until(lambda: second.queued, "a turn to wait for")
    second._put(bytes(1 << 20))  # more than the socket takes
    second.end("removed")
    await until(lambda: not second.queued, "the turn")
    looks: list[int] = []
    monkeypatch.setattr(OutputSocket, "read_some", lambda self: looks.append(1))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not looks
    assert many.subscriptions[1] not in many.served


async def test_the_last_output_is_whole_though_its_log_goes_with_its_last_reader() -> None:
    source = Source(3 * _SIZE)
    watch = Watch(1, WatchSpec(mode="observe"), lambda: None, lambda end: None, lambda watch: None)
    watch.attach("p", source.log)
    source.say(b"x" * _SIZE)
    source.log.end(0, 1)
    source.log._on_room = source.log.discard_all  # as for a predecessor that is one too many then
    event = watch.take_unread(1 << 20)[0]
    assert isinstance(event, Unread)
    assert source.log.buffered == 0
    assert event.piece.payload() == b"x" * _SIZE
    source.close()
