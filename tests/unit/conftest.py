"""A kernel in the test's own loop; what it leaves behind fails the test."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from papa_dbus.service.kernel import Kernel
from tests.dbus_messages import DbusNextSender
from tests.support import begin_counting_children, children, descriptors, end


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
    assert not children()
    assert not kernel._processes
    assert not kernel._retired
    assert not [what for what in left.values() if "pipe" not in what], left


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
