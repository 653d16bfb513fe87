"""A client may have more descriptors than select(2) knows."""

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import papa_dbus
from papa_dbus.client.compat.line_connection import readable

_HIGH = 1500


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """There may be so many."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2 * _HIGH), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
def test_one_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.dup2(reading, _HIGH)
    os.close(reading)
    try:
        assert not readable(_HIGH)
        assert not readable(_HIGH, 0.01)
        os.close(writing)
        assert readable(_HIGH, None)
    finally:
        os.close(_HIGH)


def test_nothing_uses_select() -> None:
    for path in Path(papa_dbus.__file__).parent.rglob("*.py"):
        assert not re.search(r"\bselect\.select\(", path.read_text()), path
