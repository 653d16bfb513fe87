"""The drop-in for the papa module on a booted systemd: a kernel that is ended under it, and one that it has started."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.container import Container
from tests.systemd.test_serving import PYTHON
from tests.systemd.test_starting import is_active

WRITER = """
import os, time
n = 0
while not os.path.exists('/run/writer-stop'):
    print(n, flush=True)
    n += 1
    time.sleep(0.002)  # paces the load
"""
ENDINGS = {
    "restart": "systemctl restart papa",
    "reload": "systemctl reload papa",
    "killed": "systemctl kill --signal=KILL --kill-who=main papa",
}


@pytest.fixture
def papa(machine: Container) -> Iterator[Container]:
    """Give the container, and take away what a test has left."""
    machine.copy_in(Path(__file__).parent / "dropin_watch.py", "/root/dropin_watch.py")
    machine.run("rm -f /run/writer-stop")
    yield machine
    machine.run("touch /run/writer-stop; systemctl unmask --runtime papa.service 2>&1")
    machine.run("systemctl stop papa.service papa.slice")


def client(container: Container, text: str, user: str | None = None) -> str:
    """Run a program that uses the drop-in; what it prints, or how its last error reads."""
    done = container.run([PYTHON, "-W", "error", "-c", f"from papa_dbus.client import Papa\n{text}"], user, check=False)
    return done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1]


def test_papad_is_ended_under_a_client_that_reads(papa: Container) -> None:
    """Restarted, upgraded and killed, three times each: each line once, in order; each call succeeds."""
    client(papa, f"p = Papa(); p.make_process('writer', {PYTHON!r}, ('-c', {WRITER!r}))\n"
                 "p.make_process('silent', '/bin/sleep', '600')")  # fmt: skip
    command = papa.command([PYTHON, "-W", "error", "/root/dropin_watch.py"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for ending in [*ENDINGS.values()] * 3:
            assert process.stdout.readline().startswith("line ")
            cursor = papa.journal_cursor()
            papa.run(ending)
            papa.wait_for_journal("is ready", cursor)
        papa.run("touch /run/writer-stop")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    seen = json.loads(out.splitlines()[-1])
    print(f"\nthe drop-in over nine ends of papad: {seen}")  # noqa: T201 (the figures)
    assert seen["wrong"] == []
    assert seen["first wrong line"] is None
    assert seen["lines"] > 450
    assert seen["exit code"] == {"writer": 0}
    assert seen["left"] == []
    assert min(seen["calls"], seen["clients"]) > 9


def test_the_first_client_starts_it(papa: Container) -> None:
    assert not is_active(papa)
    assert client(papa, "p = Papa(); p.set('a', '1'); print(p.get('a'), p.port_or_path)") == "1 20202\n"
    assert is_active(papa)
    papa.run("systemctl stop papa")
    assert client(papa, "print(Papa('system').list_values())") == "{'a': '1'}\n"  # values outlive a stop
    assert is_active(papa)


def test_a_client_that_was_there_before_starts_it_again(papa: Container) -> None:
    text = "import subprocess\np = Papa(); p.set('a', '1'); subprocess.run(['systemctl', 'stop', 'papa'], check=True)\n"
    assert client(papa, f"{text}p.set('b', '2'); print(p.list_values())") == "{'a': '1', 'b': '2'}\n"


def test_a_user_s_own(machine: Container) -> None:
    """The session bus starts it; the system's kernel is not for everybody, and says so."""
    machine.run("useradd --create-home eve && loginctl enable-linger eve && systemctl start user@$(id -u eve).service")
    try:
        assert client(machine, "p = Papa('session'); p.set('a', '1'); print(p.get('a'))", "eve") == "1\n"
        assert machine.run("systemctl --user is-active papa", "eve").stdout == "active\n"
        refused = client(machine, "Papa()", "eve")
        assert refused.startswith("papa_dbus.errors.AccessDenied: ")
        machine.run("systemctl --user stop papa", "eve")
    finally:
        machine.run("systemctl stop user@$(id -u eve) && loginctl disable-linger eve && userdel --remove eve 2>&1")


def check_says_masked(said: str) -> None:
    assert said.startswith("papa_dbus.errors.NotStarted: systemd does not start papad: ")
    assert "masked; run 'systemctl unmask papa'" in said


def test_where_it_cannot_be_started_the_error_says_why(papa: Container) -> None:
    papa.run("systemctl mask --runtime --quiet papa.service")
    said = client(papa, "Papa(connection_timeout=5)")
    check_says_masked(said)


def test_a_client_that_was_there_before_is_told_why_it_is_not_started_again(papa: Container) -> None:
    text = (
        "import subprocess\np = Papa(); p.set('a', '1')\n"
        "subprocess.run('systemctl stop papa; systemctl mask --runtime --quiet papa.service', shell=True, check=True)\n"
    )
    said = client(papa, f"{text}p.set('b', '2')")
    check_says_masked(said)
