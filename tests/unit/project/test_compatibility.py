"""docs/reference/compatibility.md and the contract name what papad says that it has."""

import re
from pathlib import Path

from papa_dbus.names import FEATURES

PROJECT = Path(__file__).parents[3]


def test_the_page_has_each_feature() -> None:
    page = (PROJECT / "docs/reference/compatibility.md").read_text()
    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == FEATURES


def test_the_contract_says_what_belongs_to_which_feature() -> None:
    contract = "".join(file.read_text() for file in (PROJECT / "papa_dbus").glob("*.xml"))
    assert set(re.findall(r"Feature: ([a-z-]+)\.", contract)) == set(FEATURES)
