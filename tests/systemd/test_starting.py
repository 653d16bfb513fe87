"""The three ways of starting the kernel, on each kind of system, and what a person sees of it then."""

import pytest

from tests.systemd.container import Container

CALL = ["busctl", "call", "org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel", "ListValues", "as", "0"]
CONNECT = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], 20202), 20); s.settimeout(20); print(s.recv(100))"
)
#: Take papad's unit away.
HIDE = (
    "systemctl show --property=FragmentPath --value papa.service >/root/unit;"
    " mv $(cat /root/unit) /root/papa.service; systemctl daemon-reload"
)


def is_active(container: Container) -> bool:
    return container.run("systemctl is-active papa.service", check=False).stdout == "active\n"


def test_systemctl_starts_it(container: Container) -> None:
    assert not is_active(container)
    container.run("systemctl start papa")
    assert is_active(container)
    assert container.run(CALL).stdout == "a{ss} 0\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_first_connection_to_its_port_starts_it(container: Container, host: str) -> None:
    assert not is_active(container)
    assert "> " in container.run(["python3", "-c", CONNECT, host]).stdout  # the prompt
    container.wait_until("systemctl is-active --quiet papa.service")  # the port is served a moment before the bus


def test_the_first_call_on_the_bus_starts_it(container: Container) -> None:
    assert not is_active(container)
    assert container.run(CALL).stdout == "a{ss} 0\n"
    assert is_active(container)


@pytest.mark.parametrize(
    ("broken", "remedy"),
    [
        ("systemctl mask --runtime --quiet papa.service", "systemctl unmask --runtime papa"),
        (HIDE, "mv /root/papa.service $(cat /root/unit); systemctl daemon-reload"),
    ],
    ids=["masked", "no unit"],
)
def test_what_systemd_refuses_is_said_at_once(container: Container, broken: str, remedy: str) -> None:
    """With either bus: what is wrong and what to do, and no silence in which it is tried again."""
    container.run(broken)
    try:
        refused = container.run("papactl list", check=False)
        status = container.run("papactl status", check=False)
    finally:
        container.run(remedy)
    assert refused.stderr.startswith("papactl: systemd does not start papad: ")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (5, 1)
    assert remedy.rpartition("; ")[2].replace(" --runtime", "") in refused.stderr
    assert (status.returncode, "'systemctl unmask papa'" in status.stderr) == (3, "unmask" in remedy)
    assert container.run("papactl list").stdout == ""


def test_it_starts_with_the_system_where_it_is_enabled(machine: Container) -> None:
    machine.run("systemctl enable --quiet papa.service")
    wanted = machine.run("systemctl show --property=Wants --value multi-user.target").stdout.split()
    machine.run("systemctl disable --quiet papa.service && systemctl enable --quiet papa.socket")
    assert "papa.service" in wanted


def test_status_says_what_it_holds(container: Container) -> None:
    container.run("systemctl start papa")
    status = container.run("systemctl status --no-pager papa").stdout
    assert "Active: active (running)" in status
    assert 'Status: "0 sockets, 0 values, 0 processes' in status


def test_busctl_shows_it_as_a_good_service(container: Container) -> None:
    tree = container.run("busctl tree --list org.papa.Kernel").stdout.splitlines()
    first = ["/", "/org", "/org/freedesktop", "/org/freedesktop/LogControl1", "/org/papa", "/org/papa/Kernel"]
    assert tree[:6] == first
    assert all(path.startswith("/org/papa/Kernel/") for path in tree[6:])
    methods = container.run("busctl introspect org.papa.Kernel /org/papa/Kernel org.papa.Kernel").stdout
    assert ".MakeProcess" in methods
    assert ".Version" in methods


def test_the_journal_has_no_warnings(container: Container) -> None:
    since = f"--after-cursor={container.journal_cursor()}"
    container.run("systemctl start papa && systemctl restart papa && systemctl stop papa")
    assert "Started papa.service" in container.journal(since, "--unit=papa.service", "--unit=papa.socket")
    assert container.journal(since, "--unit=papa.service", "--unit=papa.socket", "--priority=warning") == ""
    # Nor has anybody else one about it: the message bus about its policy, systemd about its units.
    assert container.journal(since, "--priority=warning", "--grep=papa", "--case-sensitive=false") == ""
    # Other tests' doing: who is turned away, and who is left running.
    refused = ("security policy denied", " was refused: ", "goes on without papad")
    boot = [line for line in container.boot_warnings if "papa" in line.lower()]
    assert [line for line in boot if not any(words in line for words in refused)] == []


def test_without_ipv6_the_port_is_there_on_ipv4(machine: Container) -> None:
    switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
    machine.run(f"systemctl stop papa.socket && mount -o remount,rw /proc/sys && echo 1 >{switch}")
    try:
        machine.run("systemctl start papa.socket")
        assert "> " in machine.run(["python3", "-c", CONNECT, "127.0.0.1"]).stdout
    finally:
        machine.run(f"echo 0 >{switch}")
