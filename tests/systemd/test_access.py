"""Who may talk to the kernel of the system: root and the group papa, on the bus and on the port."""

from collections.abc import Iterator

import pytest

from tests.systemd.bed import Bed
from tests.systemd.test_starting import CALL, CONNECT

# Tries to take the kernel's name on the system bus, with the library that Papa brings along.
OWN = """
import asyncio
from dbus_next import BusType
from dbus_next.aio import MessageBus
async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    print(await bus.request_name("org.papa.Kernel"))
asyncio.run(main())
"""


@pytest.fixture
def people(bed: Bed) -> Iterator[None]:
    """Make two users: mary is a member of the group papa, john is not."""
    bed.run("useradd --create-home --groups papa mary && useradd --create-home john")
    yield
    bed.run("userdel --remove mary 2>&1 && userdel --remove john 2>&1")


@pytest.mark.usefixtures("people")
def test_the_bus_lets_the_group_in_and_nobody_else(bed: Bed) -> None:
    refused = bed.run(CALL, "john", check=False)
    assert refused.returncode != 0
    assert "Access denied" in refused.stderr
    assert bed.run(CALL, "mary").stdout == "a{ss} 0\n"
    assert bed.run(CALL, "john", check=False).returncode != 0


@pytest.mark.usefixtures("people")
def test_nobody_else_takes_its_name(bed: Bed) -> None:
    for user in ("mary", "john"):
        done = bed.run(["/usr/local/lib/papa/bin/python", "-c", OWN], user, check=False)
        assert "not allowed to own" in done.stderr or "refused by policy" in done.stderr  # dbus-daemon or dbus-broker


@pytest.mark.usefixtures("people")
def test_the_port_lets_the_group_in_and_tells_others_why_not(bed: Bed) -> None:
    read_all = CONNECT.replace("print(s.recv(100))", "print(b''.join(iter(lambda: s.recv(100), b'')).decode())")
    for host in ("127.0.0.1", "::1"):
        assert "> " in bed.run(["python3", "-c", CONNECT, host], "mary").stdout
        told = bed.run(["python3", "-c", read_all, host], "john").stdout.splitlines()
        assert "group papa" in told[0]
        assert "".join(told[1:]).strip(" >") == ""  # the prompt, which ends each reply for a client
