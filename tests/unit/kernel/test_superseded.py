"""Processes that have left the list: read to their end, counted, bounded, and then forgotten."""

import pytest

from papa_dbus.errors import Limit
from papa_dbus.service import limits
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import Reader, run, until


async def test_a_name_is_free_while_a_consumer_reads_the_old_one_to_its_end(kernel: Kernel) -> None:
    old = await run(kernel, "sh", "-c", "echo old; exit 1")
    reader = Reader(kernel, ["p"], acknowledge=False)
    await reader.until_exited()
    new = await run(kernel, "sh", "-c", "echo new; exit 2")
    assert new.pid != old.pid
    assert [info.pid for info in kernel.list_processes()] == [new.pid]
    second = Reader(kernel, ["p"])
    await second.until_exited()
    assert (second.data(), second.ends[0].exit_code) == (b"new\n", 2)
    assert (reader.data(), [end.exit_code for end in reader.ends]) == (b"old\n", [1])
    reader.watch.acknowledge_taken()
    assert reader.done.is_set()
    assert not kernel._processes.superseded


async def test_a_reader_that_dies_after_the_name_was_made_again_loses_nothing(kernel: Kernel) -> None:
    await run(kernel, "sh", "-c", "echo last words; exit 1")
    reader = Reader(kernel, ["p"], acknowledge=False)
    await reader.until_exited()
    await run(kernel, "sh", "-c", "echo new; exit 2")
    reader.watch.close()
    second = Reader(kernel, ["p"])
    await second.until_exited(2)
    assert second.data() == b"last words\nnew\n"
    assert [end.exit_code for end in second.ends] == [1, 2]


async def test_42_processes_that_are_still_read_count_when_their_name_is_made_again(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PROCESSES", 3)
    readers = []
    for _ in range(3):
        await run(kernel, "echo", "x")
        readers.append(Reader(kernel, ["p"], acknowledge=False))
        await readers[-1].until_exited()
    with pytest.raises(Limit, match="3 processes at most"):
        await run(kernel, "echo", "x")
    for reader in readers:
        reader.watch.acknowledge_taken()
    assert not kernel._processes.superseded


async def test_40_earlier_processes_are_found_by_name(kernel: Kernel) -> None:
    for name in "ab":
        await run(kernel, "echo", name, name=name)
        reader = Reader(kernel, [name], acknowledge=False)
        await reader.until_exited()
        await run(kernel, "sleep", "60", name=name)
        assert [old.spec.name for old in kernel._processes.superseded.of(name)] == [name]
        assert len(kernel._processes.superseded) == len(list(kernel._processes.superseded))
        reader.watch.acknowledge_taken()
        assert not kernel._processes.superseded
        assert kernel._processes.superseded.of(name) == []


async def test_a_consumer_that_is_there_gets_it_when_the_last_other_one_leaves(kernel: Kernel) -> None:
    await run(kernel, "sh", "-c", "echo first words; exit 3")
    leaves = Reader(kernel, ["p"], acknowledge=False)
    await leaves.until_exited()
    await run(kernel, "sh", "-c", "echo second process; exec sleep 600")
    stays = Reader(kernel, ["p"], acknowledge=False)
    await stays.until("second process")
    assert b"first" not in stays.data()
    leaves.watch.close()
    assert not stays.watch.take(1 << 20)  # not before what it has in hand is acknowledged: numbers would be mixed up
    stays.watch.acknowledge_taken()
    await stays.until("first words")
    await stays.until_exited()
    assert [end.exit_code for end in stays.ends] == [3]
    stays.watch.acknowledge_taken()
    assert not kernel._processes.superseded
    kernel.remove_processes(["p"])


async def test_earlier_processes_whose_reader_went_are_bounded(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest is given up, which the journal says; the next reader gets the others."""
    monkeypatch.setattr(limits, "MAX_UNREAD_PREDECESSORS", 2)
    await run(kernel, "echo", "0")
    for number in range(1, 5):
        reader = Reader(kernel, ["p"], acknowledge=False)
        await until(lambda: not kernel.list_processes()[0].running, "its end")
        await run(kernel, "echo", str(number))
        reader.watch.close()
        assert len(kernel._processes.superseded) == min(number, 2)
    assert caplog.text.count("2 bytes that nobody has read are given up") == 2
    last = Reader(kernel, ["p"])
    await last.until_exited(3)
    assert last.data() == b"2\n3\n4\n"
