"""docs/threat-model.md names tests that are there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(test_\w+)`", (PROJECT / "docs/threat-model.md").read_text())))
TESTS = "\n".join(file.read_text() for file in PROJECT.glob("tests/**/*.py"))
WRITTEN = set(re.findall(r"^(?:async )?def (test_\w+)\(", TESTS, re.MULTILINE))


def test_many_are_named() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize("name", NAMED)
def test_it_is_there(name: str) -> None:
    assert name in WRITTEN
