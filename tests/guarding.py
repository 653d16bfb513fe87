"""Guard the loop of each papad that a test starts as a process: no callback may hold it for long (tests/guard)."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard import sitecustomize as guard

FOLDER = Path(guard.__file__).parent


@pytest.fixture(scope="session", autouse=True)
def guard_file() -> Iterator[Path]:
    """Have each Python process of this session import the guard; give the file that it writes to."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", guard.FILE)}
    descriptor, name = tempfile.mkstemp(prefix="papa-guard-")
    os.fchmod(descriptor, 0o666)  # papads of other users, too
    os.close(descriptor)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *filter(None, [before["PYTHONPATH"]])])
    os.environ[guard.FILE] = name
    yield Path(name)
    for variable, value in before.items():
        os.environ.pop(variable) if value is None else os.environ.update({variable: value})
    os.unlink(name)


@pytest.fixture(autouse=True)
def loop_is_never_held(request: pytest.FixtureRequest, guard_file: Path) -> Iterator[None]:
    """Fail the test during which the loop of any papad was held for too long, unless it stops papad itself."""
    seen = guard_file.stat().st_size
    yield
    with guard_file.open("rb") as file:
        file.seek(seen)
        held = file.read().decode()
    assert not held or request.node.get_closest_marker("stops_papad"), f"papad's loop was held:\n{held}"
