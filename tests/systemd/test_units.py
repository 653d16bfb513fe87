"""What the units promise: when the kernel is started again and when not, and what a hosted program does not inherit."""

import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import PROJECT, Container
from tests.systemd.test_starting import CALL, CONNECT, is_active

UNITS = "/usr/local/lib/systemd"


def show(container: Container, name: str, unit: str = "papa.service") -> str:
    return container.run(["systemctl", "show", f"--property={name}", "--value", unit]).stdout.strip()


def test_the_units_are_sound(container: Container) -> None:
    files = [f"{UNITS}/system/papa.{kind}" for kind in ("service", "socket", "slice")]
    man = "yes" if container.run("command -v man", check=False).stdout else "no"  # else it cannot look for the pages
    checked = container.run(["systemd-analyze", f"--man={man}", "verify", *files])
    assert checked.stdout + checked.stderr == ""
    assert "Unknown key" not in container.journal("--boot")


def test_a_killed_kernel_is_started_again(container: Container) -> None:
    container.run("systemctl start papa")
    first, cursor = show(container, "MainPID"), container.journal_cursor()
    container.run(f"kill -KILL {first}")
    container.wait_for_journal("Started papa.service", cursor)
    assert show(container, "MainPID") not in ("0", first)
    assert show(container, "NRestarts") == "1"
    assert container.run(CALL).stdout == "a{ss} 0\n"


def test_a_stopped_kernel_stays_stopped_and_leaves_nothing(container: Container) -> None:
    container.run("systemctl start papa && systemctl stop papa.socket papa.service")
    assert show(container, "ActiveState") == "inactive"
    assert show(container, "Result") == "success"
    container.run("systemctl clean --what=all papa.service")  # what it has kept for its next start
    assert container.run("test -e /run/papa", check=False).returncode == 1
    assert show(container, "NFileDescriptorStore") == "0"


def test_a_kernel_that_left_because_it_was_idle_stays_away(container: Container) -> None:
    container.run("systemctl start papa")
    cursor = container.journal_cursor()
    assert container.run([*CALL[:5], "ExitIfIdle"]).stdout == "b true\n"
    container.wait_for_journal("papa.service: Deactivated successfully", cursor)
    assert show(container, "ActiveState") == "inactive"
    assert show(container, "NRestarts") == "0"


def test_a_hosted_program_inherits_nothing_of_the_service(machine: Container) -> None:
    """What the unit sets for the kernel ends with the kernel: the program has what it would have as a service."""
    report = (
        "exec >/tmp/report; ulimit -Sn; umask; cat /proc/self/oom_score_adj; readlink /proc/self/ns/mnt; "
        "grep -E '^(SigIgn|SigBlk|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; tail -n 1 /proc/self/cgroup; "
        "ls -m /proc/$$/fd; env | cut -d = -f 1 | sort | tr '\\n' ' '"
    )
    machine.run("rm -f /tmp/report && mkfifo /tmp/report")
    make = ["busctl", "call", "--", *CALL[2:5], "MakeProcess", "sasa{sv}", "report", "3", "/bin/sh", "-c", report, "0"]
    machine.run(make)
    files, umask, score, mounts, *status, group, descriptors, environment = machine.run(
        "timeout 20 cat /tmp/report"
    ).stdout.splitlines()
    # Compared with systemd itself: a container has a system call filter of its own.
    first = machine.run("readlink /proc/1/ns/mnt; grep -E '^(CapBnd|Seccomp):' /proc/1/status").stdout.splitlines()
    assert [files, umask, score, mounts] == ["1024", "0022", "0", first[0]]
    blocked, ignored = (int(line.split()[1], 16) for line in status[:2])
    assert blocked == 0
    assert ignored & ~(0b11 << 31) == 0  # 32 and 33 are glibc's, as the container was started
    assert status[2:] == [first[1], "NoNewPrivs:\t0", first[2]]
    assert group == "0::/papa.slice/papa-report.scope"
    assert descriptors == "0, 1, 2"  # ls without a pipeline, of whose pipe the shell has an end for a moment
    assert set(environment.split()) <= {"HOME", "LANG", "PATH", "PWD", "USER", "LOGNAME", "SHELL", "_"}


def test_the_documented_exposure_is_the_units(containers: Callable[[str], Container]) -> None:
    """Debian 12's systemd-analyze, whose figure docs/threat-model.md has."""
    container = containers("bookworm")
    said = container.run("systemd-analyze security --no-pager papa.service").stdout
    figure = re.search(r"exposure level for papa\.service: ([\d.]+)", said)
    assert figure is not None
    text = (PROJECT / "docs/threat-model.md").read_text()
    assert f"`systemd-analyze security papa` (systemd 252) says **{figure[1]}**" in text
    # Whatever it asks for is gone through there.
    asked = {name for line in said.splitlines() if line.startswith("✗") for name in re.findall(r"\b[A-Z]\w+=", line)}
    assert {name for name in asked if name not in text} <= {"RootImage="}


@pytest.fixture
def alice(machine: Container) -> Iterator[str]:
    """Give a user of the machine who is logged in for good, and so has a user manager and a session bus."""
    machine.run("useradd --create-home alice && loginctl enable-linger alice && systemctl start user@$(id -u alice)")
    yield "alice"
    machine.run("systemctl stop user@$(id -u alice) && loginctl disable-linger alice && userdel --remove alice 2>&1")


def test_the_user_units_are_sound(machine: Container, alice: str) -> None:
    checked = machine.run(f"systemd-analyze --user verify {UNITS}/user/papa.service {UNITS}/user/papa.socket", alice)
    assert checked.stdout + checked.stderr == ""


def test_a_user_has_a_kernel_of_their_own(machine: Container, alice: str) -> None:
    machine.run("systemctl --user start papa", alice)
    assert 'Status: "0 sockets' in machine.run("systemctl --user status --no-pager papa", alice).stdout
    assert machine.run(["busctl", "--user", *CALL[1:]], alice).stdout == "a{ss} 0\n"
    assert not is_active(machine)  # the system's kernel is another


def test_a_users_bus_and_socket_start_the_users_kernel(machine: Container, alice: str) -> None:
    assert machine.run(["busctl", "--user", *CALL[1:]], alice).stdout == "a{ss} 0\n"
    machine.run("systemctl --user stop papa.service", alice)
    connect = re.sub(r"create_connection\(.*?20\);", "socket(socket.AF_UNIX); s.connect(sys.argv[1]);", CONNECT)
    path = machine.run("echo $XDG_RUNTIME_DIR/papa/line.sock", alice).stdout.strip()
    assert "> " in machine.run(["python3", "-c", connect, path], alice).stdout
    assert machine.run("systemctl --user is-active papa", alice).stdout == "active\n"


#: Reads a process to its end, and prints it as JSON.
READ = """
import asyncio, json, sys
from papa_dbus.client import aio
async def main():
    said = []
    async with aio.connect("session") as kernel:
        async for event in kernel.watch("p"):
            said.append(event.data.decode() if isinstance(event, aio.Record) else event.exit_code)
    print(json.dumps(said))
asyncio.run(main())
"""


@pytest.mark.parametrize("verb", ["restart", "reload"])
def test_a_users_kernel_keeps_everything(machine: Container, alice: str, verb: str) -> None:
    def call(member: str, *arguments: str) -> str:
        return machine.run(["busctl", "--user", "call", "--", *CALL[2:5], member, *arguments], alice).stdout

    machine.run("mkfifo $HOME/fifo", alice)
    script = "echo one; read x < ~/fifo; echo two; exit 3"
    made = call("MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", script, "0")
    socket = call("MakeSocket", "sa{sv}", "s", "0")
    call("SetValue", "ss", "v", "kept")
    main_pid = "systemctl --user show --property=MainPID --value papa"
    before = machine.run(main_pid, alice).stdout
    cursor = machine.journal_cursor()
    machine.run(f"systemctl --user {verb} papa", alice)
    machine.wait_for_journal("is ready", cursor)
    assert (machine.run(main_pid, alice).stdout == before) == (verb == "reload")
    pid = made.split('"pid" u ')[1].split()[0]
    assert f'"pid" u {pid} "running" b true' in call("ListProcesses", "as", "0")
    assert call("GetValue", "s", "v") == 's "kept"\n'
    assert socket.split('"port" q ')[1].split()[0] in call("ListSockets", "as", "0")
    machine.run("echo > ~/fifo", alice)
    read = machine.run(["/usr/local/lib/papa/bin/python", "-c", READ], alice).stdout
    assert json.loads(read) == ["one\n", "two\n", 3]
