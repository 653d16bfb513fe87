"""An acknowledgement that is refused for now, or late, is made again, and never ends a watch."""

import asyncio
from collections.abc import Callable

import pytest

from papa_dbus.bus import Message
from papa_dbus.client import aio
from papa_dbus.client.aio import Event, Exited
from papa_dbus.errors import Limit, NotFound
from tests.bus.fakepapad import Answer, done, fake_papad, numbered_watches
from tests.support import PATIENCE


def _after(count: int, before: Answer, then: Callable[[Message], Answer]) -> Callable[[Message], Answer]:
    """Answer the first calls in one way, and the others in another."""
    left = iter(range(count))
    return lambda call: then(call) if next(left, None) is None else before


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("papa_dbus.client.open_watches._REFUSED", (0.01, 0.05))
    monkeypatch.setattr("papa_dbus.client.subscription._PAUSE", (0.01, 0.05))


@pytest.mark.parametrize("refusal", [Limit("too many calls are under way"), None], ids=["refused", "late"])
async def test_the_watch_goes_on(bus_address: str, refusal: Answer) -> None:
    answers = {"Watch": numbered_watches("p"), "Acknowledge": _after(3, refusal, done)}
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address, timeout=0.3) as kernel:
        events: list[Event] = []

        async def read() -> None:
            async with kernel.watch("p") as watch:
                async for event in watch:
                    events.append(event)
                    if isinstance(event, Exited):
                        break

        async with asyncio.timeout(PATIENCE):
            reading = asyncio.create_task(read())
            call = await papad.until("Watch")
            papad.records(call, 1, "p", 1, 2)
            await papad.until("Acknowledge", 4)
            papad.exited(call, 1, "p", 3)
            await reading
        assert len(events) == 3
        assert len(papad.of("Watch")) == 1
        assert papad.acknowledged[-1] == (1, {"p": 3})


async def test_a_refused_unwatch_is_tried_again(bus_address: str) -> None:
    answers = {
        "Watch": numbered_watches("p"), "Acknowledge": done, "Unwatch": _after(3, Limit("too many calls"), done),
    }  # fmt: skip
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address, timeout=PATIENCE) as kernel:
        async with kernel.watch("p"):
            pass
        assert [call.body for call in papad.of("Unwatch")] == [[1]] * 4


async def test_a_refused_watch_is_tried_again_once_it_has_begun(bus_address: str) -> None:
    """Whoever opens a watch hears that it is refused; one that is opened again waits."""
    watches = numbered_watches("p")
    answers = {"Watch": _after(1, ("tas", [77, ["p"]]), _after(3, Limit("too many watches"), watches))}
    async with (
        asyncio.timeout(PATIENCE),
        fake_papad(bus_address, Acknowledge=done, **answers) as papad,
        aio.connect(bus_address) as kernel,
        kernel.watch("p") as watch,
    ):
        call = await papad.until("Watch")
        papad.signal(call, "WatchEnded", "ts", 77, "failed")
        reading = asyncio.ensure_future(anext(aiter(watch)))
        call = await papad.until("Watch", 5)
        papad.records(call, 1, "p", 1)
        assert (await reading).process == "p"


async def test_a_process_that_was_removed_holds_up_no_other(bus_address: str) -> None:
    def acknowledge(call: Message) -> Answer:
        return NotFound("watch 1 has no process 'p'") if "p" in call.body[1] else ("", [])

    answers = {"Watch": numbered_watches("p", "q"), "Acknowledge": acknowledge}
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address) as kernel:
        async with asyncio.timeout(PATIENCE), kernel.watch("p", "q") as watch:
            call = await papad.until("Watch")
            papad.records(call, 1, "p", 1)
            papad.records(call, 1, "q", 1)
            async for event in watch:
                if event.process == "q":
                    break
        assert (1, {"q": 1}) in papad.acknowledged
        assert len(papad.of("Watch")) == 1
