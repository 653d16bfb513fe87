"""The descriptor store: what systemd has closed is given to it again, and nothing that it has."""

import array
import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from papa_dbus.service.systemd import fd_store, notify
from papa_dbus.service.systemd.fd_bundle import contents
from papa_dbus.service.systemd.fd_store import SystemdFdStore
from papa_dbus.service.systemd.notify_queue import Notifications
from tests.support import descriptors, until


class Systemd:
    """systemd's side: the socket for notifications, all of which it takes before it answers, and a unit's properties.

    ``meanwhile`` is called when it is asked how many it keeps, before and after it counts.
    """

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))
        self.kept: dict[str, list[int]] = {}
        self.given = 0
        self.loaded, self.most = "loaded", 1000
        self.meanwhile: Callable[[], None] = lambda: None

    def take(self) -> None:
        """Take what waits, as it does whenever it can."""
        try:
            while True:
                self._take(*self.socket.recvmsg(4096, socket.CMSG_LEN(array.array("i").itemsize)))
        except BlockingIOError:
            pass

    def _take(self, data: bytes, ancillary: list[Any], *_: Any) -> None:
        fields = dict(line.split("=") for line in data.decode().splitlines())
        if "FDSTOREREMOVE" in fields:
            self.close(fields["FDNAME"])
            return
        [(_, _, payload)] = ancillary
        [fd] = array.array("i", payload)
        self.given += 1
        if self.loaded == "masked":
            os.close(fd)
        else:
            self.kept.setdefault(fields["FDNAME"], []).append(fd)

    def close(self, *names: str) -> None:
        """Close what is kept under these names, all without one."""
        for name in names or list(self.kept):
            for fd in self.kept.pop(name, []):
                os.close(fd)

    async def call(self, *call: Any) -> SimpleNamespace:
        """Answer a call."""
        await asyncio.sleep(0)
        self.take()
        if call[3] == "GetUnitByPID":
            return SimpleNamespace(body=["/unit"])
        answers: dict[str, Any] = {"LoadState": self.loaded, "FileDescriptorStoreMax": self.most}
        if (name := call[5][1]) == "NFileDescriptorStore":
            self.meanwhile()
            self.take()
            answers[name] = sum(map(len, self.kept.values()))
            self.meanwhile()
        return SimpleNamespace(body=[SimpleNamespace(value=answers[name])])


@pytest.fixture
async def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Systemd]:
    before = descriptors()
    stand_in = Systemd(tmp_path / "notify")
    told = Notifications(str(tmp_path / "notify"))
    monkeypatch.setattr(fd_store, "notifications", told)
    monkeypatch.setattr(notify, "notifications", told)
    loop = asyncio.get_running_loop()
    loop.add_reader(stand_in.socket, stand_in.take)
    yield stand_in
    loop.remove_reader(stand_in.socket)
    told._disconnect()
    stand_in.take()
    stand_in.close()
    stand_in.socket.close()
    assert descriptors() == before


def what(fds: list[int]) -> list[str]:
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    fds = [*os.pipe(), os.memfd_create("x")]
    yield fds
    for fd in fds:
        os.close(fd)


async def test_what_systemd_has_closed_is_given_again(systemd: Systemd, pipe: list[int]) -> None:
    """One alone, several in a bundle, and a bundle into which more comes."""
    store = SystemdFdStore()
    store.store("s1", pipe[:1])
    store.store("p2", pipe)
    store.store("p3", pipe[:2], more=True)
    systemd.take()
    systemd.close()
    await store.learn_limit(systemd)  # type: ignore[arg-type]  # as much of a bus as it asks
    assert store._most == 1000
    systemd.take()
    assert systemd.given == 6
    store.store("p3", pipe[2:])
    assert what(systemd.kept["s1"]) == what(pipe[:1])
    for name in ("p2", "p3"):
        [bundle] = systemd.kept[name]
        found = contents(bundle)
        assert found is not None
        assert what(found) == what(pipe)
        for fd in found:
            os.close(fd)


async def test_nothing_is_given_anew_if_the_count_is_right(
    systemd: Systemd, pipe: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever comes and goes while systemd counts, and whether it has heard of that yet."""
    store = SystemdFdStore()
    numbers = iter(range(100, 1000))
    names = [f"p{number}" for number in range(10)]
    for name in names:
        store.store(name, pipe)

    def come_and_go() -> None:
        store.store(name := f"p{next(numbers)}", pipe)
        names.append(name)
        store.remove(names.pop(0))
        store.remove(names.pop(0))
        if len(names) < 5:
            systemd.meanwhile = lambda: None

    for meanwhile in (lambda: None, come_and_go):
        systemd.meanwhile = meanwhile
        given = systemd.given
        await store.learn_limit(systemd)  # type: ignore[arg-type]
        systemd.take()
        assert sorted(systemd.kept) == sorted(names)
        assert systemd.given - given == (10 if meanwhile is not come_and_go else next(numbers) - 100)
    assert not caplog.records


async def test_what_is_lost_is_seen_while_more_comes_and_goes(systemd: Systemd, pipe: list[int]) -> None:
    store = SystemdFdStore()
    names = [f"p{number}" for number in range(10)]
    for name in names:
        store.store(name, pipe)
    systemd.take()
    systemd.close()

    def come_and_go() -> None:
        store.remove(names.pop(0))
        store.store(f"q{names[0]}", pipe)
        names.append(f"q{names[0]}")

    systemd.meanwhile = come_and_go
    await store.learn_limit(systemd)  # type: ignore[arg-type]
    systemd.take()
    assert sorted(systemd.kept) == sorted(names)


async def test_a_masked_unit_is_given_nothing_and_what_may_be_kept_stays_as_it_is(
    systemd: Systemd, pipe: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    store = SystemdFdStore()
    store.store("s1", pipe[:1])
    systemd.take()
    systemd.close()
    systemd.loaded, systemd.most = "masked", 0
    await store.learn_limit(systemd)  # type: ignore[arg-type]
    assert "'systemctl unmask papa', with --runtime or --user if it was masked so, has all kept again" in caplog.text
    store.store("s2", pipe[:1])
    systemd.take()
    assert systemd.given == 2
    systemd.loaded, systemd.most = "loaded", 1000
    await store.learn_limit(systemd)  # type: ignore[arg-type]
    systemd.take()
    assert sorted(systemd.kept) == ["s1", "s2"]


async def test_more_than_may_wait_is_given_again_and_others_have_their_turn(systemd: Systemd, pipe: list[int]) -> None:
    """systemd takes it while it is given, and a process that ends meanwhile does not come back."""
    store = SystemdFdStore()
    for number in range(600):
        store.store(f"p{number}", pipe)
        await store.kept()
    systemd.take()
    systemd.close()
    giving = asyncio.ensure_future(store.learn_limit(systemd))  # type: ignore[arg-type]
    await until(lambda: len(systemd.kept) > 10, "some are given")
    assert not giving.done()
    store.remove("p599")
    await giving
    systemd.take()
    assert sorted(systemd.kept) == sorted(f"p{number}" for number in range(599))
