"""A watch of many processes begins, and ends, in steps: what happens meanwhile is neither lost nor read twice."""

import asyncio
import itertools
import os
import signal
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from papa_dbus.errors import Limit
from papa_dbus.service import limits, steps
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.kernel.watches import Watches
from papa_dbus.service.output.files import LogFiles
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.watches import Watch
from tests.support import Reader, ended, hold_watches, run, turns, until

NAMES = [f"p{number}" for number in range(6)]


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attach two at once, and then one at each turn of the loop."""
    monkeypatch.setattr(steps, "AT_ONCE", 2)
    monkeypatch.setattr(steps, "STEP", 0.0)


async def sleepers(kernel: Kernel) -> None:
    for name in NAMES:
        await run(kernel, "sleep", "600", name=name)


async def attached(kernel: Kernel, watch: Watch) -> None:
    """Wait until a watch that does not read all yet does."""
    waits = kernel.attached(watch)
    assert waits is not None
    await waits
    assert not watch.expected


def bound_cursors(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let a client's watches read so many processes."""
    monkeypatch.setattr(limits, "MAX_CURSORS_OF_CLIENT", most)
    kernel._watches = Watches(kernel._processes)
    kernel._processes.on_made = kernel._watches.attach_followers


def watch_all(kernel: Kernel, client: str = ":1.1", **spec: Any) -> Watch:
    with acting(Caller(0, None, client)):
        return kernel.watch(["*"], WatchSpec(**spec), lambda: None)


async def test_a_small_one_reads_all_at_once(kernel: Kernel) -> None:
    await run(kernel, "sleep", "600")
    watch = kernel.watch(["*"], WatchSpec(), lambda: None)
    assert watch.names == ["p"]
    assert kernel.attached(watch) is None
    assert kernel.close_watch(watch) is None


async def test_all_are_attached_in_order_and_others_have_their_turns(kernel: Kernel) -> None:
    await sleepers(kernel)
    order = [*NAMES[3:], *NAMES[:3]]
    watch = kernel.watch(order, WatchSpec(), lambda: None)
    waits = asyncio.ensure_future(attached(kernel, watch))
    had = [len(watch.names)]
    while not waits.done():
        await turns()
        had.append(len(watch.names))
    await waits
    assert watch.names == order
    assert had[0] == 2
    assert max(after - before for before, after in itertools.pairwise(had)) == 1
    assert kernel.attached(watch) is None


async def test_what_is_removed_meanwhile_is_left_out(kernel: Kernel) -> None:
    await sleepers(kernel)
    await run(kernel, "true", name="p5x")
    await ended(kernel, "p5x")
    watch = kernel.watch(["*"], WatchSpec(), lambda: None)
    kernel.remove_processes(["p5x"])
    await attached(kernel, watch)
    assert watch.names == NAMES
    assert watch.share.held == len(NAMES)


async def test_of_what_ends_meanwhile_the_end_is_told(kernel: Kernel) -> None:
    await sleepers(kernel)
    go_on = hold_watches(kernel)
    reader = Reader(kernel, ["*"])
    info = await run(kernel, "sleep", "600", name=NAMES[5])
    os.kill(info.pid, signal.SIGKILL)
    await ended(kernel, NAMES[5])
    assert not reader.watch.reads(NAMES[5])
    go_on()
    await reader.until_exited()
    assert [end.process for end in reader.ends] == [NAMES[5]]
    assert not reader.watch.closed


@pytest.mark.parametrize("all_of_them", [True, False])
async def test_a_watch_does_not_end_before_all_is_attached(kernel: Kernel, all_of_them: bool) -> None:
    """Two have ended and were read before; their descendants print on, until they are removed."""
    for name in NAMES[:2]:
        await run(kernel, "sh", "-c", "sleep 600 & exit 0", name=name)
    consumer = Reader(kernel, ["*"])
    await consumer.until_exited(2)
    await run(kernel, "true", name=NAMES[2])
    await ended(kernel, NAMES[2])
    go_on = hold_watches(kernel)
    reader = Reader(kernel, ["*"])
    assert reader.watch.names == NAMES[:2]
    kernel.remove_processes(NAMES[:3] if all_of_them else NAMES[:2])
    assert not reader.watch.names
    assert not reader.done.is_set()
    go_on()
    if all_of_them:
        await until(reader.done.is_set, "the end of the watch")
        assert (reader.end, reader.ends) == ("removed", [])
    else:
        await reader.until_exited()
        await until(reader.done.is_set, "the end of the watch")
        assert (reader.end, reader.ends[0].process) == ("finished", NAMES[2])


async def test_of_what_has_a_successor_meanwhile_both_are_read_in_order(kernel: Kernel) -> None:
    await sleepers(kernel)
    await run(kernel, "echo", "old", name="p9")
    other = Reader(kernel, ["p9"], acknowledge=False)
    await other.until_exited()
    go_on = hold_watches(kernel)
    reader = Reader(kernel, ["*"])
    await run(kernel, "echo", "new", name="p9")
    other.watch.close()
    assert not reader.watch.reads("p9")
    go_on()
    await reader.until_exited(2)
    assert reader.data(name="p9") == b"old\nnew\n"


async def test_a_follower_reads_what_is_made_meanwhile_once(kernel: Kernel) -> None:
    """A name that it expects comes at once, with what is unread of it; so does one that is new."""
    await sleepers(kernel)
    await run(kernel, "echo", "old", name="p8")
    other = Reader(kernel, ["p8"], acknowledge=False)
    await other.until_exited()
    await run(kernel, "true", name="p8")
    other.watch.close()
    await ended(kernel, "p8")
    go_on = hold_watches(kernel)
    watch = kernel.watch(["p*"], WatchSpec(mode="observe", follow=True), lambda: None)
    assert watch.names == NAMES[:2]
    await run(kernel, "echo", "new", name="p8")
    await run(kernel, "echo", "newest", name="p9")
    assert watch.names == [*NAMES[:2], "p8", "p9"]
    go_on()
    await attached(kernel, watch)
    assert watch.names == [*NAMES[:2], "p8", "p9", *NAMES[2:]]
    assert [cursor.name for cursor in watch.cursors].count("p8") == 2
    assert len(watch.cursors) == watch.share.held == len(NAMES) + 3
    watch.close()
    reader = Reader(kernel, ["p8", "p9"])
    await reader.until_exited(3)
    assert (reader.data(name="p8"), reader.data(name="p9")) == (b"old\nnew\n", b"newest\n")


async def test_a_watch_that_is_closed_meanwhile_reads_nothing_more(kernel: Kernel) -> None:
    await sleepers(kernel)
    watch = watch_all(kernel)
    waits = kernel.attached(watch)
    assert waits is not None
    watch.close()
    await waits
    assert watch.share.held == 0
    assert not any(process.log.readers for process in kernel._processes.every())


async def test_its_places_are_kept_for_it(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another watch of the same client takes none of them, and is refused at once."""
    bound_cursors(kernel, monkeypatch, 2 * len(NAMES) - 1)
    await sleepers(kernel)
    first = watch_all(kernel)
    assert len(first.names) == 2
    with pytest.raises(Limit, match="too many processes together"):
        watch_all(kernel)
    await attached(kernel, first)
    assert first.names == NAMES
    assert first.share.held == len(NAMES)
    first.close()
    second = watch_all(kernel)
    await attached(kernel, second)
    assert second.share.held == len(NAMES)


async def test_one_of_many_is_closed_in_steps(kernel: Kernel) -> None:
    """Nothing comes from it any more; what it had not acknowledged is there for the next one."""
    await sleepers(kernel)
    await run(kernel, "echo", "words", name="p9")
    reader = Reader(kernel, ["*"], acknowledge=False)
    await reader.until_exited()
    logs = [cursor.log for cursor in reader.watch.cursors]
    closed = kernel.close_watch(reader.watch)
    assert closed is not None
    assert reader.watch.closed
    assert reader.watch.share.held == 0
    left = [sum(bool(log.readers) for log in logs)]
    while not closed.done():
        await turns()
        left.append(sum(bool(log.readers) for log in logs))
    assert left[0] == len(logs) - 2
    assert left[-1] == 0
    assert max(before - after for before, after in itertools.pairwise(left)) == 1
    again = Reader(kernel, ["p9"])
    await again.until_exited()
    assert again.data() == b"words\n"


async def test_a_follower_that_gets_too_many_is_told_at_once_and_closed_in_steps(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_cursors(kernel, monkeypatch, len(NAMES))
    await sleepers(kernel)
    reader = Reader(kernel, ["*"], mode="observe", follow=True)
    await attached(kernel, reader.watch)
    logs = [cursor.log for cursor in reader.watch.cursors]
    await run(kernel, "sleep", "600", name="p9")
    assert reader.end == "failed"
    assert any(log.readers for log in logs)
    await until(lambda: not any(log.readers for log in logs), "all to be let go")


class ManyProcesses:
    """Processes without a child or a descriptor of their own: a watch sees nothing but their logs."""

    def __init__(self, count: int) -> None:
        self._files = LogFiles.create()
        self.logs = {f"p{number:05}": OutputLog(1000, lambda: None, self._files) for number in range(count)}

    def select(self, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
        return list(self.logs), []

    def readable(self, name: str, who: str) -> list[Any]:
        return [SimpleNamespace(log=self.logs[name])]

    def every(self) -> list[Any]:
        return []

    def close(self) -> None:
        self._files.close()


async def test_a_watch_of_thousands_has_as_many_turns_as_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which each process takes 30 µs: a step of 3 ms has a hundred of them."""
    clock = iter(range(10**9))
    monkeypatch.setattr(steps, "STEP", 0.003)
    monkeypatch.setattr(steps, "AT_ONCE", 256)
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: next(clock) * 30e-6))
    processes = ManyProcesses(5000)
    watches = Watches(processes)
    watch = watches.watch([], WatchSpec(), lambda: None, lambda end: None, "")
    had = [len(watch.names)]
    while watch.expected:
        await turns()
        had.append(len(watch.names))
    assert had[0] == 256
    assert 99 <= max(after - before for before, after in itertools.pairwise(had)) <= 101
    assert watch.names == list(processes.logs)
    closed = watches.close(watch)
    assert closed is not None
    needed = 0
    while not closed.done():
        needed += 1
        await turns()
    assert needed >= (5000 - 256) // 101
    assert not any(log.readers for log in processes.logs.values())
    processes.close()
