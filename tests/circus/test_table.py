"""Circus's options and commands with use_papa beside without, and the page that has the table of it."""

import pytest

from tests.circus import options, surroundings
from tests.circus.environments import VERSIONS
from tests.circus.sidebyside import Place

#: What Circus's code has besides options: of its own making, or written another way in a file.
_NO_OPTIONS = {
    "watcher": {"self", "name", "loop", "prereload_fn", "options", "rlimits", "hooks", "env", "stdout_stream"}
    | {"stderr_stream", "use_papa"},
    "circus": {"papa_endpoint"},
    "socket": {"use_papa", "name"},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_option_is_the_same_or_told(version: str) -> None:
    """And the page says so: it is made by the same comparison."""
    with Place(version) as place:
        rows = options.compare(place)
    assert [row for row in rows if row.differs and not row.told] == []
    labels = [(row.section, row.option) for row in rows]
    assert sorted(labels) == sorted(set(labels))
    page = options.PAGE.read_text()
    assert options.table(rows) in page, "write it anew: python -m tests.circus.options"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_has_each_option_that_circus_reads(version: str) -> None:
    with Place(version) as place:
        known = surroundings.known_options(place)
    compared = {
        "circus": [*options.CIRCUS, *surroundings.CIRCUS],
        "watcher": options.WATCHER,
        "socket": [*options.SOCKET, "interface"],
    }
    for section, names in known.items():
        words = {word.strip(",") for option in compared[section] for word in option.split()}
        assert names - words - _NO_OPTIONS[section] == set(), section
