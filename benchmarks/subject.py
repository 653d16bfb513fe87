"""The interface that all subjects share."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

#: Called with a process's name and a piece of its output.
Handle = Callable[[str, bytes], None]
CHILDREN = Path(__file__).parent / "children"


class Subject:
    """A program under measurement. ``daemon`` is the PID whose memory and CPU time are read."""

    daemon = 0
    where: int | str = 0
    started_in: float | None = None  # seconds from exec to the first answer

    @classmethod
    def client_of(cls, where: str) -> "Subject":
        """Another client of one that runs."""
        raise NotImplementedError

    def leave(self) -> None:
        """End a client that client_of() made."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """End it."""

    def plan(self, programs: Mapping[str, Sequence[str]]) -> None:
        """Learn which processes will be made: supervisord reads its programs from a file."""

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a process; with ``wait`` it waits while its buffer is full."""
        raise NotImplementedError

    def read(self, pattern: str, handle: Handle) -> None:
        """Pass all output on, and acknowledge it, until every process has ended."""
        raise NotImplementedError

    def list_one(self, name: str) -> None:
        """Ask after one process."""
        raise NotImplementedError

    def list_all(self) -> int:
        """Ask after all processes; return how many there are."""
        raise NotImplementedError

    def set_and_get(self, name: str, value: str) -> None:
        """Keep a value and ask for it: two round trips."""
        raise NotImplementedError


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Daemon(Subject):
    """A daemon of its own, ended by its PID."""

    def _run(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the daemon)
        self._begun = time.perf_counter()
        self._process = subprocess.Popen(command, stderr=self._log, text=True, **options)
        self.daemon = self._process.pid
        return self._process

    def _wait_until(self, there: Callable[[], bool]) -> None:
        while not there():
            if self._process.poll() is not None:
                self._log.seek(0)
                raise RuntimeError(f"{self._process.args!r} did not start: {self._log.read()}")
            time.sleep(0.001)

    def _answered(self) -> None:
        self.started_in = time.perf_counter() - self._begun

    def stop(self) -> None:
        """End it, and what it has made: thousands of sleepers would be in the next one's way."""
        made = [pid for task in Path(f"/proc/{self.daemon}/task").iterdir() for pid in _children(task)]
        self._end()
        for pid in made:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


def _children(task: Path) -> list[int]:
    try:
        return [int(pid) for pid in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
        return []
