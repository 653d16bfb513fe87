"""docs/bounds.md says what the code does: each number, and no bound left out."""

import importlib
import re
from pathlib import Path

import pytest

from papa_dbus.service import limits

ROWS = re.findall(
    r"^\| .+? \| ([\d,.]+) \| `([\w.]+)` \|", (Path(__file__).parents[2] / "docs/bounds.md").read_text(), re.MULTILINE
)
PACKAGES = {
    **dict.fromkeys(("names", "bus", "bus_reader", "bus_decoder"), "papa_dbus"),
    "link": "papa_dbus.client",
}


@pytest.mark.parametrize(("number", "constant"), ROWS, ids=[constant for _, constant in ROWS])
def test_each_number_is_the_codes(number: str, constant: str) -> None:
    module, name = constant.split(".")
    package = PACKAGES.get(module, "papa_dbus.service")
    assert getattr(importlib.import_module(f"{package}.{module}"), name) == float(number.replace(",", ""))


def test_every_limit_is_told() -> None:
    told = {constant.partition(".")[2] for _, constant in ROWS} | {"DEFAULT_BACKLOG"}
    numbers = {name for name, value in vars(limits).items() if name.isupper() and isinstance(value, (int, float))}
    assert numbers <= told
