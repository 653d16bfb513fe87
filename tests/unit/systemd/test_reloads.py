"""Only systemd says that it has read its units anew; what is to be done then is done once at a time."""

import asyncio
from types import SimpleNamespace
from typing import Any

from papa_dbus.service.systemd.reloads import Reloads
from tests.support import turns


class StandIn:
    """A bus on which systemd is :1.1, and whose signals the test makes up."""

    def __init__(self) -> None:
        self.on_connected: list[Any] = []
        self.on_signal: list[Any] = []
        self.calls: list[str] = []

    async def add_match(self, **fields: str) -> None: ...

    async def call(self, *call: Any) -> SimpleNamespace:
        self.calls.append(call[3])
        return SimpleNamespace(body=[":1.1"])

    def say(self, *, begins: bool, sender: str = ":1.1") -> None:
        for listener in self.on_signal:
            listener(SimpleNamespace(member="Reloading", sender=sender, body=[begins]))


async def test_each_reload_is_heard_once_it_is_over_and_from_systemd_alone() -> None:
    bus, done, may_end = StandIn(), 0, asyncio.Event()

    async def then() -> None:
        nonlocal done
        done += 1
        await may_end.wait()

    reloads = Reloads(bus, then)  # type: ignore[arg-type]  # as much of a bus as it asks
    await bus.on_connected[0]()
    assert "Subscribe" in bus.calls
    bus.say(begins=True)
    bus.say(begins=False, sender=":1.2")
    await turns(5)
    assert done == 0
    for _ in range(3):  # the second and the third while the first is worked on
        bus.say(begins=False)
        await turns(5)
    assert done == 1
    may_end.set()
    await turns(5)
    assert done == 2
    bus.say(begins=False)
    await turns(5)
    assert done == 3
    reloads.close()
    bus.say(begins=False)
    await turns(5)
    assert done == 3
