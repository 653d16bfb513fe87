"""Who listens to what papad tells everybody, and stops reading, holds up nobody, and hears how things are later."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from papa_dbus.service import limits
from papa_dbus.service.dbus import broker_queues
from papa_dbus.service.items.specs import SocketSpec
from tests.bus.consumer import Consumer, consumer
from tests.bus.findings.inside import papad_inside
from tests.bus.isolated import PrivateBus

#: What the bus takes of papad, and what papad lets lie there, in the proportion that their own limits have.
TAKES, LIES, CHANGES = 4_000_000, 500_000, 10_000


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    monkeypatch.setattr(limits, "MAX_QUEUED_OF_CLIENT", LIES)
    monkeypatch.setattr(broker_queues, "LOOK_AFTER", LIES // 16)
    bus = PrivateBus(tmp_path, limits={"max_incoming_bytes": TAKES})
    yield bus
    bus.stop()


@pytest.fixture
async def listener(bus: PrivateBus) -> AsyncIterator[Consumer]:
    async with consumer(bus.address) as client:
        rule = "type='signal',path_namespace='/org/papa/Kernel'"
        driver = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        await client.bus.call(*driver, "AddMatch", "s", [rule])
        yield client


async def test_nobody_waits_for_it(bus: PrivateBus, listener: Consumer, tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    listener.bus.on_signal.append(
        lambda signal: heard.append((signal.member, signal.body[0])) if "Interfaces" in signal.member else None
    )
    async with papad_inside(bus.address) as papad, consumer(bus.address) as other:
        listener.stall()
        for number in range(CHANGES):
            await papad.kernel.make_socket(SocketSpec("s", host="127.0.0.1", port=0))
            papad.kernel.remove_sockets(["s"])
            if number % 100 == 0:
                assert await other.call("ListSockets", "as", []) == {}
        await papad.kernel.make_socket(SocketSpec("last", path=str(tmp_path / "last")))
        listener.go_on()
        await listener.wait(lambda: any(path.endswith("/last") for _, path in heard), "last")
        there: set[str] = set()
        for member, path in heard:
            assert (path in there) == (member == "InterfacesRemoved")
            (there.add if member == "InterfacesAdded" else there.discard)(path)
        assert [path.rpartition("/")[2] for path in there] == ["last"]
        assert len(heard) < CHANGES
