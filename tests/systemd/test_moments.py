"""What happens around papad: systemd executes itself anew, the target changes, the bus restarts, a port is taken."""

import os
import re
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import Container
from tests.systemd.machines import as_after_boot
from tests.systemd.test_serving import call

COUNTER = "i=0; while sleep 0.05; do i=$((i+1)); echo $i; done"
#: An old Papa, say: it has the port of the line protocol.
HOLDER = (
    "import socket, signal; s = socket.create_server(('127.0.0.1', 20202)); print('has it', flush=True); signal.pause()"
)


@pytest.fixture(params=("bookworm", "trixie"))
def debian(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Iterator[Container]:
    """Give each Debian with papad not running."""
    yield as_after_boot(containers(request.param))
    containers(request.param).run("systemctl stop old-papa", check=False)
    containers(request.param).run("systemctl restart systemd-logind")  # which does not outlive a restart of the bus
    as_after_boot(containers(request.param))


def papad(container: Container) -> str:
    return container.run("systemctl show --property=MainPID,NRestarts papa.service").stdout


def test_what_goes_on_below_it(debian: Container) -> None:
    """Neither papad nor what it hosts notices: the same PIDs, and output without a gap."""
    debian.run("systemctl start papa; papactl set v kept; papactl socket make web --port 8080")
    debian.run(["papactl", "run", "counter", "--", "sh", "-c", COUNTER])
    before, process = papad(debian), debian.run("systemctl show --property=ControlGroup papa-counter.scope").stdout
    for moment in (
        "systemctl daemon-reload",
        "systemctl daemon-reexec",  # what an upgrade of systemd does
        "systemctl isolate multi-user.target",
        "systemctl restart dbus.service",  # what an upgrade of the bus asks for
    ):
        had = len(debian.run("papactl logs counter --output cat").stdout.split())
        debian.run(moment)
        debian.wait_until(f"[ $(papactl logs counter --output cat | wc -l) -gt {had + 2} ]")
        assert papad(debian) == before, moment
        assert debian.run("systemctl is-active papa.socket papa-counter.scope").stdout == "active\nactive\n", moment
        assert debian.run("papactl get v").stdout.strip() == "kept", moment
    lines = [int(line) for line in debian.run("papactl logs counter --output cat").stdout.split()]
    assert lines == list(range(1, len(lines) + 1))
    assert debian.run("systemctl show --property=ControlGroup papa-counter.scope").stdout == process


def test_what_may_be_ended_for_want_of_memory(debian: Container) -> None:
    """A hosted program before papad; and where one of its processes is killed systemd leaves the others alone."""
    debian.run("systemctl start papa; papactl run p -- sleep 600")
    for unit in ("papa-p.scope", "papa.service"):
        assert debian.run(f"systemctl show --property=OOMPolicy {unit}").stdout == "OOMPolicy=continue\n"
    # A container may not lower a score: systemd has what it would be.
    assert debian.run("systemctl show --property=OOMScoreAdjust papa.service").stdout == "OOMScoreAdjust=-500\n"
    hosted = "cat /proc/$(cat /sys/fs/cgroup/papa.slice/papa-p.scope/cgroup.procs)/oom_score_adj"
    assert debian.run(hosted).stdout == "0\n"


def test_a_process_is_refused_while_systemd_ends_the_slice(debian: Container) -> None:
    """A manager that starts again what ends at a shutdown is told: nothing runs that systemd does not end in order."""
    debian.run("systemctl start papa")
    slow = "trap 'echo > /run/ending; read x < /run/may-end; exit' TERM; while :; do sleep 0.1; done"
    debian.run("rm -f /run/ending /run/may-end; mkfifo /run/ending /run/may-end")
    debian.run(["papactl", "run", "slow", "--", "sh", "-c", slow])
    debian.run("systemctl stop --no-block papa.slice; timeout 30 cat /run/ending")
    refused = debian.run("papactl run again -- sleep 600", check=False)
    assert "systemd is ending papa.slice or the machine" in refused.stderr
    debian.run("echo > /run/may-end")
    debian.wait_until('[ "$(systemctl is-active papa.slice)" = inactive ]')
    debian.run("papactl run again -- sleep 600")
    assert debian.run("systemctl is-active papa-again.scope").stdout == "active\n"


def test_a_port_that_another_program_has(debian: Container) -> None:
    """The bus is served, one line says why the port is not, and a restart serves it when it is free."""
    debian.run("systemctl stop papa.socket")
    debian.run(["systemd-run", "--unit=old-papa", "python3", "-c", HOLDER])
    debian.wait_until("journalctl -q -o cat --unit=old-papa --lines=1 | grep -x 'has it'")
    after = debian.journal_cursor()
    debian.run("systemctl start papa")
    call(debian, "SetValue", "ss", "v", "kept")
    debian.run("journalctl --sync")
    said = [line for line in debian.journal(f"--after-cursor={after}").splitlines() if line.startswith("port 20202")]
    why = "cannot listen on 127.0.0.1 port 20202: Address already in use"
    remedy = "end the program that has it ('ss -ltnp sport = 20202' shows it), then run 'systemctl restart papa'"
    assert said == [f"port 20202: not served, only the message bus is: {why}; {remedy}"]
    assert "NRestarts=0" in papad(debian)
    told = debian.run("papactl doctor", check=False).stdout
    assert "BAD   papa.socket   it has failed, so nobody is served on port 20202" in told
    debian.run("systemctl stop old-papa; systemctl restart papa")
    assert debian.run("systemctl is-active papa.socket").stdout == "active\n"
    assert call(debian, "GetValue", "s", "v") == 's "kept"\n'


def test_papad_goes_and_comes(debian: Container) -> None:
    """Restarted, reloaded or killed: the same processes, sockets and values, and output without a gap."""
    debian.run("systemctl start papa; papactl set v kept; papactl socket make web --port 8080")
    debian.run(["papactl", "run", "counter", "--", "sh", "-c", COUNTER])
    debian.run("papactl run ended -- sh -c 'exit 3'; papactl wait ended", check=False)
    process = debian.run("systemctl show --property=ControlGroup papa-counter.scope").stdout
    for moment in (
        "systemctl restart papa",
        "systemctl reload papa",
        "systemctl kill --kill-who=main --signal=KILL papa",
    ):
        had = len(debian.run("papactl logs counter --output cat").stdout.split())
        debian.run(moment)
        debian.wait_until(f"[ $(papactl logs counter --output cat | wc -l) -gt {had + 2} ]")
        assert debian.run("papactl get v").stdout.strip() == "kept", moment
        assert '"port" q 8080' in call(debian, "ListSockets", "as", "0"), moment
        assert '"exit_code" i 3' in call(debian, "ListProcesses", "as", "1", "ended"), moment
    lines = [int(line) for line in debian.run("papactl logs counter --output cat").stdout.split()]
    assert lines == list(range(1, len(lines) + 1))
    assert debian.run("systemctl show --property=ControlGroup papa-counter.scope").stdout == process


def comes_back_with_everything(container: Container, end: str) -> str:
    """End papad by a command, and see it come back with what it had; gives what the journal says."""
    container.run("systemctl start papa")
    made = call(container, "MakeProcess", "sasa{sv}", "p", "2", "sleep", "600", "0")
    call(container, "SetValue", "ss", "v", "kept")
    socket = call(container, "MakeSocket", "sa{sv}", "s", "0")
    cursor = container.journal_cursor()
    container.run(end)
    container.wait_for_journal("is ready", cursor)
    pid = made.split('"pid" u ')[1].split()[0]
    assert f'"pid" u {pid} "running" b true' in call(container, "ListProcesses", "as", "0")
    assert call(container, "GetValue", "s", "v") == 's "kept"\n'
    assert socket.split('"port" q ')[1].split()[0] in call(container, "ListSockets", "as", "0")
    return container.journal(f"--after-cursor={cursor}", "--unit=papa.service")


@pytest.mark.parametrize("signal", ["KILL", "ABRT", "SEGV"])
def test_ended_by_any_signal_it_comes_back_with_everything(debian: Container, signal: str) -> None:
    comes_back_with_everything(debian, f"systemctl kill --kill-who=main --signal={signal} papa")


def test_ended_by_the_watchdog_it_comes_back_with_everything(debian: Container) -> None:
    """papad hangs: here it is stopped, and so gives no sign of life."""
    drop_in = "/run/systemd/system/papa.service.d/watchdog.conf"
    debian.run(f"mkdir -p $(dirname {drop_in}) && printf '[Service]\\nWatchdogSec=2\\n' > {drop_in}")
    try:
        debian.run("systemctl daemon-reload && systemctl restart papa")
        said = comes_back_with_everything(debian, "systemctl kill --kill-who=main --signal=STOP papa")
    finally:
        debian.run(f"rm {drop_in} && systemctl daemon-reload")
    assert "Failed with result 'watchdog'" in said


def test_ended_for_want_of_memory_it_comes_back_with_everything(debian: Container) -> None:
    """All that systemd-oomd(8) does to a service: it counts in the control group's attributes, and kills the group."""
    oomd = (
        "import os, sys; os.setxattr(sys.argv[1], 'user.oomd_ooms', b'1'); "
        "os.setxattr(sys.argv[1], 'user.oomd_kill', b'1'); open(f'{sys.argv[1]}/cgroup.kill', 'w').write('1')"
    )
    said = comes_back_with_everything(debian, f'python3 -c "{oomd}" /sys/fs/cgroup/system.slice/papa.service')
    assert "systemd-oomd killed 1 process(es) in this unit" in said


def test_who_consumes_or_removes_ends_no_process(debian: Container) -> None:
    """A consumer that is killed leaves what it has not acknowledged; what is removed goes on, and is forgotten."""
    debian.run("systemctl start papa")
    debian.run(["papactl", "run", "counter", "--", "sh", "-c", COUNTER])
    debian.run("systemd-run --unit=consumer papactl consume counter --to /root/consumed")
    debian.wait_until("[ $(wc -l </root/consumed) -gt 2 ]")
    debian.run("systemctl kill --signal=KILL consumer")
    debian.wait_until("[ $(papactl logs counter --output cat | wc -l) -gt 2 ]")
    consumed = debian.run("cat /root/consumed").stdout.split()
    left = debian.run("papactl logs counter --output cat").stdout.split()
    assert {*range(1, int(left[-1]) + 1)} == {*map(int, consumed), *map(int, left)}
    debian.run("papactl remove counter; rm /root/consumed")
    assert debian.run("systemctl is-active papa-counter.scope").stdout == "active\n"
    assert "SIGTERM" not in debian.run("systemctl stop papa-counter.scope").stdout
    debian.wait_until('[ "$(papactl list processes --no-legend)" = "" ]')


def test_the_power_fails(debian: Container) -> None:
    """Nothing is left of what was held, and papad starts as on the first day."""
    debian.run(
        "systemctl start papa; papactl set v gone; papactl socket make web --port 8080; papactl run p -- sleep 9"
    )
    os.kill(debian.leader, signal.SIGKILL)
    debian.wait_until_off()
    debian.boot()
    debian.run("systemctl start papa")
    assert debian.run("papactl list").stdout == ""


def test_one_that_was_started_by_hand_ends(debian: Container) -> None:
    """What it hosts goes on, and gets SIGPIPE once it prints; all else is gone."""
    by_hand = ["systemd-run", "--unit=by-hand", "--property=KillMode=process", "papad", "--bus", "own", "--port", "0"]
    after = debian.journal_cursor()
    debian.run(by_hand)
    debian.wait_for_journal("unix:path=", after)
    said = debian.journal(f"--after-cursor={after}", "--unit=by-hand")
    papactl = f"papactl --bus {re.findall('unix:path=[^ ,]*', said)[0].strip()}"
    debian.run("rm -f /run/may-print; mkfifo /run/may-print")
    debian.run(f"{papactl} run quiet -- sleep 777; {papactl} set v 1; {papactl} socket make web --port 8080")
    debian.run([*papactl.split(), "run", "loud", "--", "sh", "-c", "read x </run/may-print; echo; echo"])
    listed = debian.run(f"{papactl} list processes --no-legend").stdout.splitlines()
    loud, quiet = (line.split()[2] for line in listed)
    debian.run("systemctl stop by-hand; echo >/run/may-print")
    debian.wait_until(f"! kill -0 {loud}")
    debian.run(f"kill {quiet}; ! grep -i :1F90 /proc/net/tcp; rm /run/may-print")
