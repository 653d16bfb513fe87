"""What holds for every folder of tests: a test that cannot run fails, and one that hangs says where."""

import asyncio
import gc
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Time only the test itself if machines are made for it; each step of making one has an end of its own."""
    for item in items:
        if item.path.parent.name in ("systemd", "circus") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(float(config.getini("timeout")), func_only=True))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that needs root and does not have it."""
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.fail("this test needs root; -m 'not root' leaves it and its like out", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the place at which each task of a test that timed out waits; pytest-timeout sees only the loop."""
    report = yield
    if call.excinfo is not None and "from pytest-timeout" in str(call.excinfo.value):
        tasks = [found for found in gc.get_objects() if isinstance(found, asyncio.Task) and not found.done()]
        report.sections.append(("tasks that wait", "\n".join(place_of(task) for task in tasks)))
    return report


def place_of(task: "asyncio.Task[object]") -> str:
    """Return a task's name and the lines at which its coroutines wait for each other."""
    lines = [task.get_name()]
    waiting: object = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        waiting = getattr(waiting, "cr_await", None)
    return "\n".join(lines)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
