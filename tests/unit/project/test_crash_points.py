"""Each step at which tests can have papad killed is one at which some test does it."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[2]
PACKAGE = TESTS.parent / "papa_dbus"


def crash_points() -> Iterator[str]:
    """Yield the steps of the code, each as often as it stands there."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="crash_point"), args=[ast.Constant(value=str(step))]):
                    yield step


def texts() -> Iterator[str]:
    """Yield the texts of the tests' code: a step, or one before the colon that PAPA_CRASH_POINT has behind it."""
    for file in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Constant(value=str(text)):
                    yield text.partition(":")[0].rpartition("=")[2]


def test_each_step_has_a_name_of_its_own_and_a_test() -> None:
    found = Counter(crash_points())
    assert max(found.values()) == 1, found
    assert set(found) <= set(texts()), set(found) - set(texts())
