"""The limits of a process's scope: refused where systemd has no controller for them, and real where it has."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.systemd.container import Container, old_hierarchy
from tests.systemd.machines import as_after_boot, installed
from tests.systemd.test_serving import KERNEL, call, watch
from tests.systemd.test_survival import nothing_is_left

#: What is asked for: papactl's option, and the controller that Linux needs for it.
ASKED = {
    "memory_max": ("--memory-max=64m", "memory"),
    "cpu_quota": ("--cpu-quota=50%", "cpu"),
    "tasks_max": ("--tasks-max=5", "pids"),
}


@pytest.fixture(scope="module", params=("bookworm", "trixie"))
def limiting(request: pytest.FixtureRequest) -> Iterator[Container]:
    """Give a container whose systemd has the controllers: those of version 1, where this machine has them there."""
    container = installed(
        request.param, Container.use_old_controllers if old_hierarchy("memory") else lambda container: None
    )
    yield container
    container.stop()


@pytest.fixture
def papa(limiting: Container) -> Container:
    """Give it with nothing hosted."""
    as_after_boot(limiting).run("systemctl start papa")
    return limiting


def test_refused_where_there_is_no_controller_and_nothing_has_run(machine: Container) -> None:
    machine.run("systemctl start papa")
    there = machine.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split()
    for option, (asked, controller) in ASKED.items():
        done = machine.run(f"papactl run limited {asked} -- touch /run/ran-{option}", check=False)
        assert (done.returncode == 0) == (controller in there), done
        if controller not in there:
            typed = f"process 'limited': option '--{option.replace('_', '-')}'"
            assert f"{typed}: systemd has no {controller} controller for it" in done.stderr
            assert machine.run(f"test -e /run/ran-{option}", check=False).returncode == 1
            refused = machine.run(
                ["busctl", "call", "--", *KERNEL.split(), "MakeProcess", "sasa{sv}", "limited", "1", "true", "1",
                 option, {"cpu_quota": "u"}.get(option, "t"), "50"], check=False,
            )  # fmt: skip
            assert refused.returncode != 0
            assert machine.run("papactl list processes --json").stdout == "[]\n"
            nothing_is_left(machine)


def test_who_takes_more_memory_is_killed_and_that_is_seen(papa: Container) -> None:
    papa.run("papactl run greedy --memory-max 32m -- python3 -c 'a = bytearray(256 << 20)'")
    assert watch(papa, "greedy")[-1][1][4:] == [-9, True]
    papa.run("papactl run modest --memory-max 256m -- python3 -c 'a = bytearray(32 << 20)'")
    assert watch(papa, "modest")[-1][1][4:] == [0, True]


def test_who_becomes_more_processes_cannot(papa: Container) -> None:
    forks = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & echo $i; done"
    papa.run(["papactl", "run", "many", "--tasks-max", "5", "--", "sh", "-c", forks])
    printed = [record for member, body in watch(papa, "many") if member == "Output" for record in body[2]]
    assert "".join(record[3] for record in printed if record[2] == "out").split() == ["1", "2", "3", "4"]
    assert any("fork" in record[3] for record in printed if record[2] == "err")


def test_a_quota_is_linuxs_own(papa: Container) -> None:
    unit = json.loads(papa.run("papactl run half --cpu-quota 50% -- sleep 600; papactl show half --json").stdout
                      .partition("\n")[2])["processes"][0]["unit"]  # fmt: skip
    assert papa.run(f"systemctl show --property=CPUQuotaPerSecUSec --value {unit}").stdout == "500ms\n"
    old = f"/sys/fs/cgroup/cpu/papa.slice/{unit}"
    files = f"cat {old}/cpu.cfs_quota_us {old}/cpu.cfs_period_us || cat /sys/fs/cgroup/papa.slice/{unit}/cpu.max"
    assert papa.run(files).stdout.split() == ["50000", "100000"]


def test_every_front_end_tells_them_and_they_outlive_papad(papa: Container) -> None:
    limits = ["memory_max", "t", "67108864", "cpu_quota", "u", "150", "tasks_max", "t", "9"]
    call(papa, "MakeProcess", "sasa{sv}", "p", "2", "sleep", "600", "3", *limits)
    for how in ("restart", "reload"):
        papa.run(f"systemctl {how} papa")
        # systemd 252 does not wait until a reload is done, and busctl does not ask again.
        ask = f"busctl call -- {KERNEL} ListProcesses as 0"
        listed = papa.wait_until(ask)
        for pair in ('"memory_max" t 67108864', '"cpu_quota" u 150', '"tasks_max" t 9'):
            assert pair in listed
    shown = papa.run("papactl show p").stdout
    assert "memory_max: 67108864\ncpu_quota: 150\ntasks_max: 9\n" in shown
    properties = papa.run("busctl introspect org.papa.Kernel /org/papa/Kernel/process/p org.papa.Kernel.Process").stdout
    for name, value in (("MemoryMax", 67108864), ("CPUQuota", 150), ("TasksMax", 9)):
        assert re.search(rf"^\.{name} +property +\w +{value} ", properties, re.MULTILINE)
    lines = "m p p memory_max=64m cpu_quota=150% tasks_max=9 sleep 600\nm p p memory_max=65m sleep 600\nquit\n"
    talk = "import socket, sys; s = socket.create_connection(('127.0.0.1', 20202)); s.sendall(sys.argv[1].encode()); "
    said = papa.run(["python3", "-c", talk + "print(s.makefile().read())", lines]).stdout
    assert "memory_max=67108864 cpu_quota=150 tasks_max=9 args=sleep 600" in said  # the one that runs
    assert "Error: process 'p' already runs (PID " in said  # and not with other limits


def test_a_users_own_systemd_has_only_what_is_delegated_to_it(papa: Container) -> None:
    papa.run(
        "useradd --create-home ann && systemd-run --quiet --wait loginctl enable-linger ann &&"
        " systemctl start user@$(id -u ann).service"
    )
    try:
        delegated = papa.run(
            "cat /sys/fs/cgroup/user.slice/user-*.slice/user@*.service/cgroup.controllers", check=False
        )
        done = papa.run("papactl --user run p --cpu-quota 50 -- touch /tmp/ran-ann", "ann", check=False)
        assert (done.returncode == 0) == ("cpu" in delegated.stdout.split()), done
        if done.returncode:
            assert "process 'p': option '--cpu-quota': systemd has " in done.stderr
            assert papa.run("test -e /tmp/ran-ann", check=False).returncode == 1
    finally:
        papa.run("systemctl stop user@$(id -u ann) && systemd-run --quiet --wait loginctl disable-linger ann")
        papa.run("userdel --remove ann 2>&1")
