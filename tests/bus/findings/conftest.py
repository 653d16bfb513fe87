"""What the tests of several findings start with: a papad that is started again with what it had, and its client."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.bus.client import Client, connected
from tests.bus.isolated import SupervisedPapad


@pytest.fixture
def supervised(bus_address: str, tmp_path: Path) -> Iterator[SupervisedPapad]:
    """A papad that finds its descriptors again, for the test to start; no traceback may be in its log."""
    papad = SupervisedPapad(bus_address, tmp_path)
    yield papad
    log = papad.stop()
    assert "Traceback" not in log, log


@pytest.fixture
async def caller(bus_address: str, supervised: SupervisedPapad) -> AsyncIterator[Client]:
    """A client on that papad's bus."""
    async for client in connected(bus_address):
        yield client
