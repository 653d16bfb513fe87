"""The drop-in's Watcher in an event loop: its descriptor is readable exactly while read() would not wait."""

import asyncio
import contextlib
import gc
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from papa_dbus.client import Error, Papa, Watcher
from tests.bus.lineclient import PATIENCE, ROOT, Papad
from tests.bus.scripted_child import ScriptedChild
from tests.support import descriptors, wait_until


@pytest.fixture
def papad(shared_papad: Papad) -> Iterator[Papad]:
    """A papad that holds nothing, before and after."""
    yield shared_papad
    shared_papad.clear()


@pytest.fixture(params=["bus", "line"])
def p(request: pytest.FixtureRequest, papad: Papad) -> Iterator[Papa]:
    """A client over each way."""
    with Papa(papad.address if request.param == "bus" else papad.path) as client:
        yield client


def by_select(watcher: Watcher, timeout: float) -> bool:
    """Whether select() finds it readable within so many seconds."""
    return bool(select.select([watcher], [], [], timeout)[0])


def by_poll(watcher: Watcher, timeout: float) -> bool:
    """The same by poll()."""
    poll = select.poll()
    poll.register(watcher, select.POLLIN)
    return [event for _, event in poll.poll(timeout * 1000)] == [select.POLLIN]


def by_epoll(watcher: Watcher, timeout: float) -> bool:
    """The same by epoll."""
    with select.epoll() as epoll:
        epoll.register(watcher, select.EPOLLIN)
        return [event for _, event in epoll.poll(timeout)] == [select.EPOLLIN]


def said(read: Any) -> list[bytes]:
    """What stdout said."""
    return [record.data for record in read[0]]


@pytest.mark.parametrize("readable", [by_select, by_poll, by_epoll])
def test_defect_27_readable_while_there_is_something(
    p: Papa, scripted_child: ScriptedChild, readable: Callable[[Watcher, float], bool]
) -> None:
    def nothing() -> bool:
        p.set("a", "1")  # the kernel has had its turn
        return not readable(watcher, 0) and not watcher.ready

    with p.watch_processes("p") as watcher:
        assert nothing()
        for word in ("one", "two"):
            scripted_child.say(word)
            assert readable(watcher, PATIENCE)
            assert readable(watcher, 0)  # it stays
            assert watcher.ready
            assert said(watcher.read()) == [f"{word}\n".encode()]
            assert nothing()
            watcher.acknowledge()
            assert nothing()
        scripted_child.end()
        assert readable(watcher, PATIENCE)
        assert [end.data for end in watcher.read()[2]] == [3]
        assert nothing()  # the end is to be acknowledged, too
        watcher.acknowledge()
        assert readable(watcher, PATIENCE)
        assert watcher.ready
        assert watcher.read() is None
        with pytest.raises(Error, match="closed"):
            watcher.fileno()
        assert not watcher.ready


async def test_in_an_event_loop(p: Papa, scripted_child: ScriptedChild) -> None:
    """As Circus does it: a call for each time that it is readable, and each finds something."""
    loop = asyncio.get_running_loop()
    reads: asyncio.Queue[Any] = asyncio.Queue()
    watcher = p.watch_processes("p")
    number = watcher.fileno()

    def read() -> None:
        reads.put_nowait(watcher.read())
        watcher.acknowledge()
        if not watcher:
            loop.remove_reader(number)

    loop.add_reader(watcher, read)
    async with asyncio.timeout(PATIENCE):
        for n in range(30):
            scripted_child.say(str(n))
            assert said(await reads.get()) == [f"{n}\n".encode()]
        scripted_child.end()
        assert (await reads.get())[2][0].data == 3
        assert await reads.get() is None
    assert reads.empty()


def test_a_descriptor_above_1023(p: Papa, scripted_child: ScriptedChild) -> None:
    """select() knows none of them; poll() and ready do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with contextlib.ExitStack() as files:
        while files.enter_context(open(os.devnull, "rb")).fileno() < 1030:
            pass
        watcher = files.enter_context(p.watch_processes("p"))
        assert watcher.fileno() > 1023
        assert not watcher.ready
        scripted_child.say("one")
        assert by_poll(watcher, PATIENCE)
        assert watcher.ready
        assert said(watcher.read()) == [b"one\n"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_acknowledged_does_not_come_again(p: Papa, scripted_child: ScriptedChild) -> None:
    """Once acknowledge() has returned, even if the client is killed at once."""
    text = "import os, sys\nfrom papa_dbus.client import Papa\nw = Papa(sys.argv[1]).watch_processes('p')\n"
    text += "w.read(); w.acknowledge(); os.kill(os.getpid(), 9)"
    scripted_child.say("one")
    ended = subprocess.run([sys.executable, "-c", text, str(p.port_or_path)], cwd=ROOT, check=False, timeout=PATIENCE)
    assert ended.returncode == -signal.SIGKILL
    scripted_child.say("two")
    with p.watch_processes("p") as watcher:
        assert said(watcher.read()) == [b"two\n"]


def test_closed_by_another_thread_while_it_is_read(p: Papa, scripted_child: ScriptedChild) -> None:
    del scripted_child
    watcher = p.watch_processes("p")
    reads: list[object] = []

    def read() -> None:
        try:
            reads.append(watcher.read())
        except Error as error:
            reads.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    watcher.close()
    reader.join(PATIENCE)
    assert len(reads) == 1


def test_nothing_is_left_of_watchers(p: Papa, scripted_child: ScriptedChild) -> None:
    """Neither of those that were closed, nor of those that could not begin."""
    scripted_child.say("one")
    with p.watch_processes("p"):  # what is made once is there
        pass
    before = descriptors(), threading.active_count()
    for _ in range(20):
        with p.watch_processes("p") as watcher:
            assert said(watcher.read()) or watcher.acknowledge() is None
            scripted_child.say("more")
        with pytest.raises(Error):
            p.watch_processes("none")
    assert (descriptors(), threading.active_count()) == before


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # which says what the line's was
def test_what_is_forgotten_holds_nothing_back(p: Papa, scripted_child: ScriptedChild) -> None:
    """A watcher, and a client, that nobody closes: their output is for others, and they leave nothing."""

    def forget() -> None:
        client = Papa(p.port_or_path)
        assert said(client.watch_processes("p").read())

    scripted_child.say("one")
    with p.watch_processes("p"):
        pass
    before = descriptors()
    for _ in range(5):
        forget()
    gc.collect()
    # The thread that has them closes them.
    wait_until(lambda: descriptors() == before, lambda: (descriptors(), before))
    scripted_child.end()
    with p.watch_processes("p") as watcher:
        assert said(watcher.read()) == [b"one\n"]
        while watcher.read() is not None:
            pass
    assert p.list_processes() == {}
