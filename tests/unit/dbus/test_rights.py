"""Which rights each call takes."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from papa_dbus.bus import Message, Variant
from papa_dbus.service.access.policy import Right
from papa_dbus.service.dbus.rights import rights_for

PACKAGE = Path(__file__).parents[3] / "papa_dbus"
BOTH = [Right.INSPECT, Right.MANAGE]


def rights(member: str, signature: str = "", *body: object) -> list[Right]:
    """Return the rights that a call takes."""
    call = Message(
        destination="org.papa.Kernel", path="/", interface="a.b", member=member, signature=signature, body=list(body)
    )
    call.rest = None
    return list(rights_for(call))


@pytest.mark.parametrize(("signature", "before"), [("asa{sv}", [[]]), ("a{sv}", [])], ids=["kernel", "object"])
@pytest.mark.parametrize("member", ["Watch", "OpenOutput"])
def test_observing_takes_the_right_to_inspect(member: str, signature: str, before: list[object]) -> None:
    assert rights(member, signature, *before, {"mode": Variant("s", "observe")}) == [Right.INSPECT]
    for options in ({}, {"mode": Variant("s", "consume")}, {"mode": Variant("s", "nosuch")}):
        assert rights(member, signature, *before, options) == BOTH
    assert rights(member, "s", "observe") == [Right.MANAGE]


def test_what_is_privileged_in_the_contract_takes_the_right_to_manage() -> None:
    """Those that watch are left out: their options decide."""
    marked = {}
    for file in PACKAGE.glob("*.xml"):
        root = ElementTree.fromstring(file.read_text())  # noqa: S314 (our own)
        for method in root.iter("method"):
            marked[method.get("name")] = any(
                (each.get("name"), each.get("value")) == ("org.freedesktop.systemd1.Privileged", "true")
                for each in method.iter("annotation")
            )
    assert not marked.pop("Watch")
    assert not marked.pop("OpenOutput")
    assert marked == {name: rights(str(name)) == [Right.MANAGE] for name in marked}
    assert len(marked) > 15


@pytest.mark.parametrize("member", ["OpenSocket", "Open", "OpenProcess", "OpenPidfd", "Remove", "MakeProcesses", "Set"])
def test_what_acts_takes_the_right_to_manage(member: str) -> None:
    assert rights(member) == [Right.MANAGE]
