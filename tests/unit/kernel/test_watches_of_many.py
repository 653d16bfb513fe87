"""A watch of many processes begins, and ends, in steps: what happens meanwhile is neither lost nor read twice."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from papa_dbus.errors import Limit
from papa_dbus.service import limits, steps
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.kernel.watches import Watches
from papa_dbus.service.output.cursor import Position
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
        self._all = [
            SimpleNamespace(key=key, log=log, spec=SimpleNamespace(name=name), gone=False)
            for key, (name, log) in enumerate(self.logs.items())
        ]

    def select(self, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
        return list(self.logs), []

    def readable(self, name: str, who: str) -> list[Any]:
        return [SimpleNamespace(log=self.logs[name])]

    def every(self) -> list[Any]:
        return self._all

    def end(self) -> None:
        """Have all end: a record of each, without a byte."""
        for log in self.logs.values():
            log.end(0, 1)

    def close(self) -> None:
        self._files.close()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ManyProcesses]:
    """Thousands, and a clock on which each takes 30 µs: a step of 3 ms has a hundred of them."""
    clock = iter(range(10**9))
    monkeypatch.setattr(steps, "STEP", 0.003)
    monkeypatch.setattr(steps, "AT_ONCE", 256)
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: next(clock) * 30e-6))
    many = ManyProcesses(5000)
    yield many
    many.close()


async def steps_of(count: Callable[[], int], until_there_are: int) -> list[int]:
    """Return how many there are now, and after each turn of the loop."""
    had = [count()]
    while had[-1] != until_there_are:
        await turns()
        had.append(count())
    return had


def longest(had: list[int]) -> int:
    return max(abs(after - before) for before, after in itertools.pairwise(had))


async def test_a_watch_of_thousands_has_as_many_turns_as_it_needs(processes: ManyProcesses) -> None:
    watches = Watches(processes)
    watch = watches.watch([], WatchSpec(), lambda: None, lambda end: None, "")
    had = await steps_of(lambda: len(watch.names), 5000)
    assert had[0] == 256
    assert 99 <= longest(had) <= 101
    assert watch.names == list(processes.logs)
    closed = watches.close(watch)
    assert closed is not None
    needed = 0
    while not closed.done():
        needed += 1
        await turns()
    assert needed >= (5000 - 256) // 101
    assert not any(log.readers for log in processes.logs.values())


@pytest.mark.parametrize("by_name", [True, False])
async def test_an_acknowledgement_of_thousands_has_as_many_turns_as_it_needs(
    processes: ManyProcesses, by_name: bool
) -> None:
    ends: list[str] = []
    watches, chores = Watches(processes), steps.Chores()
    watch = watches.watch([], WatchSpec(), lambda: None, ends.append, "")
    await steps_of(lambda: len(watch.names), 5000)
    processes.end()
    while watch.take(1 << 20):
        pass
    assert watch.unacknowledged == 5000
    rest = watch.acknowledge(dict.fromkeys(processes.logs, 1)) if by_name else watch.acknowledge_taken()
    assert rest is not None
    assert watch.unacknowledged == 5000 - 256
    done = chores.add(rest)
    had = await steps_of(lambda: watch.unacknowledged, 0)
    assert 99 <= longest(had) <= 101
    await done
    assert ends == ["finished"]
    assert all(log.exit_acknowledged for log in processes.logs.values())


async def test_a_watch_of_thousands_is_resumed_in_as_many_turns_as_it_needs(processes: ManyProcesses) -> None:
    before, after = Watches(processes), Watches(processes)
    watch = before.watch([], WatchSpec(), lambda: None, lambda end: None, "")
    await steps_of(lambda: len(watch.names), 5000)
    places = before.positions(watch)
    watch.close()
    again = after.resume(places, WatchSpec(), lambda: None, lambda end: None)
    had = await steps_of(lambda: len(again.names), 5000)
    assert had[0] == 256
    assert 99 <= longest(had) <= 101
    assert after.positions(again) == places
    assert again.share.held == 5000


# ----------------------------------------------------- what happens meanwhile


async def told(kernel: Kernel) -> tuple[Watch, dict[str, int]]:
    """Return a watch that has been sent a line of each of many processes, and what acknowledges them."""
    for name in NAMES:
        await run(kernel, "sh", "-c", "echo line; exec sleep 600", name=name)
    await until(lambda: all(info.written for info in kernel.list_processes()), "the lines")
    watch = watch_all(kernel)
    await attached(kernel, watch)
    assert len(watch.take(1 << 20)) == len(NAMES)
    return watch, dict.fromkeys(NAMES, 1)


def finish(rest: Iterator[None] | None) -> None:
    assert rest is not None
    for _ in rest:
        pass


def unread(kernel: Kernel) -> list[str]:
    return [info.name for info in kernel.list_processes() if info.buffered]


async def test_what_is_acknowledged_counts_although_its_watch_is_closed_before(kernel: Kernel) -> None:
    watch, lines = await told(kernel)
    rest = watch.acknowledge(lines)
    assert rest is not None
    assert unread(kernel) == NAMES[2:]
    closed = kernel.close_watch(watch)
    assert closed is not None
    await closed
    assert not unread(kernel)
    finish(rest)
    assert (watch.unacknowledged, watch.in_flight) == (0, 0)


async def test_what_is_sent_meanwhile_is_not_acknowledged_with_it(kernel: Kernel) -> None:
    """Nor is what a name's earlier process printed, if the watch has come to read that first."""
    watch, lines = await told(kernel)
    rest = watch.acknowledge(lines)
    assert rest is not None
    info = await run(kernel, "sh", "-c", "echo line; echo more; exec sleep 600", name="p9")
    await until(lambda: kernel.list_processes(["p9"])[0].written == 10, "the other's lines")
    log = kernel._processes.listed["p9"].log
    watch.attach_earlier(NAMES[5], log)  # as if it were one
    finish(rest)
    assert not unread(kernel)[:-1]
    assert (info.name, log.buffered) == ("p9", 10)
    [event] = watch.take(1 << 20)
    assert [record.data for record in event.records] in ([b"line\nmore\n"], [b"line\n", b"more\n"])  # type: ignore[union-attr]


async def left(kernel: Kernel) -> list[tuple[int, Position]]:
    """Return where a watch of all is as another papad continues."""
    watch, _ = await told(kernel)
    places = kernel.positions(watch)
    closed = kernel.close_watch(watch)
    assert closed is not None
    await closed
    return places


async def left_at_once(kernel: Kernel) -> list[tuple[int, Position]]:
    """Return where a watch of all is that has sent nothing."""
    watch = watch_all(kernel)
    await attached(kernel, watch)
    places = kernel.positions(watch)
    watch.close()
    return places


def resume(kernel: Kernel, places: Sequence[tuple[int, Position]]) -> tuple[Watch, list[str]]:
    ends: list[str] = []
    watch = kernel.resume_watch(places, WatchSpec(), lambda: None, ends.append)
    assert watch.names == NAMES[:2]
    return watch, ends


async def test_a_watch_that_is_resumed_continues_with_each_process_in_order(kernel: Kernel) -> None:
    places = await left(kernel)
    watch, _ = resume(kernel, places)
    await attached(kernel, watch)
    assert watch.names == NAMES
    assert kernel.positions(watch) == places
    assert not watch.take(1 << 20)  # all of that was sent
    finish(watch.acknowledge_taken())
    assert not unread(kernel)


async def test_what_a_newcomer_acknowledges_stays_for_a_watch_that_is_being_resumed(kernel: Kernel) -> None:
    places = [(key, place._replace(next_seq=1, offset=0, in_flight=0)) for key, place in await left(kernel)]
    watch, _ = resume(kernel, places)
    other = watch_all(kernel)
    assert watch.names == NAMES
    await attached(kernel, other)
    assert len(other.take(1 << 20)) == len(NAMES)
    finish(other.acknowledge(dict.fromkeys(NAMES, 1)))
    assert [event.process for event in watch.take(1 << 20)] == NAMES


async def test_an_end_stays_for_a_watch_that_is_being_resumed_though_its_name_is_made_again(kernel: Kernel) -> None:
    for name in NAMES:
        await run(kernel, *(("true",) if name == NAMES[5] else ("sleep", "600")), name=name)
    await ended(kernel, NAMES[5])
    places = await left_at_once(kernel)
    go_on = hold_watches(kernel)
    watch, _ = resume(kernel, places)
    await run(kernel, "sleep", "600", name=NAMES[5])
    go_on()
    await until(lambda: kernel.attached(watch) is None, "all to be attached")
    assert [event.process for event in watch.take(1 << 20)] == [NAMES[5]]
    assert watch.acknowledge({NAMES[5]: 1}) is None


async def test_what_is_removed_while_a_watch_is_resumed_is_left_out(kernel: Kernel) -> None:
    places = await left(kernel)
    go_on = hold_watches(kernel)
    watch, ends = resume(kernel, places)
    for info in kernel.list_processes(NAMES[4:]):
        os.kill(info.pid, signal.SIGKILL)
    kernel.remove_processes(NAMES[4:])
    await until(lambda: kernel.process_names == NAMES[:4], "their end")
    go_on()
    await attached(kernel, watch)
    assert watch.names == NAMES[:4]
    assert watch.share.held == 4
    assert not ends


async def test_what_is_removed_while_a_watch_is_resumed_is_at_its_end(kernel: Kernel) -> None:
    """An observer still reads it; its end has been told, so that nothing more of it would come."""
    for name in NAMES:
        await run(kernel, "sh", "-c", "sleep 600 & exit 0" if name == NAMES[5] else "exec sleep 600", name=name)
    await ended(kernel, NAMES[5])
    observer = kernel.watch(NAMES[5:], WatchSpec(mode="observe"), lambda: None)
    await Reader(kernel, NAMES[5:]).until_exited()
    places = await left_at_once(kernel)
    go_on = hold_watches(kernel)
    watch, _ = resume(kernel, places)
    kernel.remove_processes(NAMES[5:])
    go_on()
    await attached(kernel, watch)
    assert observer.names == NAMES[5:]
    assert watch.names == NAMES[:5]
