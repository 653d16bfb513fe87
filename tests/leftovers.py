"""Check after every test of a folder that it has left no task, child, descriptor or file."""

import asyncio
import gc
import inspect
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import descriptors, every_child, turns

#: Turns of the loop in which it closes a generator that the test did not read to its end.
_TURNS = 5


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Have all that tempfile makes in a folder of this run's own, so that what is left there is a test's."""
    tmp_path_factory.getbasetemp()  # stays where pytest has it, and some runs longer
    before = tempfile.tempdir
    folder = Path(tempfile.mkdtemp(prefix="papa-tests-"))
    folder.chmod(0o711)  # other users' programs find their files, too
    tempfile.tempdir = str(folder)
    yield folder
    tempfile.tempdir = before
    folder.rmdir()


@pytest.fixture(autouse=True)
def nothing_is_left(temporary_folder: Path) -> Iterator[None]:
    """Fail the test that leaves a child, a descriptor or a file. It is the first fixture and so the last to end."""
    before = _there(temporary_folder)
    yield
    if _there(temporary_folder).keys() - before.keys():
        gc.collect()  # what only a cycle held is not left
    there = _there(temporary_folder)
    left = sorted(there[key] for key in there.keys() - before.keys())
    assert not left, f"left behind: {left}"


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Fail the test whose loop still has a task; pytest-asyncio would cancel it in silence."""
    yield
    await turns(_TURNS)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"left behind: {left}"


def ask_for_tasks(items: list[pytest.Item]) -> None:
    """Have each test that has a loop looked at for tasks, after all its other fixtures have ended."""
    name = no_task_is_left.__name__
    for item in items:
        if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.function):
            continue
        if name not in item.fixturenames:  # one list for all parameters of a test
            item.fixturenames.insert(0, name)


def _there(folder: Path) -> dict[str, str]:
    """Return what could be left, and a description of each for whoever reads the failure."""
    files = {path.name: f"file {path}" for path in folder.iterdir()}
    children = {f"child {pid}": f"child {pid} ({_command(pid)})" for pid in every_child()}
    opened = {f"{fd} {what}": f"descriptor {fd} ({what})" for fd, what in descriptors().items()}
    return {**files, **children, **opened}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") or "zombie"
    except OSError:
        return "gone"
