"""A fork server that was killed is started again, the start that finds it gone works, and Linux spares it as papad."""

import os
import select
import signal
from pathlib import Path

from tests.bus.client import Client
from tests.bus.daemon import Papad, hosted_pids
from tests.support import PATIENCE


def fork_server_of(papad: Papad) -> int:
    """Return the PID of the one fork server that papad has."""
    [pid] = [
        pid
        for pid in hosted_pids(papad.process.pid)
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"papa fork server\0")
    ]
    return pid


def kill(pid: int) -> None:
    """Kill a process, and wait until it has ended."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([pidfd], [], [], PATIENCE)[0]
    os.close(pidfd)


def score(pid: int) -> int:
    """Return what keeps Linux from ending a process when memory runs out."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_a_fork_server_that_was_killed_is_started_again(papad: Papad, client: Client) -> None:
    limits = set()
    for count in range(1, 4):
        await client.make_process(f"p{count}", "sh", "-c", "ulimit -n; ulimit -Hn")
        await client.watch(f"p{count}")
        await client.until("Exited", count)
        limits.add(client.output(f"p{count}"))
        kill(fork_server_of(papad))
    assert len(limits) == 1  # papad has raised its own since it started the first


async def test_linux_spares_the_fork_server_and_not_what_it_forks(papad: Papad, client: Client) -> None:
    Path(f"/proc/{papad.process.pid}/oom_score_adj").write_text("300")
    kill(await ready_fork_server(papad, client))
    made = await client.make_process("p", "sleep", "600")
    assert score(fork_server_of(papad)) == 300
    assert score(made["pid"]) == 0


async def ready_fork_server(papad: Papad, client: Client) -> int:
    """Return the PID of a fork server that has forked once."""
    await client.make_process("first", "true")
    return fork_server_of(papad)
