"""Who has a name on the bus: a change counts more than an answer that is older, in whatever order they are noticed."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from papa_dbus.bus.driver import DRIVER
from papa_dbus.bus.name_owner import NameOwner
from papa_dbus.errors import NotFound, PapaError, Unreachable

NAME = "org.example"


class FakeBus:
    """Answers, and in the same moment sends the changes that follow the answer, as one read of the socket has them."""

    def __init__(self, owner: str, changes: list[str]) -> None:
        self.on_signal: list[Callable[[Any], None]] = []
        self.owner = owner
        self.changes = changes

    async def add_match(self, **_: str) -> None:
        """Do nothing."""

    async def call(self, *_: object) -> Any:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(self._read, reply)
        return await reply

    def _read(self, reply: "asyncio.Future[Any]") -> None:
        if self.owner:
            reply.set_result(SimpleNamespace(body=[self.owner]))
        else:
            reply.set_exception(Unreachable("nobody has it"))
        for owner in self.changes:
            self.change(NAME, owner)

    def change(self, name: str, owner: str, sender: str = DRIVER[0]) -> None:
        for hear in self.on_signal:
            hear(SimpleNamespace(sender=sender, member="NameOwnerChanged", body=[name, "", owner]))


async def told(bus: FakeBus) -> list[str | None]:
    owners: list[str | None] = []
    await NameOwner(bus, NAME, owners.append).find()  # type: ignore[arg-type]
    return owners


@pytest.mark.parametrize(("owner", "changes"), [("", [":1.5"]), (":1.4", [""]), (":1.4", ["", ":1.5"])])
async def test_a_change_behind_the_answer_is_not_forgotten(owner: str, changes: list[str]) -> None:
    """The answer is read first, and whoever awaits it goes on when the changes have been heard."""
    assert (await told(FakeBus(owner, changes)))[-1] == (changes[-1] or None)


@pytest.mark.parametrize("owner", ["", ":1.4"])
async def test_without_a_change_the_answer_counts(owner: str) -> None:
    assert await told(FakeBus(owner, [])) == [owner or None]


async def test_the_next_connections_answer_counts_again() -> None:
    owners: list[str | None] = []
    bus = FakeBus(":1.4", [""])
    follow = NameOwner(bus, NAME, owners.append)  # type: ignore[arg-type]
    await follow.find()
    bus.owner, bus.changes = ":1.7", []
    await follow.find()
    assert owners[-1] == ":1.7"


async def test_only_the_bus_itself_is_believed_and_only_about_the_name() -> None:
    bus = FakeBus(":1.4", [])
    owners: list[str | None] = []
    await NameOwner(bus, NAME, owners.append).find()  # type: ignore[arg-type]
    bus.change("org.example.other", ":1.9")
    bus.change(NAME, ":1.9", sender=":1.9")
    assert owners == [":1.4"]


async def test_that_a_bus_does_not_answer_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = FakeBus("", [])

    async def fail(*_: object) -> Any:
        raise NotFound("something else is wrong")

    monkeypatch.setattr(bus, "call", fail)
    with pytest.raises(PapaError):
        await told(bus)
