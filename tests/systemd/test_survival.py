"""papad dies and nothing is lost: killed at every named step, killed and restarted and reloaded at random, upgraded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.service.items.store_file import VERSION
from tests.guard import sitecustomize as guard
from tests.systemd.container import PROJECT, Container
from tests.systemd.test_serving import PYTHON, call, watch

HERE = Path(__file__).parent
TOKEN = "/run/papa-crash-point"

STEPS = (
    "pipes created",
    "process noted",
    "process stored",
    "process forked",
    "pidfd kept",
    "process placed",
    "process runs",
    "record announced",
    "record spliced",
    "end announced",
    "acknowledged",
    "process removed",
    "process's row removed",
    "process forgotten",
    "socket kept",
    "socket stored",
    "socket's row removed",
    "socket removed",
)


@pytest.fixture
def papa(machine: Container) -> Iterator[Container]:
    """Give the container with the kernel running and the tests' programs in /root."""
    for program in ("chaos.py", "scenario.py"):
        machine.copy_in(HERE / program, f"/root/{program}")
    machine.run("systemctl start papa")
    yield machine
    machine.run(f"systemctl unset-environment PAPA_CRASH_POINT PAPA_WITHOUT_PIDFD_INFO; rm -f {TOKEN}")
    machine.run("systemctl stop papa.service papa.slice")


def nothing_is_left(container: Container) -> None:
    """No scope, and no descriptor in systemd's store."""
    show = "systemctl show --property=NFileDescriptorStore --value papa"
    units = "systemctl list-units --all --plain --no-legend 'papa-*.scope'"
    container.wait_until(f'left="$({show})$({units})"; echo "$left"; [ "$left" = 0 ]')


def run(container: Container, program: str, *arguments: object, timeout: float = 60) -> Any:
    return json.loads(container.run([PYTHON, f"/root/{program}", *map(str, arguments)], timeout=timeout).stdout)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(papa: Container, step: str) -> None:
    """Whatever papad was doing: the client asks again, and everything is there once, and nothing is left over."""
    marker = f"/tmp/ran-{STEPS.index(step)}"
    papa.run(["systemctl", "set-environment", f"PAPA_CRASH_POINT={step}:{TOKEN}"])
    papa.run("systemctl restart papa")
    papa.run(f"touch {TOKEN}")
    seen = run(papa, "scenario.py", marker)
    assert papa.run(f"test -e {TOKEN}", check=False).returncode == 1, "the step was reached"
    assert seen["records"] == [["out", "one\n"], ["err", "two\n"], ["out", "three\n"]]
    assert seen["exited"] == [5, True]
    assert (seen["ran"], seen["same port"], seen["value"], seen["left"]) == (1, True, "kept", [])
    nothing_is_left(papa)


@pytest.fixture
def guarded(papa: Container) -> Iterator[Container]:
    """Give the container with a papad whose loop may not be held (tests/guard)."""
    held = "/run/papa-guard"
    papa.copy_in(Path(guard.__file__), "/root/guard/sitecustomize.py")
    papa.run(f"systemctl set-environment PYTHONPATH=/root/guard {guard.FILE}={held}; : >{held}; systemctl restart papa")
    papa.wait_until("ls -l /proc/$(systemctl show --property=MainPID --value papa)/fd | grep /schedstat")  # it has it
    try:
        yield papa
    finally:
        papa.run(f"systemctl unset-environment PYTHONPATH {guard.FILE}")
    assert papa.run(["cat", held]).stdout == ""


def test_chaos(guarded: Container, record_property: Any) -> None:
    """Fifty processes, ten sockets, fifty kills, ten restarts, ten reloads. The figures stand in the documentation."""
    papa = guarded
    seen = run(papa, "chaos.py", 50, 600, 50, 10, 10, timeout=200)
    print(f"\nchaos, 50 kills, 10 restarts, 10 reloads: {seen}")  # noqa: T201 (the figures)
    record_property("chaos", seen)
    assert seen["wrong"] == []
    for count in ("streams wrong", "dropped", "processes left", "refused", "wrong values"):
        assert seen[count] == 0, seen
    assert seen["wrong exit codes"] == []
    assert seen["server lives"]
    assert seen["lines"] == 63_600
    assert seen["watchers complain"] == []
    assert seen["connections"] > 500
    assert seen["watchers killed"] > 10
    assert seen["by socket"] > 0.9 * seen["pieces"]
    nothing_is_left(papa)


def test_an_exit_code_that_an_older_linux_cannot_tell(papa: Container) -> None:
    """Without PIDFD_GET_INFO (Linux 6.15) a process that ends while papad is away has ended with an unknown code."""
    papa.run("systemctl set-environment PAPA_WITHOUT_PIDFD_INFO=1 && systemctl restart papa")
    call(papa, "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", "sleep 600; exit 3", "0")
    papa.run("systemctl restart papa")
    papa.run("systemctl kill --signal=KILL papa-p.scope")
    listed = "busctl call org.papa.Kernel /org/papa/Kernel org.papa.Kernel ListProcesses as 0"
    said = papa.wait_until(f"{listed} | grep 'running. b false'")
    assert "exit_code" not in said


def test_reload_keeps_the_pid_and_every_exit_code(papa: Container) -> None:
    papa.run("systemctl set-environment PAPA_WITHOUT_PIDFD_INFO=1 && systemctl restart papa")
    before = papa.run("systemctl show --property=MainPID --value papa").stdout
    papa.run("rm -f /root/fifo && mkfifo /root/fifo")
    call(papa, "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", "read x < /root/fifo; exit 3", "0")
    cursor = papa.journal_cursor()
    papa.run("systemctl reload papa")
    papa.wait_for_journal("is ready", cursor)
    assert papa.run("systemctl show --property=MainPID --value papa").stdout == before
    papa.run("echo > /root/fifo")
    listed = "busctl call org.papa.Kernel /org/papa/Kernel org.papa.Kernel ListProcesses as 0"
    papa.wait_until(f"{listed} | grep 'exit_code. i 3'")


def test_reload_does_not_take_a_reused_number_for_the_old_descriptor(papa: Container) -> None:
    """Processes that have ended have closed pipes, whose numbers those that are made later get."""
    for n in range(6):
        call(papa, "MakeProcess", "sasa{sv}", f"p{n}", "2", "echo", f"output-of-{n}", "0")
        listed = f"busctl call org.papa.Kernel /org/papa/Kernel org.papa.Kernel ListProcesses as 1 p{n}"
        papa.wait_until(f"{listed} | grep 'running. b false'")
    cursor = papa.journal_cursor()
    papa.run("systemctl reload papa")
    papa.wait_for_journal("is ready", cursor)
    for n in range(6):
        records = [record for member, body in watch(papa, f"p{n}") if member == "Output" for record in body[2]]
        assert [record[3] for record in records] == [f"output-of-{n}\n"]


def test_a_store_that_is_too_new_is_refused_and_left_as_it_is(papa: Container) -> None:
    call(papa, "SetValue", "ss", "v", "1")
    papa.run("systemctl kill --signal=STOP --kill-who=main papa")
    script = "import sqlite3; sqlite3.connect('/run/papa/state.sqlite').execute('PRAGMA user_version = 999')"
    papa.run(["python3", "-c", script])
    cursor = papa.journal_cursor()
    papa.run("systemctl kill --signal=KILL --kill-who=main papa")
    papa.wait_for_journal(f"was written by a newer papad (layout 999, this one knows {VERSION})", cursor)
    papa.run(["python3", "-c", script.replace("999", str(VERSION))])
    papa.run("systemctl restart papa")
    assert call(papa, "GetValue", "s", "v") == 's "1"\n'


def test_more_descriptors_than_a_program_may_usually_open(papa: Container) -> None:
    """250 processes have 1,250 kept descriptors, and systemd must be able to start papad with them."""
    papa.copy_in(PROJECT / "benchmarks/restart.py", "/root/restart.py")
    table = papa.run([PYTHON, "/root/restart.py", "--rounds", "1", "10", "250"], timeout=120).stdout.splitlines()
    assert table[0].split()[:4] == ["processes", "restart", "reload", "kill"]
    assert [line.split()[0] for line in table[1:]] == ["10", "250"]
    nothing_is_left(papa)
