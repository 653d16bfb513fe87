"""How a process ended that is not papad's child: known before its parent has reaped it, and never guessed."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from papa_dbus.service.fork.exit_status import NOT_YET_REAPED, STILL_RUNNING, how_ended, poll_exit_status
from tests.support import PATIENCE

# Has a child, says its PID, and reaps nothing until it is told to.
PARENT = """
import os, signal, sys
child = os.fork()
if child == 0:
    signal.pause()
print(child, flush=True)
sys.stdin.read(1)
os.waitpid(child, 0)
print("reaped", flush=True)
sys.stdin.read(1)
"""


class Stranger:
    """A process that is another's child."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", PARENT]
        self.parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = int(self._said())
        self.pidfd = os.pidfd_open(self.pid)

    def _said(self) -> bytes:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline()

    def kill(self) -> None:
        """Kill it, and wait until it has ended."""
        os.kill(self.pid, signal.SIGKILL)
        assert select.select([self.pidfd], [], [], PATIENCE)[0]

    def reap(self) -> None:
        """Have its parent reap it."""
        assert self.parent.stdin is not None
        self.parent.stdin.write(b"x")
        self.parent.stdin.flush()
        assert self._said() == b"reaped\n"

    def close(self) -> None:
        """End both."""
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        os.kill(self.pid, signal.SIGKILL) if poll_exit_status(self.pidfd) is STILL_RUNNING else None
        self.parent.stdin.close()
        self.parent.wait(PATIENCE)
        self.parent.stdout.close()
        os.close(self.pidfd)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Give a process that is not the test's child."""
    stranger = Stranger()
    yield stranger
    stranger.close()


@pytest.mark.root
def test_before_and_after_it_is_reaped(stranger: Stranger) -> None:
    assert poll_exit_status(stranger.pidfd) is STILL_RUNNING
    stranger.kill()
    assert poll_exit_status(stranger.pidfd) == -signal.SIGKILL
    stranger.reap()
    assert poll_exit_status(stranger.pidfd) in (-signal.SIGKILL, None)  # the latter before Linux 6.15


@pytest.mark.root
def test_who_may_not_know_it_waits_until_it_is_reaped(stranger: Stranger) -> None:
    stranger.kill()
    if not (child := os.fork()):
        os.setuid(65534)
        os._exit(0 if poll_exit_status(stranger.pidfd) in (NOT_YET_REAPED, None) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit status 0"),
        (3, "ended with exit status 3"),
        (-9, "ended by signal SIGKILL"),
        (-63, "ended by signal 63"),
        (None, "ended, and nobody could see its exit code"),
    ],
)
def test_an_end_in_words(code: int | None, words: str) -> None:
    assert how_ended(code) == words
