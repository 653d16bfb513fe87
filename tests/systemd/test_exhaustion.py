"""A full file system, no room for memory files, no process left: said in words, nothing half done, all hosted lives."""

import time
from collections.abc import Iterator

import pytest

from papa_dbus.service import log_budget
from tests.support import PATIENCE
from tests.systemd.container import Container
from tests.systemd.test_starting import CALL
from tests.systemd.test_units import show

KERNEL = [*CALL[:2], "--", *CALL[2:5]]
DROP_IN = "/run/systemd/system/papa.service.d/test.conf"
#: A user's number that no other test on this machine has: Linux counts processes by user, whatever the container.
UID = 54321


def call(container: Container, *words: str) -> str:
    """The answer to a call, or what busctl says went wrong."""
    done = container.run([*KERNEL, *words], check=False)
    return done.stdout.strip() or done.stderr.strip()


def make(container: Container, name: str, *command: str) -> str:
    return call(container, "MakeProcess", "sasa{sv}", name, str(len(command)), *command, "0")


@pytest.fixture
def small(machine: Container) -> Iterator[Container]:
    """The kernel with a runtime directory that is soon full."""
    machine.run("mkdir -p /run/papa && mount -t tmpfs -o size=256k,mode=0700 papa-small /run/papa")
    machine.run("systemctl start papa")
    yield machine
    machine.run("systemctl stop papa.socket papa.service papa.slice; umount /run/papa")


def test_a_full_file_system(small: Container) -> None:
    assert "running" in make(small, "before", "sh", "-c", "while :; do echo here; sleep 0.1; done")
    pid = small.run("systemctl show --property=MainPID --value papa").stdout
    kept = 0
    while "failed" not in (said := call(small, "SetValue", "ss", f"v{kept}", "x" * 10_000)):
        kept += 1
        assert kept < 100
    assert said == "Call failed: papad cannot store this: database or disk is full"
    # Nothing is half done.
    assert call(small, "GetValue", "s", f"v{kept}").endswith("is not there; list values to see which are")
    small.run("head -c 999999 /dev/zero >/run/papa/filler || true")
    while "failed" not in call(small, "SetValue", "ss", f"v{kept}", "x" * 200):  # the file itself had room
        kept += 1
    for refused in (
        make(small, "new", "sleep", "600"),
        call(small, "MakeSocket", "sa{sv}", "new", "1", "port", "q", "4711"),
        call(small, "RemoveValues", "as", "2", "v0", "v1"),
    ):
        assert refused == "Call failed: papad cannot store this: database or disk is full"
    assert small.run("ss --listening --no-header --tcp sport = 4711").stdout == ""
    assert call(small, "ListSockets", "as", "0") == "a{sa{sv}} 0"
    assert call(small, "ListValues", "as", "0").startswith(f"a{{ss}} {kept} ")
    assert '"new"' not in call(small, "ListProcesses", "as", "0")
    assert small.run("systemctl show --property=MainPID --value papa").stdout == pid
    # One that is started again finds all there, and once there is room all is well.
    cursor = small.journal_cursor()
    small.run(f"kill -KILL {pid.strip()}")
    small.wait_for_journal("recovered: ", cursor)
    small.run("rm /run/papa/filler && mount -o remount,size=8m /run/papa")
    small.wait_until("busctl status org.papa.Kernel")
    assert small.run("ls /run/papa | grep damaged", check=False).stdout == ""
    pid = small.run("systemctl show --property=MainPID --value papa").stdout
    assert "running" in make(small, "new", "sleep", "600")
    assert call(small, "RemoveValues", "as", "2", "v0", "v1") == 'as 2 "v0" "v1"'
    # What it said it had stored is stored.
    cursor = small.journal_cursor()
    small.run(f"kill -KILL {pid}")
    small.wait_for_journal("recovered: ", cursor)
    assert call(small, "ListValues", "as", "0").startswith(f"a{{ss}} {kept - 2} ")
    listed = call(small, "ListProcesses", "as", "0")
    assert '"before"' in listed
    assert '"new"' in listed


@pytest.fixture
def limited(machine: Container) -> Iterator[Container]:
    """The kernel where no file may have more than a mebibyte."""
    machine.run(f"mkdir -p {DROP_IN.rpartition('/')[0]} && printf '[Service]\\nLimitFSIZE=1M\\n' >{DROP_IN}")
    machine.run("systemctl daemon-reload && systemctl start papa")
    yield machine
    machine.run(f"rm {DROP_IN} && systemctl daemon-reload")


def test_no_room_for_output(limited: Container) -> None:
    cursor = limited.journal_cursor()
    make(limited, "loud", "sh", "-c", "head -c 3000000 /dev/zero; sleep 0.1; echo the end; exit 3")
    make(limited, "quiet", "sh", "-c", "echo here; sleep 600")
    limited.wait_for_journal("'loud' (PID", cursor)
    limited.wait_for_journal("ended with exit status 3", cursor)
    journal = limited.journal(f"--after-cursor={cursor}", "--unit=papa")
    assert journal.count("no room for output, what is written now is lost: File too large") == 1
    loud = call(limited, "ListProcesses", "as", "1", "loud")
    dropped = int(loud.partition('"dropped" t ')[2].split()[0])
    assert 3_000_000 - 1_048_576 <= dropped <= 3_000_008
    assert '"buffered" t 5' in call(limited, "ListProcesses", "as", "1", "quiet")
    assert show(limited, "NRestarts") == "0"
    # The next papad takes over even this.
    limited.run("systemctl restart papa")
    assert f'"dropped" t {dropped}' in call(limited, "ListProcesses", "as", "1", "loud")
    assert '"exit_code" i 3' in call(limited, "ListProcesses", "as", "1", "loud")


@pytest.fixture
def poor(machine: Container) -> Iterator[str]:
    """A user whose kernel may have a few processes only."""
    name = "poor"
    machine.run(f"useradd --create-home --uid {UID} {name} && loginctl enable-linger {name}")
    machine.run(f"systemctl start user@{UID}")
    yield name
    machine.run(f"systemctl stop user@{UID} && loginctl disable-linger {name} && userdel --remove {name} 2>&1")


def test_no_process_left(machine: Container, poor: str) -> None:
    folder = "~/.config/systemd/user/papa.service.d"
    machine.run(["sh", "-c", f"mkdir -p {folder} && printf '[Service]\\nLimitNPROC=16\\n' >{folder}/few.conf"], poor)
    machine.run("systemctl --user daemon-reload && systemctl --user start papa", poor)

    def host(number: int) -> str:
        words = ["busctl", "--user", *KERNEL[1:], "MakeProcess", "sasa{sv}", f"p{number}", "2", "sleep", "600", "0"]
        done = machine.run(words, poor, check=False)
        return done.stdout or done.stderr

    made = 0
    while "running" in (said := host(made)):
        made += 1
        assert made < 16
    assert made > 2
    assert said == f"Call failed: process 'p{made}': cannot fork: Resource temporarily unavailable (EAGAIN)\n"
    listed = machine.run(["busctl", "--user", *KERNEL[1:], "ListProcesses", "as", "0"], poor).stdout
    assert listed.startswith(f"a{{sa{{sv}}}} {made} ")
    assert listed.count('"running" b true') == made
    # With one less there is room for another.
    machine.run("systemctl --user kill --signal=KILL papa-p0.scope", poor)
    machine.run(["busctl", "--user", *KERNEL[1:], "RemoveProcesses", "as", "1", "p0"], poor, check=False)
    assert "running" in host(made)


def test_a_caller_that_is_gone_before_it_is_known(machine: Container) -> None:
    """Its call is run, or the journal says that it was not; it is never run on behalf of nobody."""
    machine.run("systemctl restart papa")  # with a log budget that nobody has spent
    cursor = machine.journal_cursor()
    send = "dbus-send --system --type=method_call --dest=org.papa.Kernel /org/papa/Kernel org.papa.Kernel.SetValue"
    machine.run(f"for i in $(seq 40); do {send} string:gone$i string:x; done")

    def seen() -> tuple[int, int]:
        """How many were run, and how many the journal says were not."""
        run = call(machine, "ListValues", "as", "0").count('"gone')
        journal = machine.journal(f"--after-cursor={cursor}", "--unit=papa")
        return run, journal.count("are not run, since the bus does not say whose they are")

    deadline = time.monotonic() + PATIENCE
    run, left_out = seen()
    while left_out < min(40 - run, log_budget.MAX_RECORDS) and time.monotonic() < deadline:
        time.sleep(0.2)  # paces the questions
        run, left_out = seen()
    assert left_out == min(40 - run, log_budget.MAX_RECORDS)  # the rest is counted at the end of the minute
    journal = machine.journal(f"--after-cursor={cursor}", "--unit=papa")
    assert journal.count("made by uid 0 (PID ") == run
