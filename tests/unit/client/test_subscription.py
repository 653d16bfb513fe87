"""A model of papad, of a bus that loses what it likes, and of a clock that is set back: the client gives all that was
produced, once and in order, and acknowledges nothing that it has not given.
"""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from papa_dbus.bus import Variant
from papa_dbus.client import subscription
from papa_dbus.client.link import WatchId
from papa_dbus.client.records import Event, Exited
from papa_dbus.client.subscription import Subscription
from papa_dbus.errors import NoReply, NotFound
from tests.support import PATIENCE

#: What the model does before each event: nothing, or what goes wrong.
STEPS = ["send", "send", "send", "lose", "restart", "refuse", "fail", "set the clock back"]


class Model:
    """papad with one process, and the bus to it. Stands in for the client's Link."""

    timeout = PATIENCE

    def __init__(self, steps: Sequence[str], consumes: bool) -> None:
        self.steps = list(steps)
        self.consumes = consumes
        self.produced: list[tuple[int, int]] = []  # sequence number and timestamp
        self.acknowledged = 0
        self.delivered: list[tuple[int, int]] = []
        self.watcher: Subscription | None = None
        self.number = 0
        self.sent = 0  # up to here, on this watch
        self.heard = 0  # so much of it was not lost
        self.refusals = 0
        self.clock = 1_000_000
        self.done = False

    # ------------------------------------------------------------ as the client's link

    async def open_watch(self, watcher: Subscription, *_: Any, **__: Any) -> tuple[WatchId, list[str]]:
        if self.consumes and self.done and self.acknowledged == len(self.produced):
            raise NotFound("process 'p' is not there")
        self.number += 1
        self.watcher = watcher
        self.sent = self.acknowledged
        asyncio.get_running_loop().call_soon(self.go_on, self.number)
        return ("papad", self.number), ["p"]

    async def call_watch(self, key: WatchId, member: str, _: str, *body: Any) -> None:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise NoReply("gone")
        if key[1] != self.number or self.watcher is None:
            raise NotFound("the watch is not there")
        for seq in body[0].values():
            assert seq <= self.sent, "this was never sent"
            assert seq <= len(self.delivered), "this was never given"
            self.acknowledged = max(self.acknowledged, seq)
        if self.done and self.acknowledged == len(self.produced) and self.consumes:
            self.end("finished")
        else:
            asyncio.get_running_loop().call_soon(self.go_on, self.number)

    async def wait_for_kernel(self) -> None:
        await asyncio.sleep(0)

    async def call(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        return SimpleNamespace(body=[{"p": {"acknowledged": Variant("t", self.acknowledged)}}])

    def abandon_watch(self, key: WatchId) -> None:
        if key[1] == self.number:
            self.watcher = None

    async def close_watch(self, key: WatchId) -> None:
        self.abandon_watch(key)

    # --------------------------------------------------------------------- as papad

    def end(self, reason: str) -> None:
        """End the watch and say so."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.on_signal("WatchEnded", [reason])

    def go_on(self, number: int) -> None:
        """Send what there is, or take the next step."""
        if number != self.number or self.watcher is None:
            return
        if self.sent < len(self.produced):
            self.sent = len(self.produced)
            self.send(self.produced[self.acknowledged :] if self.sent else [])
            return
        if not self.steps:
            self.finish()
            return
        step = self.steps.pop()
        if step == "restart":
            watcher, self.watcher = self.watcher, None
            watcher.on_disconnect()
        elif step == "fail":
            self.end("failed")
        elif step == "refuse":
            self.refusals += 1
            self.produce()
        else:
            self.produce(lost=step == "lose", back=step == "set the clock back")

    def produce(self, *, lost: bool = False, back: bool = False) -> None:
        """Write one record, and send it; its signal may be lost, and is followed by others then."""
        self.clock += -700 if back else 1
        self.produced.append((len(self.produced) + 1, self.clock))
        self.sent = len(self.produced)
        if not lost:
            self.send(self.produced[-1:])
        asyncio.get_running_loop().call_soon(self.go_on, self.number)

    def finish(self) -> None:
        """Write the end, and tell a client that has not noticed a loss that it must watch again."""
        if not self.done:
            self.done = True
            self.clock += 1
            self.produced.append((len(self.produced) + 1, self.clock))
            self.sent = len(self.produced)
            self.send(self.produced[-1:])
        elif not self.consumes:
            self.end("finished")

    def send(self, records: Sequence[tuple[int, int]]) -> None:
        """Pass records on to the client."""
        assert self.watcher is not None
        for seq, timestamp in records:
            if self.done and seq == len(self.produced):
                self.watcher.on_signal("Exited", ["p", seq, timestamp, 0, True])
            else:
                self.watcher.on_signal("Output", ["p", [[seq, timestamp, "out", b"x"]]])
        asyncio.get_running_loop().call_soon(self.go_on, self.number)


def _mark(event: Event) -> tuple[int, int]:
    assert isinstance(event, Exited) or hasattr(event, "seq")
    return event.seq, event.timestamp  # type: ignore[union-attr]


async def _read(model: Model, batch: int) -> None:
    watch = Subscription(model, ["p"], observe=not model.consumes, follow=False, window=None)  # type: ignore[arg-type]
    await watch.open()
    waiting: list[Event] = []
    while events := await watch.take():
        model.delivered += map(_mark, events)
        waiting += events
        if len(waiting) >= batch or isinstance(waiting[-1], Exited):
            watch.acknowledge(waiting)
            waiting.clear()
    await watch.close()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(STEPS), max_size=20), st.booleans(), st.integers(1, 3))
def test_what_is_produced_is_delivered_once(steps: list[str], consumes: bool, batch: int) -> None:
    before = subscription._PAUSE
    subscription._PAUSE = (0.0001, 0.001)  # type: ignore[misc]
    try:
        model = Model(steps, consumes)

        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await _read(model, batch)

        asyncio.run(bounded())
        assert model.delivered == model.produced
    finally:
        subscription._PAUSE = before  # type: ignore[misc]
