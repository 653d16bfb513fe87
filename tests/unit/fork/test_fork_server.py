"""The fork server: what it leaves behind, and what happens where it cannot do it."""

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.errors import Spawn
from papa_dbus.service.fork import fork as fork_fork
from papa_dbus.service.fork.child import ExecPlan
from papa_dbus.service.fork.errand import Errand
from papa_dbus.service.fork.fork import ForkServer, fork_here
from papa_dbus.service.fork.fork_server import MAX_DESCRIPTORS, MAX_MESSAGE
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import PATIENCE, alive, children, output_of, run, until, wait_until


@pytest.fixture
def fork_server(kernel: Kernel) -> Iterator[ForkServer]:
    """Give the kernel's fork server."""
    fork_server = ForkServer()
    kernel.fork = fork_server.fork
    yield fork_server
    fork_server.close()


def pid_of(fork_server: ForkServer) -> int:
    assert fork_server._process is not None
    return fork_server._process.pid


async def test_what_it_forks_is_ours(kernel: Kernel, fork_server: ForkServer) -> None:
    info = await run(kernel, "sh", "-c", "exit 7")
    assert info.pid in children() - {pid_of(fork_server)}
    await until(lambda: kernel.list_processes()[0].exit_code is not None, "the end of the process")
    assert kernel.list_processes()[0].exit_code == 7


async def test_it_keeps_nothing(kernel: Kernel, fork_server: ForkServer) -> None:
    await output_of(kernel, "echo")
    before = sorted(os.listdir(f"/proc/{pid_of(fork_server)}/fd"))
    for n in range(20):
        await output_of(kernel, "echo", name=f"p{n}")
    with pytest.raises(Spawn):
        await run(kernel, "/nowhere")
    assert sorted(os.listdir(f"/proc/{pid_of(fork_server)}/fd")) == before
    assert Path(f"/proc/{pid_of(fork_server)}/cmdline").read_bytes().startswith(b"papa fork server\0")


async def test_the_numbers_of_its_children_may_be_its_own(kernel: Kernel, fork_server: ForkServer) -> None:
    """It puts their descriptors in their places before it forks, and goes on with its own afterwards."""
    names = [f"s{n}" for n in range(60)]
    for name in names:
        await kernel.make_socket(SocketSpec(name, port=0))
    count = (
        'import os, socket; last = max(map(int, os.listdir("/proc/self/fd")));'
        " print([socket.socket(fileno=fd).getsockname()[1] for fd in range(3, 63)], last)"
    )
    ports = [kernel.list_sockets([name])[0].port for name in names]
    for name in ("first", "second"):
        said = await output_of(kernel, sys.executable, "-c", count, name=name, sockets=tuple(names))
        assert said == f"{ports} 63\n"  # and 63 is that of the listing itself
    assert await output_of(kernel, "echo", "small") == "small\n"
    assert alive(pid_of(fork_server))


async def test_a_child_at_its_gate_holds_nothing_of_others(kernel: Kernel, fork_server: ForkServer) -> None:
    seen: list[int] = []

    async def fork(work: ExecPlan | Errand, gate: int, status: int) -> int:
        """The fork server's, and a look at the child once it has let go of the fork server's socket."""
        pid = await fork_server.fork(work, gate, status)

        def few() -> bool:
            count = len(os.listdir(f"/proc/{pid}/fd"))
            if count <= 5:
                seen.append(count)  # here, since a child that goes on opens what it needs and closes it again
            return count <= 5

        await until(few, f"few descriptors of {pid}")
        return pid

    kernel.fork = fork
    await output_of(kernel, "echo")
    await output_of(kernel, "echo", name="second")
    assert seen == [5, 5]  # its three, its gate and its status


async def test_a_number_that_is_far_up_is_not_kept(kernel: Kernel, fork_server: ForkServer) -> None:
    await kernel.make_socket(SocketSpec("s", port=0))
    hosted = kernel._sockets.hosted["s"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # as papad does
    far = fcntl.fcntl(hosted.fileno, fcntl.F_DUPFD_CLOEXEC, 5000)
    with hosted._sock:  # as where papad has that many open
        hosted._sock = socket.socket(fileno=far)
    said = await output_of(kernel, "echo", "$(socket.s.fileno)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert said == f"{far}\n"
    assert max(map(int, os.listdir(f"/proc/{pid_of(fork_server)}/fd"))) < 1024
    assert await output_of(kernel, "echo", "again", name="again") == "again\n"


async def test_what_it_has_no_room_for_is_an_error_and_it_goes_on(kernel: Kernel, fork_server: ForkServer) -> None:
    assert await output_of(kernel, "echo", "before") == "before\n"
    names = tuple(f"s{n}" for n in range(40))
    for name in names:
        await kernel.make_socket(SocketSpec(name, port=0))
    _, hard = resource.prlimit(pid_of(fork_server), resource.RLIMIT_NOFILE)
    resource.prlimit(pid_of(fork_server), resource.RLIMIT_NOFILE, (30, hard))
    with pytest.raises(Spawn, match=r"process 'many': cannot fork: .* \(E\w+\)"):
        await run(kernel, "true", name="many", sockets=names)
    assert await output_of(kernel, "echo", "after", name="after") == "after\n"
    assert alive(pid_of(fork_server))
    assert children() == {pid_of(fork_server)}


async def test_where_a_child_of_papads_own_has_no_room_there_is_no_second_papad(kernel: Kernel) -> None:
    async def fork(work: ExecPlan | Errand, gate: int, status: int) -> int:
        """fork_here, with two descriptors left: papad needs one more for the process, the child five."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        filling = []
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(status))
        for _ in range(2):
            os.close(filling.pop())
        try:
            return await fork_here(work, gate, status)
        finally:
            for fd in filling:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    kernel.fork = fork
    with pytest.raises(Spawn, match="process 'p': cannot start: Too many open files"):
        await run(kernel, "true")
    assert not kernel.list_processes()
    assert not children()


async def test_what_is_too_much_for_it_papad_does(kernel: Kernel, fork_server: ForkServer) -> None:
    names = [f"s{n}" for n in range(MAX_DESCRIPTORS)]
    for name in names:
        await kernel.make_socket(SocketSpec(name, port=0))
    count = 'import os; print(os.environ["LISTEN_FDS"], len(os.environ["BIG"]), os.getppid())'
    big = {"BIG": "x" * 100_000, "BIG2": "x" * (MAX_MESSAGE - 100_000)}
    said = await output_of(kernel, sys.executable, "-c", count, sockets=tuple(names), env=big)
    assert said.split() == [str(MAX_DESCRIPTORS), "100000", str(os.getpid())]
    assert alive(pid_of(fork_server))


async def test_where_it_does_not_answer_nothing_is_left_and_there_is_a_new_one(
    kernel: Kernel, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await output_of(kernel, "echo", "one", name="one") == "one\n"
    stopped = pid_of(fork_server)
    os.kill(stopped, signal.SIGSTOP)
    with monkeypatch.context() as impatient:
        impatient.setattr(fork_fork, "_ANSWER_TIMEOUT", 0.1)
        with pytest.raises(Spawn, match=r"cannot fork: the fork server does not answer \(ETIMEDOUT\)"):
            await run(kernel, "true")
    assert not kernel.list_processes()
    assert await output_of(kernel, "echo", "two") == "two\n"
    assert pid_of(fork_server) != stopped
    await until(lambda: not alive(stopped), "the end of the one that was stopped")
    assert children() == {pid_of(fork_server)}


async def test_a_start_that_is_cancelled_while_it_is_slow_leaves_nothing(
    kernel: Kernel, fork_server: ForkServer
) -> None:
    assert await output_of(kernel, "echo", "one", name="one") == "one\n"
    os.kill(pid_of(fork_server), signal.SIGSTOP)
    start = asyncio.ensure_future(run(kernel, "true"))
    while not fork_server._turn._held:
        await asyncio.sleep(0)
    start.cancel()
    await asyncio.sleep(0)
    os.kill(pid_of(fork_server), signal.SIGCONT)
    await asyncio.wait([start], timeout=PATIENCE)
    assert start.cancelled()
    assert not kernel.list_processes()
    assert children() == {pid_of(fork_server)}
    assert await output_of(kernel, "echo", "two") == "two\n"


async def test_several_that_never_worked_are_the_last(
    kernel: Kernel, fork_server: ForkServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    os.kill(pid_of(fork_server), signal.SIGKILL)
    os.waitid(os.P_PID, pid_of(fork_server), os.WEXITED | os.WNOWAIT)
    with caplog.at_level(logging.WARNING):
        for n in range(2):  # one that has been sent its request may have forked: then nobody else may
            with contextlib.suppress(Spawn):
                await run(kernel, "true", name=f"try{n}")
        assert await output_of(kernel, "echo", "one") == "one\n"
        assert await output_of(kernel, "echo", "two", name="two") == "two\n"
    said = [record.message for record in caplog.records if "fork server" in record.message]
    assert said[-1] == "the fork server is given up (it has ended): papad forks for itself now, which takes longer"
    assert len(said) == 3


CLONE3_FAILS = """
import ctypes, struct
libc = ctypes.CDLL(None)
# seccomp(2): load the number of the system call; clone3 fails; all else is allowed.
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 435), (0x06, 0, 0, 0x00050000 | ERROR), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
header = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(program)))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, header, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

import asyncio
from papa_dbus.errors import Spawn
from papa_dbus.service.fork.fork import ForkServer
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.items.specs import ProcessSpec
async def main():
    kernel = Kernel()
    server = ForkServer()
    kernel.fork = server.fork
    try:
        print((await kernel.make_process(ProcessSpec("a", ("true",)))).running)
    except Spawn as error:
        print(error, kernel.process_count)
    server.close()
asyncio.run(main())
"""


def with_clone3_failing(code: int) -> tuple[str, str]:
    script = CLONE3_FAILS.replace("ERROR", str(code))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


def test_where_linux_lets_it_fork_nothing_more() -> None:
    said = with_clone3_failing(errno.EAGAIN)
    assert said == ("process 'a': cannot fork: Resource temporarily unavailable (EAGAIN) 0\n", "")


def test_where_linux_has_no_clone3_papad_forks() -> None:
    said, complained = with_clone3_failing(errno.ENOSYS)
    assert said == "True\n"
    assert "the fork server is given up (Linux has no clone3(2))" in complained


def test_it_ends_with_papad() -> None:
    script = """
import json, os, signal
from papa_dbus.service.fork.fork import ForkServer
print(json.dumps(ForkServer()._process.pid), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    wait_until(lambda: not alive(json.loads(done.stdout)), "the fork server's end")
