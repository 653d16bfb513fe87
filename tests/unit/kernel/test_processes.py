"""Processes by name: one of each, whatever is asked at the same time; a PID is a running process's."""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from papa_dbus.errors import Exists, InvalidArgs, NotFound, Spawn
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.items.specs import ProcessSpec, WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.events import Exited
from tests.support import Reader, children, ended, run, turns

pytestmark = pytest.mark.usefixtures("forked_by")


async def test_the_same_request_gives_the_running_process(kernel: Kernel) -> None:
    first = await run(kernel, "sleep", "60")
    assert (await run(kernel, "sleep", "60")).pid == first.pid
    with pytest.raises(Exists, match="process 'p' already runs .* differs in .*; end it first"):
        await run(kernel, "sleep", "61")
    with pytest.raises(Exists, match="process 'p' already runs .* differs in .*; end it first"):
        await run(kernel, "sleep", "60", umask=0)


async def test_requests_at_the_same_time_make_one_process(kernel: Kernel) -> None:
    made = await asyncio.gather(*(run(kernel, "sleep", "60") for _ in range(20)))
    assert len({info.pid for info in made}) == 1
    assert len(children()) == 1


async def test_one_users_many_requests_do_not_delay_anothers_one(kernel: Kernel) -> None:
    forked: list[str] = []  # when each has executed its program is Linux's affair

    async def note(pid: int, name: str, resources: Mapping[str, int]) -> None:
        forked.append(name)

    async def make(uid: int, name: str) -> None:
        with acting(Caller(uid, None, "")):
            await run(kernel, "true", name=name)

    kernel.assign_scope = note

    many = [asyncio.ensure_future(make(1000, f"many.{n}")) for n in range(30)]
    await turns(3)
    await asyncio.gather(make(0, "one"), *many)
    assert forked.index("one") < 15, forked


async def test_a_failed_start_lets_the_next_in_line_try(kernel: Kernel) -> None:
    results = await asyncio.gather(
        run(kernel, "/nope"), run(kernel, "/nope"), run(kernel, "sleep", "60"), return_exceptions=True
    )
    assert [type(result).__name__ for result in results] == ["Spawn", "Spawn", "ProcessInfo"]


async def test_defect_20_an_ended_process_is_never_returned_as_a_success(kernel: Kernel) -> None:
    """However soon after its end it is asked for again: twenty times killed, twenty times a new PID."""
    seen = set()
    for _ in range(20):
        info = await run(kernel, "sleep", "60")
        assert info.pid not in seen
        seen.add(info.pid)
        os.kill(info.pid, signal.SIGKILL)
        os.waitid(os.P_PID, info.pid, os.WEXITED | os.WNOWAIT)


async def test_an_ended_process_with_unread_output_keeps_its_name(kernel: Kernel) -> None:
    await run(kernel, "echo", "unread")
    await ended(kernel)
    with pytest.raises(Exists, match=r"process 'p' has ended, and 7 bytes of its output are unread"):
        await run(kernel, "echo", "unread")
    kernel.remove_processes(["p"])
    assert kernel.process_count == 0
    await run(kernel, "echo", "unread")


async def test_a_failed_successor_leaves_the_old_one_as_it_was(kernel: Kernel) -> None:
    await run(kernel, "true")
    await ended(kernel)
    with pytest.raises(Spawn):
        await run(kernel, "/nope")
    assert kernel.list_processes()[0].exit_code == 0


async def test_a_removed_process_that_is_asked_for_again_is_heard_again(kernel: Kernel) -> None:
    command = ["sh", "-c", "echo one; read x < $0; echo two; sleep 60"]
    fifo = f"/tmp/papa-test-{os.getpid()}"
    os.mkfifo(fifo)
    try:
        first = await run(kernel, *command, fifo)
        await Reader(kernel, ["p"], acknowledge=False).until("one")
        kernel.remove_processes(["p"])
        assert (await run(kernel, *command, fifo)).pid == first.pid
        reader = Reader(kernel, ["p"])
        Path(fifo).write_text("go\n")
        await reader.until("two")
    finally:
        Path(fifo).unlink()


async def test_listing_and_removing_by_pid(kernel: Kernel) -> None:
    info = await run(kernel, "sleep", "60")
    await run(kernel, "sleep", "60", name="other")
    assert [found.name for found in kernel.list_processes([str(info.pid)])] == ["p"]
    assert kernel.remove_processes([str(info.pid)]) == ["p"]
    with pytest.raises(NotFound, match="process '1' is not there"):
        kernel.remove_processes(["1"])


async def test_a_pidfd_for_a_client(kernel: Kernel) -> None:
    await run(kernel, "sleep", "60")
    fd = kernel.open_process("p")
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)
    await ended(kernel)
    with pytest.raises(NotFound, match="has ended"):
        kernel.open_process("p")


async def test_an_empty_list_removes_nothing(kernel: Kernel) -> None:
    await run(kernel, "sleep", "60")
    with pytest.raises(InvalidArgs, match="name at least one process"):
        kernel.remove_processes([])
    assert kernel.process_count == 1


async def test_the_spec_is_compared_as_a_whole(kernel: Kernel) -> None:
    spec = ProcessSpec("p", ("sleep", "60"), env={"A": "1"}, rlimits={"core": 0})
    first = await kernel.make_process(spec)
    again = ProcessSpec("p", ("sleep", "60"), env={"A": "1"}, rlimits={"core": 0})
    assert (await kernel.make_process(again)).pid == first.pid


async def test_an_end_that_is_acknowledged_at_once_leaves_the_list(kernel: Kernel) -> None:
    """Before the loop has come to the pipes, whose end is there with the process's."""
    info = await run(kernel, "/bin/sh", "-c", "echo x >&2; exec sleep 600")
    watch = kernel.watch(["p"], WatchSpec(), lambda: None)
    process = kernel._processes.listed["p"]
    os.kill(info.pid, signal.SIGKILL)
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)  # the loop has no turn
    process.poll()
    assert isinstance(watch.take(1 << 20)[-1], Exited)
    watch.acknowledge_taken()
    assert kernel.list_processes() == []


async def test_15_a_pid_is_that_of_the_process_that_had_it_last(kernel: Kernel) -> None:
    """A process that has ended is listed until its output is read; Linux may have given its PID to another by then."""
    old = await run(kernel, "sh", "-c", "echo unread", name="old")
    observer = Reader(kernel, ["old"], acknowledge=False, mode="observe")
    await observer.until_exited()
    assert [info.name for info in kernel.list_processes([str(old.pid)])] == ["old"]
    await run(kernel, "sleep", "60", name="new")
    new = kernel._processes.listed["new"]
    kernel._processes._by_pid[old.pid] = new  # as if it had got that number
    assert [info.name for info in kernel.list_processes([str(old.pid)])] == ["new"]
    kernel.remove_processes(["old"])
    assert [info.name for info in kernel.list_processes([str(old.pid)])] == ["new"]
    del kernel._processes._by_pid[old.pid]
    reader = Reader(kernel, ["new"])
    os.kill(new.pid, signal.SIGKILL)
    await reader.until_exited()
    assert kernel.list_processes() == []
    assert kernel._processes._by_pid == {}
