"""Registries: a pattern costs what it finds, a PID is a running process's, a change is done whole or not at all."""

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.errors import Exists, Limit, PapaError
from papa_dbus.service import limits
from papa_dbus.service.items import sockets
from papa_dbus.service.items.registry import Registry
from papa_dbus.service.items.rows import Gone
from papa_dbus.service.items.sockets import HostedSocket
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.kernel import Change, Kernel
from tests.support import PATIENCE, Reader, remove_sockets, run


class Names(Registry[int]):
    """A registry that counts the names which are looked at."""

    looked_at = 0

    def beginning(self, prefix: str) -> list[str]:
        found = super().beginning(prefix)
        self.looked_at += len(found)
        return found


def test_07_a_prefix_costs_what_it_finds() -> None:
    """1,024 prefixes over 65,536 names look at the names that they find, each once, and at no other."""
    items = Names()
    for number in range(65_536):
        items[f"value-{number:05}"] = number
    assert items.select([f"nothing-{number}*" for number in range(1024)]) == ([], [])
    assert items.looked_at == 0
    found, _ = items.select([*(f"value-0000{'0' * number}*" for number in range(1000)), "value-0*"])
    assert (len(found), items.looked_at) == (10_000, 10_000)


def test_07_a_registry_finds_what_a_dictionary_finds() -> None:
    items: Registry[int] = Registry()
    for number, name in enumerate(["b", "ab", "a", "abc", "ä", "b2"]):
        items[name] = number
    items["a"] = 7
    assert items.beginning("a") == ["a", "ab", "abc"]
    assert items.select(["ab*", "7", "a*", "none", "b", "b"], {7: "b2"}.get) == (
        ["b2", "a", "ab", "abc", "b"],
        ["none"],
    )
    assert items.select([]) == (["a", "ab", "abc", "b", "b2", "ä"], [])
    del items["ab"]
    assert items.pop("abc") == 3
    assert items.select(["*"]) == (["a", "b", "b2", "ä"], [])
    with pytest.raises(Limit, match="1024 names or patterns"):
        items.select(["a"] * 1025)


async def test_15_a_pid_is_that_of_the_process_that_had_it_last(kernel: Kernel) -> None:
    """A process that has ended is listed until its output is read; Linux may have given its PID to another by then."""
    old = await run(kernel, "sh", "-c", "echo unread", name="old")
    observer = Reader(kernel, ["old"], acknowledge=False, mode="observe")
    await observer.until_exited()
    assert [info.name for info in kernel.list_processes([str(old.pid)])] == ["old"]
    await run(kernel, "sleep", "60", name="new")
    new = kernel._processes["new"]
    kernel._by_pid[old.pid] = new  # as if it had got that number
    assert [info.name for info in kernel.list_processes([str(old.pid)])] == ["new"]
    kernel.remove_processes(["old"])
    assert [info.name for info in kernel.list_processes([str(old.pid)])] == ["new"]
    del kernel._by_pid[old.pid]
    reader = Reader(kernel, ["new"])
    os.kill(new.pid, signal.SIGKILL)
    await reader.until_exited()
    assert kernel.list_processes() == []
    assert kernel._by_pid == {}


async def test_16_one_socket_that_cannot_be_removed_leaves_the_others_as_they_are(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that stays is said in the journal; a row that stays is an error, and its socket stays with it."""
    for name in "abc":
        await kernel.make_socket(SocketSpec(name, path=str(tmp_path / name)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", _read_only)
        assert await remove_sockets(kernel, "a") == ["a"]
    assert f"socket 'a': its file {tmp_path}/a stays: Read-only file system" in caplog.text
    heard: list[Change] = []
    kernel.listeners.append(heard.append)
    rows = kernel._store.remove_socket

    def remove(key: int, gone: Gone | None) -> None:
        if key == kernel._sockets["c"].key:
            raise PapaError("papad cannot store this")
        rows(key, gone)

    with monkeypatch.context() as patch:
        patch.setattr(kernel._store, "remove_socket", remove)
        with pytest.raises(PapaError, match="cannot store"):
            kernel.remove_sockets(["b", "c"])
    assert [change.name for change in heard] == ["b"]
    assert [info.name for info in kernel.list_sockets()] == ["c"]
    assert kernel.remove_sockets(["c"]) == ["c"]


def _read_only(path: str) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


async def test_16_a_listener_that_fails_keeps_nothing_from_being_done(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(change: Change) -> None:
        raise ValueError(change.name)

    heard: list[Change] = []
    kernel.listeners += [fail, heard.append]
    for name in "ab":
        await kernel.make_socket(SocketSpec(name))
    assert kernel.remove_sockets(["a", "b"]) == ["a", "b"]
    assert [(change.what, change.name) for change in heard] == [
        *(("added", name) for name in "ab"),
        *(("removed", name) for name in "ab"),
    ]
    assert "a change of socket 'a' could not be told" in caplog.text
    caplog.clear()


async def test_42_what_is_being_made_counts(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PROCESSES", 2)
    made = await asyncio.gather(*(run(kernel, "sleep", "60", name=f"p{n}") for n in range(5)), return_exceptions=True)
    assert [type(each) for each in made if isinstance(each, Exception)] == [Limit] * 3
    assert kernel.process_count == 2
    monkeypatch.setattr(limits, "MAX_SOCKETS", 2)
    gate = asyncio.Event()
    opened = sockets.open_socket

    async def slow(*arguments: Any) -> HostedSocket:
        await asyncio.wait_for(gate.wait(), PATIENCE)
        return await opened(*arguments)

    monkeypatch.setattr(sockets, "open_socket", slow)
    asked = [asyncio.ensure_future(kernel.make_socket(SocketSpec(f"s{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    gate.set()
    made_sockets = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in made_sockets if isinstance(each, Exception)] == [Limit] * 3
    assert kernel.socket_count == 2


async def test_42_two_sockets_of_one_path_are_not_made_at_once(kernel: Kernel, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    made = await asyncio.gather(
        *(kernel.make_socket(SocketSpec(name, path=path)) for name in "ab"), return_exceptions=True
    )
    assert isinstance(made[1], Exists)
    assert "socket 'a' has the path" in str(made[1])
    assert [info.name for info in kernel.list_sockets()] == ["a"]


async def test_42_processes_that_are_still_read_count_when_their_name_is_made_again(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PROCESSES", 3)
    readers = []
    for _ in range(3):
        await run(kernel, "echo", "x")
        readers.append(Reader(kernel, ["p"], acknowledge=False))
        await readers[-1].until_exited()
    with pytest.raises(Limit, match="3 processes at most"):
        await run(kernel, "echo", "x")
    for reader in readers:
        reader.watch.acknowledge_taken()
    assert not kernel._superseded


async def test_40_earlier_processes_are_found_by_name(kernel: Kernel) -> None:
    for name in "ab":
        await run(kernel, "echo", name, name=name)
        reader = Reader(kernel, [name], acknowledge=False)
        await reader.until_exited()
        await run(kernel, "sleep", "60", name=name)
        assert [old.spec.name for old in kernel._superseded.of(name)] == [name]
        assert len(kernel._superseded) == len(list(kernel._superseded))
        reader.watch.acknowledge_taken()
        assert not kernel._superseded
        assert kernel._superseded.of(name) == []
