"""A descriptor store that is full, one that lacks something, one that has too much, and a damaged log."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd.container import Container
from tests.systemd.machines import as_after_boot
from tests.systemd.test_serving import PYTHON, call, watch
from tests.systemd.test_survival import nothing_is_left

DROP_IN = "/run/systemd/system/papa.service.d/test.conf"
MAKE = """
import asyncio, sys
from papa_dbus.bus import Bus, address_of
from papa_dbus.errors import PapaError
NAME = ("org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel")
async def main():
    bus = Bus(address_of("system"))
    await bus.start()
    try:
        await bus.call(*NAME, "MakeProcess", "sasa{sv}", [sys.argv[1], ["touch", f"/run/{sys.argv[1]}"], {}], 10)
    except PapaError as error:
        print(error.code, error)
    await bus.close()
asyncio.run(main())
"""


def papad_with(container: Container, setting: str) -> Container:
    """Give a container with the kernel running and one setting of its service changed."""
    as_after_boot(container)
    container.copy_in(Path(__file__).with_name("storekeeper.py"), "/root/storekeeper.py")
    container.run(f"mkdir -p $(dirname {DROP_IN}) && printf '[Service]\\n{setting}\\n' > {DROP_IN}")
    container.run("systemctl daemon-reload && systemctl start papa")
    return container


def as_before(container: Container) -> None:
    container.run(f"rm {DROP_IN} && systemctl daemon-reload")
    as_after_boot(container)


REMEDY = "remove sockets or processes, or raise it"
KEEPS_FIVE = f"systemd keeps 5 descriptors for papad at most (FileDescriptorStoreMax=); {REMEDY}"
STARTS_WITH_FIVE = f"papad may be started with 5 kept descriptors at most (LimitNOFILE=); {REMEDY}"


@pytest.fixture(
    params=[
        ("bookworm", "FileDescriptorStoreMax=5", KEEPS_FIVE),  # which has to be asked for it
        ("trixie", "FileDescriptorStoreMax=5", KEEPS_FIVE),
        ("trixie", "LimitNOFILE=69:10000", STARTS_WITH_FIVE),
    ],
    ids=lambda param: f"{param[0]} {param[1]}",
)
def full(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Iterator[tuple[Container, str]]:
    """Give a kernel that can have five descriptors kept, and what it says beyond."""
    kind, setting, says = request.param
    yield papad_with(containers(kind), setting), says
    as_before(containers(kind))


@pytest.fixture
def papa(machine: Container) -> Iterator[Container]:
    """Give a kernel behind whose back its descriptor store can be changed."""
    yield papad_with(machine, "NotifyAccess=all")
    as_before(machine)


def count(container: Container) -> int:
    return int(container.run("systemctl show --property=NFileDescriptorStore --value papa").stdout)


def restart(container: Container) -> str:
    """Kill papad, and wait until it is there again; gives what the journal says of it."""
    cursor = container.journal_cursor()
    container.run("systemctl kill --kill-who=main --signal=KILL papa")
    container.wait_for_journal("is ready", cursor)
    return container.journal(f"--after-cursor={cursor}", "--unit=papa.service")


def test_beyond_what_systemd_keeps_nothing_is_begun(full: tuple[Container, str]) -> None:
    container, says = full
    call(
        container, "MakeProcess", "sasa{sv}", "first", "2", "sleep", "600", "0"
    )  # however many it has, they are one there
    for n in range(4):
        call(container, "MakeSocket", "sa{sv}", f"s{n}", "0")  # to the last one
    said = container.run([PYTHON, "-c", MAKE, "second"]).stdout
    assert said == f"limit {says}\n"
    assert container.run("ls /run/second", check=False).returncode != 0
    container.wait_until(f"[ $({count_command()}) = 5 ]")
    scopes = container.run("systemctl list-units --all --plain --no-legend 'papa-*.scope'").stdout
    assert [line.split()[0] for line in scopes.splitlines()] == ["papa-first.scope"]
    one_more = ["busctl", "call", "org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel", "MakeSocket", "sa{sv}"]
    refused = container.run([*one_more, "more", "0"], check=False)
    assert says in refused.stderr + refused.stdout
    said = restart(container)
    assert "recovered: 4 sockets, 0 values, 1 process" in said
    assert "not recovered" not in said


def count_command() -> str:
    return "systemctl show --property=NFileDescriptorStore --value papa"


NAMES = """
import sqlite3, sys
query = ("SELECT 'p' || key FROM processes WHERE name = ?1 UNION ALL SELECT 's' || key FROM sockets WHERE name = ?1")
print(*(row[0] for row in sqlite3.connect("/run/papa/state.sqlite").execute(query, sys.argv[1:])))
"""


def test_what_systemd_does_not_give_back_is_named_and_the_rest_is_there(papa: Container) -> None:
    for name in ("lost", "kept"):
        call(papa, "MakeProcess", "sasa{sv}", name, "2", "sleep", "600", "0")
        call(papa, "MakeSocket", "sa{sv}", name, "0")
    for kept_as in papa.run(["python3", "-c", NAMES, "lost"]).stdout.split():
        papa.run(["python3", "/root/storekeeper.py", "drop", kept_as])
    assert count(papa) == 2
    said = restart(papa)
    assert "not recovered: socket 'lost': its descriptor did not come back" in said
    assert "not recovered: process 'lost' (PID " in said
    assert "recovered: 1 socket, 0 values, 1 process" in said
    assert papa.run("systemctl is-active papa-lost.scope papa-kept.scope").stdout == "active\nactive\n"
    call(papa, "MakeSocket", "sa{sv}", "lost", "0")  # its name is free again
    said = restart(papa)
    assert "not recovered" not in said
    assert "recovered: 2 sockets, 0 values, 1 process" in said


def test_a_descriptor_that_nobody_knows_is_named_and_given_up(papa: Container) -> None:
    call(papa, "SetValue", "ss", "v", "1")
    papa.run(["python3", "/root/storekeeper.py", "keep", "s999"])
    papa.run(["python3", "/root/storekeeper.py", "keep", "odd"])
    assert count(papa) == 2
    said = restart(papa)
    assert "descriptors kept as 's999' belong to nothing that is stored; they are given up" in said
    assert "what was passed as 'odd' is not hosted, and closed: it is no socket" in said
    assert call(papa, "GetValue", "s", "v") == 's "1"\n'
    nothing_is_left(papa)


def goes_on_printing(container: Container) -> None:
    """Whoever counts in /run/printed is neither dead nor held up."""
    printed = int(container.wait_until("grep . /run/printed"))  # it is empty for a moment each time
    container.wait_until(f"[ $(cat /run/printed) -gt {printed + 5} ]")


def test_who_prints_into_a_pipe_that_nobody_knows_lives_on(papa: Container) -> None:
    """SIGPIPE would end it were the pipe closed, and a pipe that is not read would hold it up."""
    pid = papa.run(["python3", "/root/storekeeper.py", "stranger", "p999"]).stdout.strip()
    for _ in range(2):
        said = restart(papa)
        assert f"not recovered: descriptors kept as 'p999', of PID {pid}, belong to nothing that is stored" in said
        goes_on_printing(papa)
    papa.run(["kill", pid])
    nothing_is_left(papa)


def test_a_damaged_store_ends_nobody(papa: Container) -> None:
    printer = "i=0; while echo $i; do i=$((i+1)); echo $i > /run/printed; sleep 0.02; done"
    call(papa, "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", printer, "0")
    papa.run("systemctl kill --signal=STOP --kill-who=main papa")
    papa.run("cd /run/papa && rm -f state.sqlite-wal state.sqlite-shm && echo rubbish > state.sqlite")
    said = restart(papa)
    assert "state.sqlite is damaged" in said
    assert "it is kept as /run/papa/state.sqlite.damaged-" in said
    assert "not recovered: descriptors kept as 'p1', of PID " in said
    assert call(papa, "ListProcesses", "as", "0") == "a{sa{sv}} 0\n"
    goes_on_printing(papa)
    papa.run("systemctl stop papa-p.scope")
    nothing_is_left(papa)


def test_a_process_whose_log_is_damaged_is_hosted_and_has_a_new_one(papa: Container) -> None:
    papa.run("rm -f /root/fifo && mkfifo /root/fifo")
    call(papa, "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", "echo one; read x < /root/fifo; echo two; exit 3", "0")
    damage = (
        "pid=$(systemctl show --property=MainPID --value papa); for fd in /proc/$pid/fd/*; do case $(readlink $fd) in "
        "*memfd:papa-index*) head -c 128 /dev/zero | tr '\\0' '\\377' | dd of=$fd conv=notrunc status=none;; esac; done"
    )
    listed = "busctl call org.papa.Kernel /org/papa/Kernel org.papa.Kernel ListProcesses as 0"
    papa.wait_until(f"{listed} | grep '\"buffered\" t 4'")
    papa.run(damage)
    said = restart(papa)
    assert "not recovered: process 'p' (PID " in said
    assert "its unread output is lost, and its numbers begin anew: the index's header makes no sense" in said
    said = restart(papa)
    assert "not recovered" not in said
    papa.run("echo > /root/fifo")
    signals = watch(papa, "p")
    assert [record[3] for member, body in signals if member == "Output" for record in body[2]] == ["two\n"]
    assert signals[-1][1][4:] == [3, True], json.dumps(signals)
    nothing_is_left(papa)
