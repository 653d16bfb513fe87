"""Output pipes: whom a full log holds up, and whom it does not."""

import fcntl
from pathlib import Path

import pytest

from papa_dbus.service.kernel.kernel import Kernel
from tests.bus.scripted_child import ScriptedChild
from tests.support import Reader, alive, ended, run, until

pytestmark = pytest.mark.usefixtures("forked_by")


async def test_drop_never_holds_the_child_up(kernel: Kernel) -> None:
    await run(kernel, "sh", "-c", "head -c 3000000 /dev/zero; echo done >&2", bufsize=100_000)
    await ended(kernel)
    info = kernel.list_processes()[0]
    assert info.buffered <= 100_000
    assert info.buffered + info.dropped == 3_000_005
    reader = Reader(kernel, ["p"])
    await reader.until_exited()
    assert reader.dropped + len(reader.data()) == 3_000_005


async def test_a_child_that_fills_its_pipes_gets_larger_ones(kernel: Kernel) -> None:
    """One that prints a line does not: what a pipe holds is the machine's memory, too."""
    sizes = {}
    for name, script in {"line": "echo line", "flood": "head -c 100000 /dev/zero"}.items():
        await run(kernel, "sh", "-c", f"{script}; exec sleep 60", name=name)
        await Reader(kernel, [name], mode="observe").until("line" if name == "line" else "\0" * 100_000)
        sizes[name] = [fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) for pipe in kernel._processes.listed[name]._pipes.fds]
    assert sizes == {"line": [65536, 65536], "flood": [262144, 262144]}


async def test_block_loses_nothing_while_a_consumer_is_there(kernel: Kernel, gate: Path) -> None:
    script = f"read x < {gate}; seq 1 400000"
    info = await run(kernel, "sh", "-c", script, bufsize=100_000, overflow="block", name="p", stderr="stdout")
    reader = Reader(kernel, ["p"], acknowledge=False)
    gate.write_text("go\n")
    await reader.until("1\n")
    await until(lambda: kernel.list_processes()[0].buffered >= 90_000, "a full log")
    assert alive(info.pid)
    reader._acknowledge = True
    reader.watch.acknowledge_taken()
    await reader.until_exited()
    assert reader.data() == b"".join(b"%d\n" % n for n in range(1, 400_001))
    assert reader.dropped == 0


async def test_block_holds_a_child_whose_many_records_would_be_dropped(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("papa_dbus.service.limits.MAX_RECORDS", 20)
    scripted_child = ScriptedChild(tmp_path)
    await run(kernel, *scripted_child.command, overflow="block")
    reader = Reader(kernel, ["p"], acknowledge=False)
    for number in range(20):
        scripted_child.say(str(number))
        await reader.until(f"{number}\n")  # each is a record of its own
    scripted_child.say(*(str(number) for number in range(20, 60)))
    scripted_child.end()
    await ended(kernel)
    reader._acknowledge = True
    reader.watch.acknowledge_taken()
    await reader.until_exited()
    assert reader.data() == b"".join(b"%d\n" % n for n in range(60))
    assert reader.dropped == 0


async def test_block_without_a_consumer_drops(kernel: Kernel) -> None:
    await run(kernel, "sh", "-c", "seq 1 400000", bufsize=100_000, overflow="block")
    await ended(kernel)
    assert kernel.list_processes()[0].dropped > 0


async def test_block_goes_on_when_the_consumer_leaves(kernel: Kernel, gate: Path) -> None:
    await run(kernel, "sh", "-c", f"read x < {gate}; seq 1 400000", bufsize=100_000, overflow="block")
    reader = Reader(kernel, ["p"], acknowledge=False)
    gate.write_text("go\n")
    await reader.until("1\n")
    reader.watch.close()
    await ended(kernel)


async def test_block_shows_the_end_of_a_child_whose_last_output_waits(kernel: Kernel, gate: Path) -> None:
    script = f"read x < {gate}; head -c 150000 /dev/zero; exit 5"
    await run(kernel, "sh", "-c", script, bufsize=100_000, overflow="block")
    reader = Reader(kernel, ["p"], acknowledge=False)
    gate.write_text("go\n")
    await ended(kernel)
    assert not reader.ends
    reader._acknowledge = True
    reader.watch.acknowledge_taken()
    await reader.until_exited()
    assert len(reader.data()) == 150_000
    assert reader.ends[0].exit_code == 5
