"""Which rights each call takes."""

import pytest

from papa_dbus.bus import Message, Variant
from papa_dbus.service.access.policy import Right
from papa_dbus.service.dbus.rights import rights_for

BOTH = [Right.INSPECT, Right.MANAGE]


def rights(member: str, signature: str = "", *body: object) -> list[Right]:
    """Return the rights that a call takes."""
    call = Message(
        destination="org.papa.Kernel", path="/", interface="a.b", member=member, signature=signature, body=list(body)
    )
    call.rest = None
    return list(rights_for(call))


@pytest.mark.parametrize(("signature", "before"), [("asa{sv}", [[]]), ("a{sv}", [])], ids=["kernel", "object"])
def test_observing_takes_the_right_to_inspect(signature: str, before: list[object]) -> None:
    assert rights("Watch", signature, *before, {"mode": Variant("s", "observe")}) == [Right.INSPECT]
    for options in ({}, {"mode": Variant("s", "consume")}, {"mode": Variant("s", "nosuch")}):
        assert rights("Watch", signature, *before, options) == BOTH
    assert rights("Watch", "s", "observe") == [Right.MANAGE]


@pytest.mark.parametrize("member", ["OpenSocket", "Open", "OpenProcess", "OpenPidfd", "Remove", "MakeProcesses", "Set"])
def test_what_acts_takes_the_right_to_manage(member: str) -> None:
    assert rights(member) == [Right.MANAGE]
