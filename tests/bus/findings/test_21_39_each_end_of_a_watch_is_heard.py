"""No reader waits for a watch that is over: each end is told, or found out if papad is too old to tell it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from papa_dbus.bus import Message, Variant
from papa_dbus.client import Papa, aio
from papa_dbus.client.aio import Event
from papa_dbus.errors import AccessDenied, NotFound, PapaError
from tests.bus.fakepapad import Answer, FakePapad, done, fake_papad, numbered_watches
from tests.bus.test_drop_in_line import Serve, serve
from tests.support import PATIENCE

__all__ = ["serve"]

NOTHING: tuple[str, list[Any]] = ("a{sa{sv}}", [{}])


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("papa_dbus.client.subscription._SILENCE", 0.1)
    monkeypatch.setattr("papa_dbus.client.subscription._PAUSE", (0.01, 0.05))


async def _read(kernel: aio.Kernel, events: list[Event], **options: bool) -> None:
    async with kernel.watch("p", **options) as watch:
        async for event in watch:
            events.append(event)  # noqa: PERF401 (what came before an error counts, too)


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize(("reason", "error"), [("finished", None), ("removed", NotFound), ("revoked", AccessDenied)])
async def test_it_ends_after_what_has_come(
    bus_address: str, reason: str, error: type[PapaError] | None, observe: bool
) -> None:
    """So ends, too, the watch that gets no end of its process, since that was acknowledged before it began."""
    answers = {"Watch": numbered_watches("p"), "Acknowledge": done}
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address) as kernel:
        events: list[Event] = []
        reading = asyncio.create_task(_read(kernel, events, observe=observe))
        call = await papad.until("Watch")
        papad.records(call, 1, "p", 1, 2)
        papad.signal(call, "WatchEnded", "ts", 1, reason)
        async with asyncio.timeout(PATIENCE):
            if error is None:
                await reading
            else:
                with pytest.raises(error):
                    await reading
        assert len(events) == 2
        assert len(papad.of("Watch")) == 1


async def test_a_watch_that_failed_is_opened_again(bus_address: str) -> None:
    answers = {"Watch": numbered_watches("p"), "Acknowledge": done}
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address) as kernel:
        events: list[Event] = []
        reading = asyncio.create_task(_read(kernel, events))
        call = await papad.until("Watch")
        papad.records(call, 1, "p", 1, 2)
        papad.signal(call, "WatchEnded", "ts", 1, "failed")
        call = await papad.until("Watch", 2)
        papad.records(call, 2, "p", 2, 3)
        papad.signal(call, "WatchEnded", "ts", 2, "finished")
        async with asyncio.timeout(PATIENCE):
            await reading
        assert [event.seq for event in events if isinstance(event, aio.Record)] == [1, 2, 3]


async def test_a_failure_is_not_taken_for_an_acknowledgement(bus_address: str) -> None:
    """papad says that the watch is not there: that it has failed, has come before."""
    papad: FakePapad

    def acknowledge(call: Message) -> Answer:
        if call.body[0] != 1:
            return "", []
        papad.signal(call, "WatchEnded", "ts", 1, "failed")
        return NotFound("watch 1 is not there")

    answers = {"Watch": numbered_watches("p"), "Acknowledge": acknowledge}
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address) as kernel:
        events: list[Event] = []
        reading = asyncio.create_task(_read(kernel, events))
        call = await papad.until("Watch")
        papad.records(call, 1, "p", 1, 2)
        call = await papad.until("Watch", 2)
        papad.records(call, 2, "p", 1, 2, 3)
        papad.exited(call, 2, "p", 4)
        papad.signal(call, "WatchEnded", "ts", 2, "finished")
        async with asyncio.timeout(PATIENCE):
            await reading
        assert [event.seq for event in events if not isinstance(event, aio.Dropped)] == [1, 2, 3, 4]


def _not_there(_: Message) -> Answer:
    return NotFound("watch 1 is not there")


async def _ended_unheard(bus_address: str, error: type[PapaError], observe: bool = False, **answers: Any) -> None:
    watches = numbered_watches("p")
    first: Callable[[Message], Answer] = lambda call: watches(call) if len(papad.of("Watch")) == 1 else again  # noqa: E731
    again = NotFound("process 'p' is not there")
    async with fake_papad(bus_address, Watch=first, **answers) as papad, aio.connect(bus_address) as kernel:
        with pytest.raises(error):
            async with asyncio.timeout(PATIENCE):
                await _read(kernel, [], observe=observe)


@pytest.mark.parametrize("observe", [False, True])
async def test_an_older_papad_ends_it_in_silence(bus_address: str, observe: bool) -> None:
    await _ended_unheard(bus_address, NotFound, observe, Acknowledge=_not_there, ListProcesses=lambda _: NOTHING)


async def test_an_older_papad_keeps_an_observers_watch_of_what_was_removed(bus_address: str) -> None:
    await _ended_unheard(bus_address, NotFound, observe=True, Acknowledge=done, ListProcesses=lambda _: NOTHING)


async def test_an_older_papad_revokes_in_silence(bus_address: str) -> None:
    await _ended_unheard(bus_address, AccessDenied, Acknowledge=lambda _: AccessDenied("not in the group"))


async def test_an_observer_of_an_older_papad_ends_with_the_process(bus_address: str) -> None:
    listed = {"p": {"running": Variant("b", False), "last_seq": Variant("t", 2), "buffered": Variant("t", 2)}}
    answers: dict[str, Callable[[Message], Answer]] = {
        "Watch": numbered_watches("p"), "ListProcesses": lambda _: ("a{sa{sv}}", [listed]), "Acknowledge": done,
    }  # fmt: skip
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address) as kernel:
        events: list[Event] = []
        reading = asyncio.create_task(_read(kernel, events, observe=True))
        call = await papad.until("Watch")
        papad.records(call, 1, "p", 1)
        papad.exited(call, 1, "p", 2)
        async with asyncio.timeout(PATIENCE):
            await reading
        assert len(events) == 2


@pytest.mark.parametrize(("reason", "error"), [("removed", "'p' was removed"), ("revoked", "client.s right")])
async def test_the_drop_in_raises_it(bus_address: str, reason: str, error: str) -> None:
    async with fake_papad(bus_address, Watch=numbered_watches("p"), Acknowledge=done, Ping=done) as papad:

        def read() -> None:
            with Papa(bus_address) as p, p.watch_processes("p") as watcher:
                assert watcher.read()[0][0].data == b"1\n"
                watcher.read()

        reading = asyncio.create_task(asyncio.to_thread(read))
        call = await papad.until("Watch")
        papad.records(call, 1, "p", 1)
        await papad.until("Acknowledge")
        papad.signal(call, "WatchEnded", "ts", 1, reason)
        with pytest.raises(PapaError, match=error):
            async with asyncio.timeout(PATIENCE):
                await reading


@pytest.mark.parametrize(
    ("reason", "error"),
    [("removed", "was removed"), ("revoked", "client.s right"), ("failed", "the watch has ended: failed")],
)
def test_the_drop_in_raises_what_20202_says(serve: Serve, reason: str, error: str) -> None:
    end = f"Nothing left to watch: {reason}\n> ".encode()
    with Papa(serve(b"Watching 1\nout:p:1.5:4\none\n\n] ", end).path) as p, p.watch_processes("p") as watcher:
        assert watcher.read() == ([("p", 1.5, b"one\n")], [], [])
        with pytest.raises(PapaError, match=error):
            watcher.read()


def test_20202_says_that_all_was_read(serve: Serve) -> None:
    with Papa(serve(b"Watching 1\nclosed:p:2.25:0\n] ", b"Nothing left to watch\n> ").path) as p:
        watcher = p.watch_processes("p")
        assert watcher.read() == ([], [], [("p", 2.25, 0)])
        assert watcher.read() is None
