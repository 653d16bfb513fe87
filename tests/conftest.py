"""What holds for every folder of tests: a test that cannot run fails."""

import os

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that needs root and does not have it."""
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.fail("this test needs root; -m 'not root' leaves it and its like out", pytrace=False)
