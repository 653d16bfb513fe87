"""A kernel in the test's own loop; what a test leaves behind fails it."""

import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from papa_dbus.service.fork.fork import ForkServer
from papa_dbus.service.kernel.kernel import Kernel
from tests.dbus_messages import DbusNextSender
from tests.leftovers import ask_for_tasks, no_task_is_left, nothing_is_left, temporary_folder  # noqa: F401 (fixtures)
from tests.support import begin_counting_children, children, descriptors, end

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have all tests here looked at for tasks that they leave."""
    ask_for_tasks([item for item in items if item.path.is_relative_to(FOLDER)])


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """A kernel without systemd; afterwards every process of it is killed, and nothing of it may be left."""
    before = descriptors()
    begin_counting_children()
    kernel = Kernel()
    yield kernel
    for pid in children():
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    end(kernel)
    await kernel.settle()
    left = {fd: what for fd, what in descriptors().items() if before.get(fd) != what}
    for fd in [fd for fd, what in left.items() if "pipe" in what]:  # a descendant of what has been removed has it
        os.close(int(fd))
        del left[fd]
    assert not children()
    assert not kernel._processes.listed
    assert not kernel._processes.superseded
    assert not left


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    """Give a fork server, which is no child that a test has to account for."""
    fork_server = ForkServer()
    yield fork_server
    fork_server.close()


@pytest.fixture(params=["papad", "fork server"])
def forked_by(request: pytest.FixtureRequest, fork_server: ForkServer, kernel: Kernel) -> None:
    """Run each test twice: papad forks, or the fork server for it."""
    if request.param == "fork server":
        kernel.fork = fork_server.fork


@pytest.fixture
def many_descriptors() -> Iterator[tuple[int, int]]:
    """Raise the limit of descriptors as papad does, since many systems give 1,024; give the one before."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A named pipe on which a child waits until the test writes a line."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    return gate


@pytest.fixture(scope="module")
def dbus_next(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DbusNextSender]:
    """What dbus-next writes."""
    sender = DbusNextSender(tmp_path_factory.mktemp("dbus_next"))
    yield sender
    sender.close()
