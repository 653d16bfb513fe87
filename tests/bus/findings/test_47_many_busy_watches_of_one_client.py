"""A client with many busy watches has fewer calls under way than the bus lets it have, and loses none of them."""

import asyncio
import contextlib
from pathlib import Path

from papa_dbus.client import aio
from papa_dbus.client.aio import Record
from papa_dbus.client.link import MAX_CALLS
from papa_dbus.client.open_watches import MAX_WATCH_CALLS
from tests.bus.daemon import start_papad
from tests.bus.fakepapad import done, fake_papad, numbered_watches
from tests.bus.isolated import PrivateBus
from tests.support import PATIENCE

#: Unanswered calls of a connection, dbus-daemon's default (max_replies_per_connection).
_OF_A_CONNECTION = 128
_NUMBERS = "".join(f"{number}\n" for number in range(1, 10_000)).encode()


def test_all_calls_of_a_client_fit() -> None:
    assert MAX_CALLS + MAX_WATCH_CALLS < _OF_A_CONNECTION


async def test_acknowledgements_take_turns(bus_address: str) -> None:
    count = MAX_WATCH_CALLS + 16
    watches = numbered_watches("p")
    answers = {"Watch": watches, "Acknowledge": lambda _: None, "SetValue": done}
    async with (
        asyncio.timeout(PATIENCE),
        fake_papad(bus_address, **answers) as papad,
        aio.connect(bus_address, timeout=PATIENCE) as kernel,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(1, count + 1):
            watch = await stack.enter_async_context(kernel.watch("p"))
            papad.records(papad.of("Watch")[-1], number, "p", 1)
            watch._subscription.acknowledge(await watch._subscription.take())
        await kernel.set_value("a", "b")  # comes after all that could be sent before
        assert len(papad.of("Acknowledge")) == MAX_WATCH_CALLS
        for number in range(1, count + 1):
            papad.answer(await papad.until("Acknowledge", number), ("", []))
        papad.answers["Acknowledge"] = done


async def test_each_is_read_to_its_end(tmp_path: Path) -> None:
    """As many as the bus allows of everything else a client does, and a few more watches than that."""
    bus = PrivateBus(tmp_path, limits={"max_replies_per_connection": MAX_WATCH_CALLS + 4})
    papad = start_papad(bus.address, tmp_path / "line")
    names = [f"p{number}" for number in range(MAX_WATCH_CALLS + 16)]

    async def read(watch: aio.Watch) -> bytes:
        read = b""
        async with watch:
            async for event in watch:
                if isinstance(event, Record):
                    read += event.data
        return read

    try:
        async with asyncio.timeout(3 * PATIENCE), aio.connect(bus.address, timeout=PATIENCE) as kernel:
            kernel.link.watches.opens_sockets = False  # so that acknowledgements are calls
            for name in names:
                await kernel.make_process(name, ["/usr/bin/seq", "9999"])
            watches = [kernel.watch(name, window=1) for name in names]
            for watch in watches:
                await watch.open()
            assert set(await asyncio.gather(*map(read, watches))) == {_NUMBERS}
    finally:
        log = papad.stop()
        bus.stop()
    assert papad.process.returncode == 0, log
