"""A connection to a papad that holds nothing."""

from collections.abc import Iterator

import pytest

from tests.bus.lineclient import LineClient, Papad


@pytest.fixture
def papad(shared_papad: Papad) -> Iterator[Papad]:
    """A papad that holds nothing, before and after."""
    yield shared_papad
    shared_papad.clear()


@pytest.fixture
def client(papad: Papad) -> Iterator[LineClient]:
    """One connection."""
    with papad.client() as client:
        yield client
