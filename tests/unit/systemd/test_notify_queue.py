"""What papad tells systemd: in order, with its descriptors, and without waiting for who does not read."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.errors import Limit
from papa_dbus.service.systemd import notify_queue
from papa_dbus.service.systemd.notify_queue import MAX_WAITING, Notifications
from tests.support import PATIENCE, descriptors


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Give a socket as systemd's, of which nobody reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reading:
        reading.bind(str(tmp_path / "notify"))
        reading.settimeout(PATIENCE)
        yield reading


def heard(systemd: socket.socket) -> tuple[str, int]:
    """Return what was said, and how many descriptors came."""
    data, fds, _, _ = socket.recv_fds(systemd, 4096, 8)
    for fd in fds:
        os.close(fd)
    return data.decode(), len(fds)


async def test_what_does_not_go_at_once_goes_later_in_order(systemd: socket.socket) -> None:
    telling = Notifications(systemd.getsockname())
    telling.tell("first")
    before = descriptors()
    expected = [("first", 0)]
    while len(telling._waiting) < 20:
        number = len(expected)
        telling.keep(f"fd {number}", 0)
        telling.demand(f"text {number}")
        expected += [(f"fd {number}", 1), (f"text {number}", 0)]
    kept = asyncio.ensure_future(telling.kept())
    await asyncio.sleep(0)
    assert not kept.done()
    for each in expected:
        assert await asyncio.to_thread(heard, systemd) == each
    await asyncio.wait_for(kept, PATIENCE)
    await telling.kept()
    assert descriptors() == before
    telling._disconnect()


async def test_too_much_is_refused_and_what_must_be_said_is_not(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify_queue, "TIMEOUT", 0.01)
    telling = Notifications(systemd.getsockname())
    while len(telling._waiting) < MAX_WAITING:
        telling.tell("status")
    telling.tell("left out")
    with pytest.raises(Limit, match="systemd takes no descriptors at the moment"):
        telling.keep("left out", 0)
    telling.demand("last")
    with pytest.raises(Limit, match="systemd has not taken in 0 s"):
        await telling.kept()
    said: list[tuple[str, int]] = []
    while not said or said[-1] != ("last", 0):
        said.append(await asyncio.to_thread(heard, systemd))
    assert {text for text, _ in said[:-1]} == {"status"}
    telling.finish(PATIENCE)


async def test_a_socket_that_is_another_s_by_now_is_found_again(systemd: socket.socket, tmp_path: Path) -> None:
    telling = Notifications(systemd.getsockname())
    telling.tell("to the first")
    systemd.close()
    telling.tell("to nobody")
    with pytest.raises(Limit, match="systemd cannot be given a descriptor: Connection refused"):
        telling.keep("to nobody", 0)
    (tmp_path / "notify").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
        second.bind(str(tmp_path / "notify"))
        telling.keep("to the second", 0)
        assert heard(second) == ("to the second", 1)
    telling._disconnect()


async def test_at_its_end_papad_waits_for_so_long_at_most(systemd: socket.socket) -> None:
    telling = Notifications(systemd.getsockname())
    before = descriptors()
    while not telling._waiting:
        telling.keep("fd", 0)
    telling.finish(0.01)
    assert telling._socket is None
    assert len(descriptors()) == len(before) + 1  # what nobody has taken
    for waiting in telling._waiting:
        waiting.done(None)
    telling._waiting.clear()
    telling.tell("STATUS=late")
    assert telling._socket is None, "a timer of the loop's, which is being closed"


async def test_without_systemd_nothing_is_said() -> None:
    telling = Notifications("")
    telling.tell("text")
    telling.keep("fd", 0)
    await telling.kept()
    telling.finish(PATIENCE)
