"""Circus's options and commands with use_papa beside without, and the page that has the table of it."""

import pytest

from tests.circus import options
from tests.circus.environments import VERSIONS
from tests.circus.sidebyside import Place


@pytest.mark.parametrize("version", VERSIONS)
def test_each_option_is_the_same_or_told(version: str) -> None:
    """And the page says so: it is made by the same comparison."""
    with Place(version) as place:
        rows = options.compare(place)
    assert [row for row in rows if row.differs and not row.told] == []
    page = options.PAGE.read_text()
    assert options.table(rows) in page, "write it anew: python -m tests.circus.options"
