"""papactl on a booted systemd: status, doctor, top by control groups, permission, completion in real shells, manual."""

import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.support import wait_until
from tests.systemd.container import Container
from tests.systemd.test_access import users
from tests.terminal import Terminal

__all__ = ["users"]

BUSY = "sh -c 'while :; do :; done' & exec sleep 1000"


@pytest.fixture
def papa(machine: Container) -> Iterator[Container]:
    """Give the container with the kernel running, and take away what a test has left."""
    machine.run("systemctl start papa")
    yield machine
    machine.run("systemctl stop papa.service papa.slice")


def terminal(container: Container, command: str, columns: int = 110, rows: int = 24) -> Terminal:
    """A shell's command on a terminal in the container."""
    return Terminal(
        container.command(["env", "TERM=xterm-256color", "sh", "-c", f"exec {command}"]), None, columns, rows
    )


def findings(container: Container, user: str | None = None) -> dict[str, list[str]]:
    """What doctor says: by check, how it is and what is said."""
    told = json.loads(container.run("papactl doctor --json", user, check=False).stdout)
    return {finding["check"]: [finding["grade"], finding["message"]] for finding in told}


def test_status_starts_nothing_and_list_does(container: Container) -> None:
    down = container.run("papactl status", check=False)
    assert (down.returncode, down.stdout) == (3, "")
    assert "'systemctl start papa' starts it" in down.stderr
    assert container.run("systemctl is-active papa", check=False).stdout == "inactive\n"
    assert container.run("papactl list").stdout == ""
    assert re.match(r"● Papa \S+\nUp: ", container.run("papactl status").stdout)
    assert {grade for grade, _ in findings(container).values()} == {"good"}


def test_status_in_the_moment_of_a_reload(papa: Container) -> None:
    assert papa.run("for i in $(seq 10); do systemctl reload papa; papactl status; done").stdout.count("● Papa") == 10


def test_a_screen_with_a_unit(papa: Container) -> None:
    made = papa.run("papactl run web -- sleep 1000").stdout
    assert re.fullmatch(r"web: PID \d+, papa-web\.scope\n", made)
    assert "unit: papa-web.scope" in papa.run("papactl show web").stdout
    with terminal(papa, "papactl doctor") as doctor:
        screen = [re.sub(r" +", " ", line) for line in doctor.to_the_end()]
        assert doctor.status == 0
        assert screen[0].startswith("ok Linux")
        assert "ok policy /etc/dbus-1/system.d/org.papa.Kernel.conf" in screen
        assert "ok group root may talk to the system's papad" in screen
        assert "ok papa.service active, disabled" in screen
        assert "ok papa.socket active, enabled" in screen
        assert doctor.colour_of("ok") == "green"
        assert re.search(r"^ok descriptors systemd's store keeps 1 of 16384 for", "\n".join(screen), re.MULTILINE)


def test_doctor_finds_what_is_wrong(papa: Container) -> None:
    policy = "/etc/dbus-1/system.d/org.papa.Kernel.conf"
    papa.run(f"systemctl stop papa.socket; systemctl mask --runtime papa.socket; mv {policy} /root")
    try:
        found = findings(papa)
        assert found["policy"][0] == "bad"
        assert found["papa.socket"] == ["bad", "it is masked, so that nothing starts it: systemctl unmask papa.socket"]
        assert papa.run("papactl doctor >/dev/null", check=False).returncode == 1
    finally:
        papa.run(
            f"mv /root/org.papa.Kernel.conf {policy}; systemctl unmask --runtime papa.socket; systemctl reload dbus"
        )
    grade, message = findings(papa)["papa.socket"]
    assert grade == "note"
    [remedy] = re.findall("'(.*)'", message)
    papa.run(remedy)
    assert {grade for grade, _ in findings(papa).values()} == {"good"}


def test_doctor_knows_a_kernel_that_systemd_did_not_start(machine: Container) -> None:
    machine.run("systemctl stop papa.socket papa.service")
    machine.run("setsid --fork papad --port 0 >/dev/null 2>&1 </dev/null")
    machine.wait_until("busctl status org.papa.Kernel")
    try:
        grade, message = findings(machine)["descriptors"]
        assert grade == "bad"
        assert "was not started by systemd" in message
    finally:
        machine.run("kill $(busctl status org.papa.Kernel | sed -n 's/^PID=//p')")
        machine.run("while busctl status org.papa.Kernel >/dev/null 2>&1; do :; done")


def test_doctor_sees_that_papad_does_not_start(papa: Container) -> None:
    def tells_it() -> bool:
        grade, message = findings(papa)["papa.service"]
        return grade == "bad" and message.endswith("'journalctl -u papa.service' says why")

    folder = "/run/systemd/system/papa.service.d"
    dropped_in = "[Service]\\nExecStart=\\nExecStart=/bin/false\\n"
    papa.run(f"mkdir -p {folder} && printf '{dropped_in}' >{folder}/broken.conf && systemctl daemon-reload")
    try:
        papa.run("systemctl restart papa", check=False)
        count = "$(systemctl show --value --property=NRestarts papa)"
        papa.wait_until(f"[ {count} -gt 0 ]")
        begin, tried = time.monotonic(), int(papa.run(f"echo {count}").stdout)
        papa.wait_until(f"[ {count} -gt {tried + 1} ]")
        assert time.monotonic() - begin > 1  # it is tried once in a second, and one of those has passed whole
        # Between its end and the next try it is neither started nor has it failed, as systemd tells it.
        wait_until(tells_it, lambda: str(findings(papa)))
    finally:
        papa.run(f"rm {folder}/broken.conf && systemctl daemon-reload && systemctl stop papa && systemctl reset-failed")


def test_a_mask_has_systemd_forget_what_it_kept_until_it_is_unmasked(papa: Container) -> None:
    def in_store(count: int) -> None:
        papa.wait_until(f"[ $(systemctl show --value --property=NFileDescriptorStore papa) = {count} ]")

    papa.run("papactl run p -- sh -c 'echo a line; exec sleep 600' && papactl socket make s && systemctl mask papa")
    try:
        grade, message = findings(papa)["descriptors"]
        assert grade == "bad"
        assert "while papa.service is masked" in message
        in_store(0)
        wait_until(lambda: "papa.service is masked, so systemd keeps nothing" in papa.journal("--unit=papa"), "told")
    finally:
        papa.run("systemctl unmask papa")
    in_store(2)
    assert findings(papa)["descriptors"][0] == "good"
    assert papa.journal("--unit=papa").count("it is given them again") == 1
    papa.run("systemctl daemon-reload && systemctl daemon-reload && papactl run q -- sleep 600")
    in_store(3)
    assert papa.journal("--unit=papa").count("it is given them again") == 1
    papa.run("systemctl restart papa")
    assert "running" in papa.run("papactl list processes").stdout
    assert papa.run("papactl logs -o cat p").stdout == "a line\n"
    assert papa.run("papactl socket remove s").stdout == "s\n"


@pytest.mark.usefixtures("users")
def test_who_may_not_is_told_what_to_do(container: Container) -> None:
    container.run("systemctl start papa")
    refused = container.run("papactl list", "john", check=False)
    assert refused.returncode == 6
    assert "usermod -aG papa USER" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert container.run("papactl list", "mary").stdout == ""
    client = ["/usr/local/lib/papa/bin/python", "-c", "import papa_dbus.client as papa; papa.Papa()"]
    raised = container.run(client, "john", check=False).stderr.splitlines()[-1]
    assert raised.startswith("papa_dbus.errors.AccessDenied: ")
    assert "the group papa" in raised  # said by papad itself if there is polkit, so that the bus lets calls through
    assert "Rejected send message" not in raised
    john = findings(container, "john")
    assert john["group"] == ["bad", "john is not in the group papa: an administrator runs 'usermod -aG papa john'"]
    assert john["papad"][0] == "bad"
    assert findings(container, "mary")["group"][0] == "good"


def test_top_counts_what_a_process_has_started(papa: Container) -> None:
    papa.run(["papactl", "run", "parent", "--", "sh", "-c", BUSY])
    with terminal(papa, "papactl top -d 0.3") as top:
        screen = top.until(r"parent +running +\d+ +[1-9]\d*\.\d +[\d.]+ [KM]iB")
        assert re.match(r"Papa \S+, up .*: 1 processes, 0 B buffered \(q quits\)", screen[0])
        top.type("q")
        top.to_the_end()
        assert top.status == 0
    rows = papa.run("papactl top -n 1 -d 0.5").stdout.splitlines()
    assert float(rows[1].split()[3]) > 5  # of one processor; the shell that papad knows sleeps


def test_the_manual_is_where_man_finds_it(papa: Container) -> None:
    for page, words in (("papactl", "EXIT STATUS"), ("papad", "SIGHUP"), ("org.papa.Kernel", "MakeProcess")):
        assert words in papa.run(f"MANWIDTH=80 man {page}").stdout


@pytest.mark.parametrize(
    ("shell", "prompt", "setup"),
    [
        ("bash --norc", "PS1='ready> '", "source /usr/local/share/bash-completion/completions/papactl"),
        (
            "zsh -f",
            "PS1='ready> '",
            "autoload -Uz compinit; compinit -u -d /tmp/zcompdump; zstyle ':completion:*' menu no",
        ),
        ("fish --private", "function fish_prompt; echo 'ready> '; end", "true"),
    ],
)
def test_a_shell_completes_names(papa: Container, shell: str, prompt: str, setup: str) -> None:
    papa.run("papactl run web-server -- sleep 1000 && papactl run worker -- sleep 1000")
    with terminal(papa, shell) as there:
        there.type(f"{prompt}\n")
        there.until(r"(?m)^ready>$")
        there.type(f"{setup}; clear; echo set''up\n")
        there.until(r"(?ms)^setup$.*^ready>$")
        there.type("papactl show web\t")
        there.until(r"papactl show web-server")
        there.type("\x15")  # a shell takes a tab that comes with other keys for one that was pasted
        there.until(r"(?m)^ready>$")
        there.type("papactl exit-i\t")
        there.until(r"papactl exit-if-idle")
        there.type("\x15exit\n")
        there.to_the_end()
