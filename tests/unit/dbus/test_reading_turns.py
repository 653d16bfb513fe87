"""Reading acknowledgements from sockets of OpenOutput: how much of the time, and whose are next."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from papa_dbus.service.dbus import reading_turns
from papa_dbus.service.dbus.output_socket import OutputSocket
from papa_dbus.service.dbus.reading_turns import ReadingTurns
from papa_dbus.service.dbus.watch_turns import Client
from papa_dbus.service.steps import STEP


class _Socket(OutputSocket):
    """One whose reading takes as long as a test says, by the test's clock."""

    def __init__(self, client: Client, read: Callable[["_Socket"], None]) -> None:
        self.client = client
        self.listens = True
        self.queued = False
        self._read_it = read

    def listen(self, on: bool) -> None:
        self.listens = on

    def read_some(self) -> None:
        self._read_it(self)


class _Loop:
    """A loop whose timers a test runs."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, then: Callable[[], None]) -> None:
        self.timers.append((delay, then))


def test_clients_take_turns_and_reading_has_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, loop, turns = 100.0, _Loop(), ReadingTurns()
    monkeypatch.setattr(reading_turns, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    served: list[_Socket] = []

    def read(one: _Socket) -> None:
        nonlocal now
        now += 0.6 * STEP
        one.listen(True)  # as one does that waits for nothing
        served.append(one)

    many, one = Client(":1.1", 0), Client(":1.2", 0)
    sockets = [*(_Socket(many, read) for _ in range(5)), _Socket(one, read)]
    for each in sockets:
        turns.ask(each)
    assert served == sockets[:2]  # then STEP seconds are used up
    assert [each.listens for each in sockets] == [True, True, False, False, False, False]
    served.clear()
    while loop.timers:
        [(delay, then)] = loop.timers
        assert delay == STEP
        loop.timers.clear()
        now += delay
        begin = len(served)
        then()
        assert len(served) - begin <= 2
    assert served == [sockets[2], sockets[5], *sockets[3:5]]
    assert all(each.listens for each in sockets)
    assert len(served) * 0.6 * STEP < 0.6 * (now - 100.0)
