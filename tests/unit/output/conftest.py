"""A process's output without a process."""

from collections.abc import Iterator

import pytest

from tests.source import Source


@pytest.fixture
def source() -> Iterator[Source]:
    """Yield a log with a pipe that fills it."""
    source = Source()
    yield source
    source.close()
