"""What is asked for once is done once, and what never ran is never listed, wherever papad is killed meanwhile."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Variant
from papa_dbus.errors import InvalidArgs, NoReply, NotFound, PapaError, Spawn
from tests.bus.client import Client
from tests.bus.isolated import SupervisedPapad
from tests.bus.lineclient import LineClient
from tests.support import PATIENCE, until

TOKEN = Variant("s", "job_of-1")
BEFORE_THE_GATE = [
    *("pipes created", "process noted", "process stored", "process forked", "pidfd kept", "process placed")
]
AFTER_THE_GATE = ["gate opened", "process runs"]


class Jobs:
    """Jobs that say their PID when they run, by a FIFO."""

    def __init__(self, folder: Path) -> None:
        self.fifo = folder / "ran"
        os.mkfifo(self.fifo)
        self._fd = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        self.command = ["sh", "-c", f"echo $$ >{self.fifo}"]

    def said(self) -> list[int]:
        """Return the PIDs of the jobs that have run since the last time."""
        with contextlib.suppress(BlockingIOError):
            return [int(line) for line in os.read(self._fd, 4096).splitlines()]
        return []

    async def next(self) -> int:
        """Wait for a job to run."""
        ready = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), PATIENCE)
        finally:
            asyncio.get_running_loop().remove_reader(self._fd)
        [pid] = self.said()
        return pid

    def close(self) -> None:
        """Close the FIFO."""
        os.close(self._fd)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Give jobs."""
    jobs = Jobs(tmp_path)
    yield jobs
    jobs.close()


def faulty(folder: Path, step: str) -> str:
    """Return PAPA_CRASH_POINT, by which papad kills itself at a step, once."""
    (folder / "fault").touch()
    return f"{step}:{folder / 'fault'}"


async def ended(client: Client, pid: int) -> dict[str, Any]:
    """Wait until the process of the token has ended; returns what papad says of it."""
    async with asyncio.timeout(PATIENCE):
        while (said := await ask(client)) and said["running"]:
            assert said["pid"] == pid
    return said


async def ask(client: Client, name: str = "job", command: tuple[str, ...] = ("true",)) -> dict[str, Any]:
    """Ask again; what was acknowledged meanwhile is left out of the answer."""
    said = await client.make_process(name, *command, token=TOKEN)
    del said["acknowledged"]
    return said


@pytest.mark.parametrize("step", BEFORE_THE_GATE + AFTER_THE_GATE)
async def test_03_a_job_runs_once_wherever_papad_is_killed(
    supervised: SupervisedPapad, caller: Client, jobs: Jobs, tmp_path: Path, step: str
) -> None:
    """Asked again with its token, papad gives the job that ran, or runs it if it never did."""
    supervised.start(PAPA_CRASH_POINT=faulty(tmp_path, step))
    with pytest.raises(NoReply):
        await caller.make_process("job", *jobs.command, token=TOKEN)
    supervised.wait_until_dead()
    supervised.start()
    if step in BEFORE_THE_GATE:
        assert await caller.call("ListProcesses", "as", []) == {}
    made = await caller.make_process("job", *jobs.command, token=TOKEN)
    assert await jobs.next() == made["pid"]
    assert (await ended(caller, made["pid"]))["pid"] == made["pid"]
    supervised.kill()
    supervised.start()
    assert (await caller.make_process("job", *jobs.command, token=TOKEN))["pid"] == made["pid"]
    assert jobs.said() == []


@pytest.mark.parametrize("step", BEFORE_THE_GATE)
async def test_28_a_process_that_never_ran_is_not_listed(
    supervised: SupervisedPapad, caller: Client, jobs: Jobs, tmp_path: Path, step: str
) -> None:
    """A papad that was killed before the gate was opened leaves nothing behind, not even a descriptor."""
    supervised.start(PAPA_CRASH_POINT=faulty(tmp_path, step))
    with pytest.raises(NoReply):
        await caller.make_process("job", *jobs.command)
    supervised.wait_until_dead()
    supervised.start()
    await nothing_is_left(supervised, caller)
    assert jobs.said() == []


async def nothing_is_left(papad: SupervisedPapad, client: Client) -> None:
    async with asyncio.timeout(PATIENCE):
        while await client.call("ListProcesses", "as", []):  # while its child has not said it yet
            await asyncio.sleep(0)
        with pytest.raises(Spawn):  # behind whatever waits for the name
            await client.make_process("job", "/nowhere")
    assert await client.call("ListProcesses", "as", []) == {}
    await until(lambda: not papad.kept, lambda: f"end of {papad.kept}")


@pytest.mark.parametrize("step", ["gate opened", "process's row removed"])
async def test_28_a_program_that_cannot_be_executed_is_not_listed(
    supervised: SupervisedPapad, caller: Client, tmp_path: Path, step: str
) -> None:
    """Its child says so whether papad is there to hear it or not, and the next papad hears it as well."""
    supervised.start(PAPA_CRASH_POINT=faulty(tmp_path, step))
    with pytest.raises(NoReply):
        await caller.make_process("job", "/nowhere", token=TOKEN)
    supervised.wait_until_dead()
    supervised.start()
    with pytest.raises(Spawn, match="cannot execute /nowhere: No such file"):
        await caller.make_process("job", "/nowhere", token=TOKEN)
    await nothing_is_left(supervised, caller)


async def test_28_a_child_that_has_not_come_to_its_gate_is_waited_for(
    supervised: SupervisedPapad, caller: Client, jobs: Jobs, tmp_path: Path
) -> None:
    """The next papad holds its name until it is known whether it runs: here a child that was stopped at its gate."""
    supervised.start(PAPA_CRASH_POINT=faulty(tmp_path, "process placed"), PYTHONPATH=holding_children(tmp_path))
    with pytest.raises(NoReply):
        await caller.make_process("job", *jobs.command, token=TOKEN)
    supervised.wait_until_dead()
    pid = int((tmp_path / "held").read_text())
    supervised.start()
    again = asyncio.ensure_future(caller.make_process("job", *jobs.command, token=TOKEN))
    assert await caller.call("ListProcesses", "as", []) == {}
    with pytest.raises(InvalidArgs, match="'job_of-1' was used for process 'job'"):
        await ask(caller, "another")
    assert not again.done()
    os.kill(pid, signal.SIGCONT)
    made = await again
    assert made["pid"] != pid
    assert await jobs.next() == made["pid"]
    await ended(caller, made["pid"])
    assert jobs.said() == []


def holding_children(folder: Path) -> str:
    """Return the PYTHONPATH of a papad that stops each child which it forks, and notes its PID."""
    (folder / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from papa_dbus.service.process import start as processes\n"
        "class Child(processes.PendingChild):\n"
        "    def __init__(self, *arguments):\n"
        "        super().__init__(*arguments)\n"
        "        os.kill(self.pid, signal.SIGSTOP)\n"
        "        os.waitid(os.P_PID, self.pid, os.WSTOPPED)\n"
        f"        open({str(folder / 'held')!r}, 'w').write(str(self.pid))\n"
        "processes.PendingChild = Child\n"
    )
    return str(folder)


@pytest.mark.root
@pytest.mark.parametrize("step", ["gate opened", "process runs"])
async def test_28_a_home_that_is_not_there_is_known_to_the_next_papad(
    supervised: SupervisedPapad, caller: Client, tmp_path: Path, step: str
) -> None:
    """The child says that it runs in / before it executes its program, and that is stored before it is forgotten."""
    supervised.start(PAPA_CRASH_POINT=faulty(tmp_path, step))
    with pytest.raises(NoReply):
        await caller.make_process("job", "true", uid=Variant("v", Variant("s", "nobody")), token=TOKEN)
    supervised.wait_until_dead()
    for _ in range(2):
        supervised.start()
        assert (await ask(caller))["working_dir"] == "/"
        supervised.kill()


async def test_03_a_token_is_answered_whatever_has_become_of_the_process(
    supervised: SupervisedPapad, caller: Client, jobs: Jobs
) -> None:
    """It has ended, was acknowledged, removed, replaced, and papad was reloaded and killed in between."""
    supervised.start()
    first = await caller.make_process("job", *jobs.command, token=TOKEN)
    assert await jobs.next() == first["pid"]
    said = await ended(caller, first["pid"])
    assert (said["state"], said["exit_known"], said["exit_code"]) == ("exited", True, 0)
    await caller.call("RemoveProcesses", "as", ["job"])
    assert await caller.call("ListProcesses", "as", []) == {}
    assert await ask(caller) == said
    supervised.reload()
    assert await ask(caller) == said
    namesake = await caller.make_process("job", "sleep", "600", token=Variant("s", "other"))
    assert namesake["pid"] != first["pid"]
    supervised.kill()
    supervised.start()
    assert (await ask(caller))["pid"] == first["pid"]
    assert (await caller.make_process("job", "sleep", "600"))["pid"] == namesake["pid"]
    os.kill(namesake["pid"], signal.SIGKILL)
    assert jobs.said() == []


async def test_03_two_tokens_may_name_one_process(supervised: SupervisedPapad, caller: Client) -> None:
    """Whoever asked for a process that ran gets it again after it has ended, as its maker does."""
    supervised.start()
    made = await caller.make_process("job", "sleep", "600")
    asked = await ask(caller, command=("sleep", "600"))
    assert asked["pid"] == made["pid"]
    os.kill(made["pid"], signal.SIGKILL)
    said = await ended(caller, made["pid"])
    assert (said["state"], said["exit_code"]) == ("killed", -signal.SIGKILL)
    await caller.call("RemoveProcesses", "as", ["job"])
    supervised.kill()
    supervised.start()
    assert await ask(caller, command=("sleep", "600")) == said


@pytest.mark.parametrize("step", ["process's row removed", "process forgotten"])
async def test_03_the_last_words_of_a_process_that_goes_are_stored_as_it_goes(
    supervised: SupervisedPapad, caller: Client, jobs: Jobs, tmp_path: Path, step: str
) -> None:
    supervised.start(PAPA_CRASH_POINT=faulty(tmp_path, step))
    made = await caller.make_process("job", *jobs.command, token=TOKEN)
    assert await jobs.next() == made["pid"]
    await ended(caller, made["pid"])
    with pytest.raises(NoReply):
        await caller.call("RemoveProcesses", "as", ["job"])
    supervised.wait_until_dead()
    supervised.start()
    assert await caller.call("ListProcesses", "as", []) == {}
    assert (await ask(caller))["pid"] == made["pid"]
    assert jobs.said() == []


@pytest.mark.parametrize("step", ["socket kept", "socket stored", "socket's row removed", "socket removed"])
async def test_03_a_socket_is_the_one_of_its_token(
    supervised: SupervisedPapad, caller: Client, tmp_path: Path, step: str
) -> None:
    """Killed while it is made, papad gives what it made; killed while it is removed, what it was."""
    supervised.start(PAPA_CRASH_POINT=faulty(tmp_path, step))
    options = {"token": TOKEN}
    made = None
    with contextlib.suppress(NoReply):
        made = await caller.call("MakeSocket", "sa{sv}", "web", options)
    if made is not None:
        with pytest.raises(NoReply):
            await caller.call("RemoveSockets", "as", ["web"])
    supervised.wait_until_dead()
    supervised.start()
    again = await caller.call("MakeSocket", "sa{sv}", "web", options)
    assert made is None or again["port"] == made["port"]
    listed = await caller.call("ListSockets", "as", [])
    assert set(listed) == (set() if made is not None else {"web"})
    assert await caller.call("MakeSocket", "sa{sv}", "web", options) == again
    with pytest.raises(InvalidArgs, match="was used for socket 'web'"):
        await caller.call("MakeSocket", "sa{sv}", "other", options)


async def test_03_the_line_protocol_takes_a_token(supervised: SupervisedPapad, caller: Client) -> None:
    supervised.start()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(supervised.socket))
    with LineClient(connection) as line:
        line.reply()
        first = line.ask("make process job token=job_of-1 true")
        said = await ended(caller, int(first.split("pid=")[1].split()[0]))
        line.ask("remove process job")
        assert f"pid={said['pid']} running=False" in line.ask("make process job token=job_of-1 true")
        assert "Error: option 'token': 'a:b' is not 1 to 64 letters" in line.try_("make socket s token=a:b")
        port = line.ask("make socket s token=t").split("port=")[1].split()[0]
        line.ask("remove socket s")
        assert f"port={port} " in line.ask("make socket s token=t")
        assert line.ask("list sockets") == ""


async def test_03_a_token_that_fails_may_be_used_again(supervised: SupervisedPapad, caller: Client) -> None:
    supervised.start()
    for _ in range(2):
        with pytest.raises(Spawn):
            await ask(caller, command=("/nowhere",))
    with pytest.raises(NotFound):
        await caller.call("OpenProcess", "s", "job")
    made = await ask(caller, "another")
    with pytest.raises(PapaError, match="was used for process 'another'"):
        await ask(caller)
    assert (await ask(caller, "another"))["pid"] == made["pid"]
