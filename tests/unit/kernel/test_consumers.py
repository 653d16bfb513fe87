"""What is stored of consumers does not grow with those that come, watch everything, and leave."""

import asyncio
import math
import os

import pytest

from papa_dbus.service import limits, steps
from papa_dbus.service.items.rows import ProcessRecord
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.cursor import Cursor
from papa_dbus.service.output.events import Output
from papa_dbus.service.output.readers import OTHERS, consumers_of
from papa_dbus.service.output.watches import Watch
from tests.support import Reader, run, turns, until


def watch(kernel: Kernel, who: str) -> Watch:
    return kernel.watch(["p"], WatchSpec(), lambda: None, who=who)


async def noted(kernel: Kernel) -> None:
    """Wait until it is stored how far consumers have come; that it is not yet."""
    noted = kernel.all_noted()
    assert noted is not None
    await noted
    assert kernel.all_noted() is None


async def test_who_reads_another_process_does_not_wait_for_what_is_stored_of_this(kernel: Kernel) -> None:
    for name in ("p", "other"):
        await run(kernel, "sleep", "600", name=name)
    guests = [watch(kernel, f":1.{n}") for n in range(2)]
    assert kernel.noted(["other"]) is None
    assert kernel.noted(["other", "p"]) is not None
    await noted(kernel)
    for guest in guests:
        guest.close()


async def test_consumers_that_come_and_go_cost_little(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    await run(kernel, "sh", "-c", "echo one; exec sleep 600")
    stays = Reader(kernel, ["p"], acknowledge=False)
    await stays.until("one")
    stored: list[tuple[tuple[str, int, int], ...]] = []

    def note(key: int, facts: ProcessRecord, state: str) -> None:
        stored.append(facts.consumers)

    monkeypatch.setattr(kernel._store, "update_process", note)
    guests = [watch(kernel, f":1.{n}") for n in range(20)]
    await noted(kernel)
    assert stored == [((OTHERS, 0, 0),)]  # the second one has made the log a shared one
    [event] = guests[0].take(1 << 20)
    assert isinstance(event, Output)
    guests[0].acknowledge({"p": 1})
    await noted(kernel)
    assert stored[1:] == [((OTHERS, 0, 0), (":1.0", 1, 4))]  # it alone has come further
    again = watch(kernel, ":1.0")
    await noted(kernel)
    assert stored[2:] == [((OTHERS, 0, 0),)]  # after a restart both its watches begin where the later one is
    again.close()
    await noted(kernel)
    assert stored[3:] == stored[1:2]
    for guest in guests:
        guest.close()
    await noted(kernel)
    assert stored[-1] == ()
    assert len(stored) < 8
    stays.watch.close()
    kernel.remove_processes(["p"])


@pytest.mark.usefixtures("many_descriptors")
async def test_much_that_is_acknowledged_at_a_time_is_stored_once_and_in_steps(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred processes, of which two consume each: what one acknowledges is no two hundred rows at once."""
    names = [f"p{number}" for number in range(200)]
    for name in names:
        await run(kernel, "sh", "-c", "echo one; echo two; exec sleep 600", name=name)
    stays = Reader(kernel, ["*"], acknowledge=False)
    await until(lambda: stays.data().count(b"two") == len(names), "all output")
    guest = kernel.watch(["*"], WatchSpec(), lambda: None, who=":1.1")
    await noted(kernel)
    while guest.take(1 << 20):
        pass
    last = {cursor.name: cursor.next_seq - 1 for cursor in guest.cursors}
    stored: list[int] = []
    in_turn: list[int] = []
    monkeypatch.setattr(kernel._store, "update_process", lambda key, facts, state: stored.append(key))
    monkeypatch.setattr(steps, "STEP", 0.0)
    guest.acknowledge(dict.fromkeys(names, 1))
    guest.acknowledge(last)
    assert not stored
    waits = asyncio.ensure_future(noted(kernel))
    while not waits.done():
        await turns()
        in_turn.append(len(stored) - sum(in_turn))
    assert len(stored) == len(set(stored)) == len(names)
    assert max(in_turn) == 1
    guest.close()
    stays.watch.close()
    kernel.remove_processes(["*"])


async def test_watches_whose_clients_will_come_back_are_closed_in_steps(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they hold is held for their clients, and nothing comes from them meanwhile."""
    for number in range(20):
        await run(kernel, "sleep", "600", name=f"p{number}")
    woken: list[str] = []
    watches = [kernel.watch(["*"], WatchSpec(), lambda: woken.append("one"), who=who) for who in (":1.1", ":1.2")]
    await noted(kernel)
    logs = [cursor.log for cursor in watches[0].cursors]
    monkeypatch.setattr(steps, "STEP", 0.0)
    closed = kernel.close_watches(watches)
    await turns(5)
    assert watches[0].closed
    assert not watches[1].closed
    watches[0].mark_ready(Cursor(watches[0], "p0", logs[0]))
    assert not woken
    await turns(len(logs))
    assert not closed.done()
    await closed
    await until(lambda: kernel.all_noted() is None, "all to be stored")
    assert all(log.absent(who) for log in logs for who in (":1.1", ":1.2"))
    again = [kernel.watch(["*"], WatchSpec(), lambda: None, who=who) for who in (":1.1", ":1.2")]
    assert not any(log.absent(who) for log in logs for who in (":1.1", ":1.2"))
    for watch_ in again:
        watch_.close()
    kernel.remove_processes(["*"])


async def test_whom_nobody_waits_for_any_more_is_given_up_in_steps(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await run(kernel, "sleep", "600", name=f"p{number}")
    watches = [kernel.watch(["*"], WatchSpec(), lambda: None, who=who) for who in (":1.1", ":1.2")]
    logs = [cursor.log for cursor in watches[0].cursors]
    monkeypatch.setattr(limits, "ABSENCE", 0.0)
    await kernel.close_watches(watches)
    await until(lambda: not any(log.consumers for log in logs), "all to be given up")
    assert not kernel._processes.consumers._absences
    kernel.remove_processes(["*"])


async def lag(kernel: Kernel) -> tuple[Watch, Watch]:
    """Return two watches of one client, of which one has acknowledged two lines more than the other."""
    await run(kernel, "sleep", "600")
    quick, slow = watch(kernel, ":1.1"), watch(kernel, ":1.1")
    reads, writes = os.pipe()
    for line in (b"1\n", b"2\n", b"3\n"):
        os.write(writes, line)
        quick.cursors[0].log.splice_from(reads, "out")
    os.close(reads)
    os.close(writes)
    quick.take(1 << 20)
    slow.take(1 << 20)
    quick.acknowledge({"p": 3})
    slow.acknowledge({"p": 1})
    await noted(kernel)
    return quick, slow


def numbers(watch: Watch) -> list[int]:
    """Return those of the records that a watch gets."""
    return [rec.seq for event in watch.take(1 << 20) if isinstance(event, Output) for rec in event.records]


async def test_two_watches_of_one_client_lose_nothing_to_each_other(kernel: Kernel) -> None:
    """Whichever of them is back first: which one it is nobody knows."""
    await kernel.close_watches(await lag(kernel))
    first = watch(kernel, ":1.1")
    assert numbers(first) == [2, 3]
    first.acknowledge({"p": 3})
    second = watch(kernel, ":1.1")
    assert numbers(second) == [2, 3]
    second.acknowledge({"p": 3})
    third = watch(kernel, ":1.1")
    assert not numbers(third)
    for each in (first, second, third):
        each.close()
    kernel.remove_processes(["p"])


async def test_of_a_superseded_process_another_papad_knows_each_of_them(kernel: Kernel) -> None:
    quick, slow = await lag(kernel)
    log = quick.cursors[0].log
    assert consumers_of(log, superseded=False) == ((OTHERS, 0, 0),)
    assert consumers_of(log, superseded=True) == ((":1.1", 3, 6), (":1.1", 1, 2))
    quick.close()
    slow.close()
    kernel.remove_processes(["p"])


async def test_what_others_have_read_to_its_end_goes_with_those_that_are_given_up(kernel: Kernel) -> None:
    """After a restart of the bus every client has another name, and none of the old ones comes back."""
    await run(kernel, "echo", "one")
    await until(lambda: not kernel.list_processes(["p"])[0].running, "the end")
    await kernel.close_watches([watch(kernel, who) for who in (":1.1", ":1.2")])
    for who in (":2.1", ":2.2"):
        again = watch(kernel, who)
        assert numbers(again) == [1]
        again.acknowledge({"p": 2})
        assert again.closed
    assert kernel.list_processes(["p"])[0].buffered == 4  # for those that may come back
    await noted(kernel)
    assert [who for who, _, _ in kernel._processes.listed["p"].facts.consumers] == [OTHERS, ""]
    giving_up = kernel._processes.consumers._giving_up(math.inf)
    next(giving_up)
    next(giving_up)
    assert not kernel.list_processes()  # nobody may come back for it any more
    await run(kernel, "sh", "-c", "echo two; exec sleep 600")
    await until(lambda: kernel.list_processes(["p"])[0].buffered, "output")
    next_one = watch(kernel, ":2.1")
    assert numbers(next_one) == [1]  # the one before holds it up no more
    for _ in giving_up:
        pass
    assert kernel._processes.superseded.in_all == 0
    next_one.close()
    kernel.remove_processes(["p"])
