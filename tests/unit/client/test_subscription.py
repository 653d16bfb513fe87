"""A model of papad, which drops what is old, of another consumer that lags, of a bus that loses what it likes, and of a
clock that is set back: the client gives all that was produced, once and in order, or says once that it was dropped, and
acknowledges nothing that it has not given.
"""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from papa_dbus.bus import Variant
from papa_dbus.client import subscription
from papa_dbus.client.open_watches import WatchId
from papa_dbus.client.records import Dropped, Event, Exited, Record
from papa_dbus.client.subscription import Subscription
from papa_dbus.errors import NoReply, NotFound
from tests.support import PATIENCE

#: What the model does before each event: nothing, or what goes wrong.
STEPS = [
    *("send", "send", "send", "lose", "restart", "refuse", "fail", "set the clock back"),
    *("drop", "another comes", "another goes"),
]


class Model:
    """papad with one process, and the bus to it. Stands in for the client's link and its watches."""

    timeout = PATIENCE

    def __init__(self, steps: Sequence[str], consumes: bool) -> None:
        self.watches = self
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
        self.dropped = 0  # up to here
        self.place = 0  # of this watch: it has acknowledged up to here
        self.other: int | None = None  # the place of another consumer, which stays there

    @property
    def begin(self) -> int:
        """Up to here papad has nothing to send again, since all consumers have acknowledged it."""
        return self.acknowledged if self.other is None else min(self.acknowledged, self.other)

    # ------------------------------------------------------------ as the client's link

    async def open(self, watcher: Subscription, *_: Any, **__: Any) -> tuple[WatchId, list[str]]:
        if self.consumes and self.done and self.begin == len(self.produced):
            raise NotFound("process 'p' is not there")
        self.number += 1
        self.watcher = watcher
        self.sent = self.place = self.begin
        asyncio.get_running_loop().call_soon(self.go_on, self.number)
        return ("papad", self.number), ["p"]

    async def acknowledge(self, key: WatchId, up_to: dict[str, int]) -> None:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise NoReply("gone")
        if key[1] != self.number or self.watcher is None:
            raise NotFound("the watch is not there")
        for seq in up_to.values():
            assert seq <= self.sent, "this was never sent"
            assert seq <= len(self.delivered), "this was never given"
            self.place = max(self.place, seq)
            self.acknowledged = max(self.acknowledged, seq)
        if self.done and self.place == len(self.produced) and self.consumes:
            self.end("finished")
        else:
            asyncio.get_running_loop().call_soon(self.go_on, self.number)

    def has_socket(self, _: WatchId) -> bool:
        return False

    async def wait_for_kernel(self) -> None:
        await asyncio.sleep(0)

    async def call(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        return SimpleNamespace(body=[{"p": {"acknowledged": Variant("t", self.begin)}}])

    def abandon(self, key: WatchId) -> None:
        if key[1] == self.number:
            self.watcher = None

    async def close(self, key: WatchId) -> None:
        self.abandon(key)

    # --------------------------------------------------------------------- as papad

    def end(self, reason: str) -> None:
        """End the watch and say so."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.on_ended(reason)

    def go_on(self, number: int) -> None:
        """Send what there is, or take the next step."""
        if number != self.number or self.watcher is None:
            return
        if self.sent < len(self.produced):
            self.sent = len(self.produced)
            self.send(self.place)
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
        elif step in ("another comes", "another goes"):
            self.other = self.begin if step == "another comes" else None
            asyncio.get_running_loop().call_soon(self.go_on, self.number)
        elif step == "drop":
            self.dropped = len(self.produced) + 1
            self.produce()
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
            self.send(self.sent - 1)
        asyncio.get_running_loop().call_soon(self.go_on, self.number)

    def finish(self) -> None:
        """Write the end, and tell a client that has not noticed a loss that it must watch again."""
        if not self.done:
            self.done = True
            self.clock += 1
            self.produced.append((len(self.produced) + 1, self.clock))
            self.sent = len(self.produced)
            self.send(self.sent - 1)
        elif not self.consumes:
            self.end("finished")

    def send(self, after: int) -> None:
        """Pass on to the client what comes after a number; what was dropped of it is one event."""
        assert self.watcher is not None
        if after < self.dropped:
            self.watcher.on_events([Dropped("p", after + 1, self.dropped, self.dropped - after)])
        for seq, timestamp in self.produced[max(after, self.dropped) :]:
            if self.done and seq == len(self.produced):
                self.watcher.on_events([Exited("p", seq, timestamp, 0)])
            else:
                self.watcher.on_events([Record("p", seq, timestamp, "out", b"x")])
        asyncio.get_running_loop().call_soon(self.go_on, self.number)

    def check(self) -> None:
        """Fail unless all was delivered, once and in order, or said to have been dropped."""
        assert [seq for seq, _ in self.delivered] == [seq for seq, _ in self.produced]
        for told, was in zip(self.delivered, self.produced, strict=True):
            assert told == was or (told == (was[0], 0) and told[0] <= self.dropped)


def _marks(event: Event) -> list[tuple[int, int]]:
    if isinstance(event, Dropped):
        assert event.bytes >= 0  # it is exact only if no other consumer lags
        return [(seq, 0) for seq in range(event.first_seq, event.last_seq + 1)]
    return [(event.seq, event.timestamp)]


async def _read(model: Model, batch: int) -> None:
    watch = Subscription(model, ["p"], observe=not model.consumes, follow=False, window=None)  # type: ignore[arg-type]
    await watch.open()
    waiting: list[Event] = []
    while events := await watch.take():
        model.delivered += [mark for event in events for mark in _marks(event)]
        waiting += events
        if len(waiting) >= batch or isinstance(waiting[-1], Exited):
            watch.acknowledge(waiting)
            waiting.clear()
    await watch.close()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(STEPS), max_size=30), st.booleans(), st.integers(1, 3))
def test_what_is_produced_is_delivered_once(steps: list[str], consumes: bool, batch: int) -> None:
    before = subscription._PAUSE
    subscription._PAUSE = (0.0001, 0.001)  # type: ignore[misc]
    try:
        model = Model(steps, consumes)

        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await _read(model, batch)

        asyncio.run(bounded())
        model.check()
    finally:
        subscription._PAUSE = before  # type: ignore[misc]
