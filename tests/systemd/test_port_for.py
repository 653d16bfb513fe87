"""An administrator says in /etc/default/papa who is served on port 20202; papa.socket keeps the port in any case."""

from collections.abc import Iterator

import pytest

from tests.systemd.container import Container
from tests.systemd.test_access import make_people
from tests.systemd.test_starting import CALL, CONNECT

OPTIONS = "/etc/default/papa"


@pytest.fixture
def people_of_machine(machine: Container) -> Iterator[None]:
    """Make two users: mary is a member of the group papa, john is not."""
    yield from make_people(machine)


@pytest.mark.usefixtures("people_of_machine")
def test_an_administrator_chooses_who_is_served_on_the_port(machine: Container) -> None:
    def told(user: str | None = None) -> str:
        return machine.run(["python3", "-c", CONNECT, "127.0.0.1"], user).stdout

    try:
        for choice, served, refusal in (
            ("root", [None], "on this port (--port-for root)"),
            ("none", [], "papad serves nobody on this port (--port-for none)"),
            ("members", [None, "mary"], "root and the group papa; you are"),
        ):
            machine.run(f"echo PAPAD_OPTIONS=--port-for {choice} >{OPTIONS} && systemctl restart papa")
            for user in (None, "mary", "john"):
                assert ("Papa is home" if user in served else refusal) in told(user)
            assert machine.run(CALL, "mary").stdout.startswith("a{ss}")
    finally:
        machine.run(f"rm -f {OPTIONS} && systemctl restart papa")
    assert "Papa is home" in told("mary")
