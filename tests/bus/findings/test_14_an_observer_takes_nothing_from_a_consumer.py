"""An earlier process's output goes to the consumer that comes, or is there, whoever only observes it."""

import pytest

from papa_dbus.bus import Variant
from tests.bus.client import Client

OLD, NEW = ["sh", "-c", "echo first words; exit 3"], ["sh", "-c", "echo second process; exec sleep 600"]


async def end_with_a_successor(manager: Client, other: Client) -> None:
    """Have a process end, its name made again, and the client leave that has acknowledged nothing of it."""
    await manager.make_process("web", *OLD)
    await manager.watch("web")
    await manager.until("Exited")
    await other.make_process("web", *NEW)


@pytest.mark.parametrize("observed", [False, True])
async def test_a_consumer_gets_what_an_observer_is_slow_to_read(client: Client, other: Client, observed: bool) -> None:
    await end_with_a_successor(client, other)
    manager = Client(client.bus.address)
    await manager.bus.start()
    if observed:
        await other.watch("web", mode=Variant("s", "observe"), window=Variant("t", 1))
        await other.until("Output")
    await client.bus.close()
    number = await manager.watch("web")
    await manager.until_output(b"first words")
    [[_, _, seq, _, code, _]] = await manager.until("Exited")
    assert code == 3
    await manager.call("Acknowledge", "ta{st}", number, {"web": seq})
    await manager.until_output(b"second process")
    await manager.bus.close()
