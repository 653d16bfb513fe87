"""docs/reference/compatibility.md and the contract name what papad says that it has."""

import re
from pathlib import Path
from xml.etree import ElementTree

from papa_dbus.names import BUS_NAME, FEATURES

PROJECT = Path(__file__).parents[3]


def test_the_page_has_each_feature() -> None:
    page = (PROJECT / "docs/reference/compatibility.md").read_text()
    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == FEATURES


def test_what_has_come_since_is_marked() -> None:
    marked = set()
    for file in (PROJECT / "papa_dbus").glob("*.xml"):
        for member in ElementTree.fromstring(file.read_text()).iter():  # noqa: S314 (our own)
            if any(each.get("name") == "org.gtk.GDBus.Since" for each in member.findall("annotation")):
                marked.add(f"{file.stem} {member.get('name')}")
    agreed = ElementTree.parse(PROJECT / "tests/bus/agreed.xml")  # noqa: S314 (our own)
    assert not marked & {f"{BUS_NAME} {member.get('name')}" for member in agreed.iter()}
    assert {f"{BUS_NAME} MakeProcesses", f"{BUS_NAME}.Process Watch", f"{BUS_NAME}.Socket UMask"} <= marked


def test_the_contract_says_what_belongs_to_which_feature() -> None:
    contract = "".join(file.read_text() for file in (PROJECT / "papa_dbus").glob("*.xml"))
    assert set(re.findall(r"Feature: ([a-z-]+)\.", contract)) == set(FEATURES)
