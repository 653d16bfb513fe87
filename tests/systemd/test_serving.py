"""On a booted systemd: busctl and telnet make a socket and a process that serves on it, and a watch hears it."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

from tests.systemd.container import Container

KERNEL = "org.papa.Kernel /org/papa/Kernel org.papa.Kernel"
PYTHON = "/usr/local/lib/papa/bin/python"

# Serves on the socket that it is handed by the LISTEN_FDS protocol.
SERVER = (
    "import socket\n"
    "s = socket.socket(fileno=3)\n"
    "print('serving', flush=True)\n"
    "while True:\n"
    "    c, _ = s.accept(); c.sendall(b'hello from papa'); c.close(); print('served', flush=True)"
)

# Watches processes until all have ended, and prints each signal as a line of JSON.
WATCHER = """
import asyncio, json, sys
from papa_dbus.bus import Bus, address_of
NAME = ("org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel")
async def main():
    bus = Bus(address_of("system"))
    signals = asyncio.Queue()
    bus.on_signal.append(signals.put_nowait)
    await bus.start()
    reply = await bus.call(*NAME, "Watch", "asa{sv}", [sys.argv[1:], {}])
    number, left = reply.body[0], set(reply.body[1])
    print(json.dumps(["Watch", number]), flush=True)
    while left:
        signal = await asyncio.wait_for(signals.get(), 30)
        if signal.interface != NAME[0]:
            continue
        print(json.dumps([signal.member, signal.body], default=bytes.decode), flush=True)
        seq = signal.body[2][-1][0] if signal.member == "Output" else signal.body[2]
        await bus.call(*NAME, "Acknowledge", "ta{st}", [number, {signal.body[1]: seq}])
        if signal.member == "Exited":
            left.discard(signal.body[1])
    await bus.close()
asyncio.run(main())
"""


# Makes many processes in one call, and prints how many have which unit.
MANY = """
import asyncio
from papa_dbus.client import aio
async def main():
    async with aio.connect() as kernel:
        requests = [aio.ProcessRequest(f"m{n}", ["sleep", "1000"]) for n in range(300)]
        made = await kernel.make_processes(*requests)
    assert [each.unit for each in made] == [f"papa-m{n}.scope" for n in range(300)], made
    print(len(made))
asyncio.run(main())
"""


@pytest.fixture
def papa(machine: Container) -> Iterator[Container]:
    """Give the container with the kernel running, and take away what a test has left."""
    machine.run("systemctl start papa")
    yield machine
    machine.run("systemctl stop papa.service papa.slice")


def call(container: Container, member: str, *arguments: str) -> str:
    """Call a method with busctl; gives what it prints."""
    return container.run(["busctl", "call", "--", *KERNEL.split(), member, *arguments]).stdout


def watch(container: Container, *patterns: str) -> list[Any]:
    """Watch to the end; gives the signals."""
    return [json.loads(line) for line in container.run([PYTHON, "-c", WATCHER, *patterns]).stdout.splitlines()]


def test_busctl_makes_a_socket_and_a_process_that_serves_on_it(papa: Container) -> None:
    call(papa, "MakeSocket", "sa{sv}", "web", "1", "port", "q", "8080")
    made = call(
        papa, "MakeProcess", "sasa{sv}", "server", "3", "python3", "-c", SERVER, "1", "sockets", "as", "1", "web"
    )
    assert '"unit" s "papa-server.scope"' in made
    read = "import socket; print(socket.create_connection(('127.0.0.1', 8080), 20).recv(99))"
    assert papa.run(["python3", "-c", read]).stdout == "b'hello from papa'\n"
    papa.run("systemctl kill --signal=KILL papa-server.scope")
    signals = watch(papa, "server")
    said = [record for member, body in signals if member == "Output" for record in body[2]]
    assert "".join(record[3] for record in said) == "serving\nserved\n"
    assert [record[0] for record in said] == list(range(1, len(said) + 1))
    times = [record[1] for record in said]
    now = int(papa.run("date +%s%6N").stdout)
    assert now - 60_000_000 < times[0] <= times[-1] < now
    assert signals[-1][0] == "Exited"
    assert signals[-1][1][4:] == [-9, True]


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
def test_exited_says_how(papa: Container, script: str, code: int) -> None:
    call(papa, "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", script, "0")
    assert watch(papa, "p")[-1][1][4:] == [code, True]


def test_defect_34_each_process_has_a_scope_of_its_own_in_papas_slice(papa: Container) -> None:
    call(papa, "MakeProcess", "sasa{sv}", "a/b@c", "2", "sleep", "600", "0")
    shown = papa.run("systemctl show --property=Slice,Description,ActiveState 'papa-a\\x2fb\\x40c.scope'").stdout
    assert set(shown.splitlines()) == {
        "Slice=papa.slice",
        "Description=Papa process a/b@c",
        "ActiveState=active",
    }
    procs = "/sys/fs/cgroup/system.slice/papa.service/cgroup.procs"
    own = papa.run(f"for pid in $(cat {procs}); do cat /proc/$pid/comm; done").stdout.splitlines()
    assert sorted(own) == ["papa daemon fro", "papa fork serve"]
    pid = re.findall(r'"pid" u (\d+)', call(papa, "ListProcesses", "as", "0"))[0]
    papa.run(f"kill {pid}")
    watch(papa, "*")
    units = "systemctl list-units --all --plain --no-legend 'papa-*.scope'"
    papa.wait_until(f'[ -z "$({units})" ]')


def test_a_scope_whose_name_is_taken_gets_another(papa: Container) -> None:
    """A descendant of the old process still runs in its scope when the new one is made."""
    call(papa, "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", "sleep 600 > /dev/null 2>&1 & exit 0", "0")
    watch(papa, "p")
    made = call(papa, "MakeProcess", "sasa{sv}", "p", "2", "sleep", "600", "0")
    assert re.search(r'"unit" s "papa-p-\d+\.scope"', made)


def test_a_process_that_cannot_start_leaves_no_scope(papa: Container) -> None:
    """Many times: one that cannot enter its folder has ended before systemd puts it into its scope, or just after."""
    busctl = ["busctl", "call", "--", *KERNEL.split(), "MakeProcess"]
    asked = shlex.join([*busctl, "sasa{sv}", "p", "1", "true", "1", "working_dir", "s", "/nowhere"])
    papa.run(f"for i in $(seq 20); do {asked} 2>&1 | grep 'cannot enter /nowhere'; done")
    papa.wait_until("[ -z \"$(systemctl list-units --all --plain --no-legend 'papa-*.scope')\" ]")


def test_telnet_does_the_same_by_hand(papa: Container) -> None:
    """A person at a terminal, with the real telnet."""
    command = papa.command(["telnet", "localhost", "20202"])
    screen = pexpect.spawn(command[0], command[1:], timeout=20, encoding="utf-8", echo=False)
    try:
        screen.expect("Papa is home")
        screen.expect("> ")
        screen.sendline("help make process")
        screen.expect("working_dir")
        screen.expect("\n> ")
        screen.sendline("make socket web port=8080")
        screen.expect("web family=inet type=stream backlog=5 host=127.0.0.1 port=8080")
        screen.expect("\n> ")
        screen.sendline("m p hello watch=1 quote=shell sh -c 'echo \"a  line\"; exit 7'")
        screen.expect(r"out:hello:\d+\.\d+:8\r?\na  line")
        screen.expect(r"closed:hello:\d+\.\d+:7")
        screen.expect(r"\] ")
        screen.sendline("")
        screen.expect("Nothing left to watch")
        screen.expect("> ")
        screen.sendline("l p")
        screen.expect("> ")
        screen.sendline("r s web")
        screen.expect("> ")
        screen.sendline("quit")
        screen.expect("ok")
        screen.expect(pexpect.EOF)
    finally:
        screen.close(force=True)
    assert call(papa, "ListSockets", "as", "0") == "a{sa{sv}} 0\n"


def test_status_counts_what_is_there(papa: Container) -> None:
    call(papa, "MakeProcess", "sasa{sv}", "p", "2", "sleep", "600", "0")
    call(papa, "SetValue", "ss", "v", "1")
    want = 'Status: "0 sockets, 1 value, 1 process"'
    papa.wait_until(f"systemctl status --no-pager papa | grep '{want}'")
    assert (
        "papa daemon from papad" in papa.run("ps -o args= -p $(systemctl show --property=MainPID --value papa)").stdout
    )


def test_the_journal_can_be_asked_by_process_and_never_shows_values(papa: Container) -> None:
    cursor = papa.journal_cursor()
    secret = ("env", "a{ss}", "1", "SECRET", "hidden-in-env")
    call(papa, "MakeProcess", "sasa{sv}", "noted", "2", "sleep", "600", "1", *secret)
    call(papa, "SetValue", "ss", "v", "hidden-in-value")
    call(papa, "RemoveProcesses", "as", "1", "noted")
    papa.wait_for_journal("process 'noted' removed", cursor)
    assert "process 'noted' made by uid 0" in papa.journal("PAPA_PROCESS=noted")
    whole = papa.run(["journalctl", "--quiet", "--output=json", "--unit=papa.service"]).stdout
    assert "noted" in whole
    assert "hidden-in" not in whole


def test_the_system_bus_goes_and_comes_back(papa: Container) -> None:
    """The broker is killed and started again by systemd: the same process, the same port, its output complete."""
    call(papa, "MakeSocket", "sa{sv}", "web", "0")
    call(papa, "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c",
         "i=0; while [ ! -e /run/papa-go ]; do i=$((i+1)); echo $i; sleep 0.05; done; echo end", "0")  # fmt: skip
    before = papa.run("systemctl show --property=MainPID papa").stdout
    cursor = papa.journal_cursor()
    papa.run("systemctl kill --kill-who=main --signal=KILL dbus.service")
    papa.wait_for_journal("the message bus is back", cursor)
    papa.run("touch /run/papa-go")
    listed = call(papa, "ListProcesses", "as", "0")
    assert '"pid" u' in listed
    tree = papa.run("busctl tree --list org.papa.Kernel").stdout
    assert "/org/papa/Kernel/process/p\n" in tree
    assert "/org/papa/Kernel/socket/web\n" in tree
    signals = watch(papa, "p")
    papa.run("rm /run/papa-go")
    lines = "".join(r[3] for member, body in signals if member == "Output" for r in body[2]).split()
    assert lines == [*map(str, range(1, len(lines))), "end"]
    assert papa.run("systemctl show --property=MainPID papa").stdout == before


def test_each_of_many_processes_has_its_scope(papa: Container) -> None:
    """dbus-daemon takes 128 calls of papad's to systemd at a time; what it refused would run in papad's own cgroup."""
    assert papa.run([PYTHON, "-c", MANY]).stdout == "300\n"
    scopes = papa.run("systemctl list-units --plain --no-legend --state=running 'papa-m*.scope' | wc -l").stdout
    assert scopes.strip() == "300"


def test_the_log_level_of_the_service(papa: Container) -> None:
    """systemctl finds papad by the unit's BusName=, which ties the service to the bus no more than before."""
    assert papa.run("systemctl service-log-level papa").stdout == "info\n"
    assert papa.run("systemctl service-log-target papa").stdout == "journal\n"
    cursor = papa.journal_cursor()
    papa.run("systemctl service-log-level papa err")
    assert papa.run("systemctl service-log-level papa").stdout == "err\n"
    call(papa, "SetValue", "ss", "v", "x")
    papa.wait_for_journal("value 'v' made by uid 0", cursor)
    assert "papad's log level changed by uid 0" in papa.journal(f"--after-cursor={cursor}")
    refused = papa.run("systemctl service-log-level papa loud", check=False)
    assert refused.returncode
    papa.run("systemctl service-log-level papa debug")

    before = papa.run("systemctl show --property=MainPID papa").stdout
    assert "dbus" not in papa.run("systemctl show --property=Requires,BindsTo papa").stdout
    cursor = papa.journal_cursor()
    papa.run("systemctl kill --kill-who=main --signal=KILL dbus.service")
    papa.wait_for_journal("the message bus is back", cursor)
    assert papa.run("systemctl show --property=MainPID papa").stdout == before
    assert papa.run("systemctl service-log-level papa").stdout == "debug\n"
    cursor = papa.journal_cursor()
    papa.run("systemctl reload papa")
    papa.wait_for_journal(" is ready", cursor)
    assert papa.run("systemctl service-log-level papa").stdout == "info\n"
    call(papa, "RemoveValues", "as", "1", "v")


def test_a_users_processes_have_scopes_in_the_users_own_slice(machine: Container) -> None:
    machine.run("useradd --create-home ann && loginctl enable-linger ann")
    machine.run("systemctl start user@$(id -u ann).service")
    make = ["busctl", "--user", "call", "--", *KERNEL.split(), "MakeProcess", "sasa{sv}", "p", "2", "sleep", "600", "0"]
    try:
        assert '"unit" s "papa-p.scope"' in machine.run(make, "ann").stdout
        assert "Slice=papa.slice" in machine.run("systemctl --user show papa-p.scope", "ann").stdout
        pid = machine.run("pgrep -u ann sleep").stdout.strip()
        assert "/user.slice/" in machine.run(f"tail -n 1 /proc/{pid}/cgroup").stdout
    finally:
        machine.run("systemctl stop user@$(id -u ann) && loginctl disable-linger ann && userdel --remove ann 2>&1")
