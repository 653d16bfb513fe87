"""The three ways of starting the kernel, on each kind of system, and what a person sees of it then."""

import pytest

from tests.systemd.container import Bed

CALL = ["busctl", "call", "org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel", "ListValues", "as", "0"]
CONNECT = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], 20202), 20); s.settimeout(20); print(s.recv(100))"
)


def is_active(bed: Bed) -> bool:
    return bed.run("systemctl is-active papa.service", check=False).stdout == "active\n"


def test_systemctl_starts_it(bed: Bed) -> None:
    assert not is_active(bed)
    bed.run("systemctl start papa")
    assert is_active(bed)
    assert bed.run(CALL).stdout == "a{ss} 0\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_first_connection_to_its_port_starts_it(bed: Bed, host: str) -> None:
    assert not is_active(bed)
    assert "> " in bed.run(["python3", "-c", CONNECT, host]).stdout  # the prompt
    bed.wait_until("systemctl is-active --quiet papa.service")  # the port is served a moment before the bus


def test_the_first_call_on_the_bus_starts_it(bed: Bed) -> None:
    assert not is_active(bed)
    assert bed.run(CALL).stdout == "a{ss} 0\n"
    assert is_active(bed)


def test_it_starts_with_the_system_where_it_is_enabled(machine: Bed) -> None:
    machine.run("systemctl enable --quiet papa.service")
    wanted = machine.run("systemctl show --property=Wants --value multi-user.target").stdout.split()
    machine.run("systemctl disable --quiet papa.service && systemctl enable --quiet papa.socket")
    assert "papa.service" in wanted


def test_status_says_what_it_holds(bed: Bed) -> None:
    bed.run("systemctl start papa")
    status = bed.run("systemctl status --no-pager papa").stdout
    assert "Active: active (running)" in status
    assert 'Status: "0 sockets, 0 values, 0 processes' in status


def test_busctl_shows_it_as_a_good_service(bed: Bed) -> None:
    tree = bed.run("busctl tree --list org.papa.Kernel").stdout.splitlines()
    assert tree[:4] == ["/", "/org", "/org/papa", "/org/papa/Kernel"]
    assert all(path.startswith("/org/papa/Kernel/") for path in tree[4:])
    methods = bed.run("busctl introspect org.papa.Kernel /org/papa/Kernel org.papa.Kernel").stdout
    assert ".MakeProcess" in methods
    assert ".Version" in methods


def test_the_journal_has_no_warnings(bed: Bed) -> None:
    since = f"--after-cursor={bed.journal_cursor()}"
    bed.run("systemctl start papa && systemctl restart papa && systemctl stop papa")
    assert "Started papa.service" in bed.journal(since, "--unit=papa.service", "--unit=papa.socket")
    assert bed.journal(since, "--unit=papa.service", "--unit=papa.socket", "--priority=warning") == ""
    # Nor has anybody else one about it: the message bus about its policy, systemd about its units.
    assert bed.journal(since, "--priority=warning", "--grep=papa", "--case-sensitive=false") == ""
    # Other tests' doing: who is turned away, and who is left running.
    refused = ("security policy denied", " was refused: ", "goes on without papad")
    boot = [line for line in bed.boot_warnings if "papa" in line.lower()]
    assert [line for line in boot if not any(words in line for words in refused)] == []


def test_without_ipv6_the_port_is_there_on_ipv4(machine: Bed) -> None:
    switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
    machine.run(f"systemctl stop papa.socket && mount -o remount,rw /proc/sys && echo 1 >{switch}")
    try:
        machine.run("systemctl start papa.socket")
        assert "> " in machine.run(["python3", "-c", CONNECT, "127.0.0.1"]).stdout
    finally:
        machine.run(f"echo 0 >{switch}")
