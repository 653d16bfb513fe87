"""A terminal of a test's own: a program on a pty, and the screen that a person would see (pyte)."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Self

import pexpect
import pyte

from tests.support import PATIENCE


class Terminal:
    """A program on a terminal of ``columns`` by ``rows``."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, columns: int = 100, rows: int = 24
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.process: pexpect.spawn[bytes] = pexpect.spawn(
            command[0], list(command[1:]), env=dict(env) if env is not None else None, dimensions=(rows, columns),
            timeout=PATIENCE,
        )  # fmt: skip
        self.raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.close(force=True)

    def _read(self) -> bool:
        try:
            data = self.process.read_nonblocking(65536, PATIENCE)
        except (pexpect.EOF, pexpect.TIMEOUT):
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def until(self, pattern: str) -> list[str]:
        """Wait until the screen shows what a regular expression finds; the screen."""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, "\n".join(self.lines())):
            there = time.monotonic() < end and self._read()
            assert there, f"no {pattern!r} on the screen:\n" + "\n".join(self.lines())
        return self.lines()

    def to_the_end(self) -> list[str]:
        """Wait until the program has ended; the screen."""
        while self._read():
            pass
        assert self.process.flag_eof, "it goes on, with this on the screen:\n" + "\n".join(self.lines())
        self.process.wait()
        return self.lines()

    @property
    def status(self) -> int | None:
        """The exit status, once it has ended."""
        status: int | None = self.process.exitstatus
        return status

    def lines(self) -> list[str]:
        """What is on the screen, without empty lines at its end."""
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def colour_of(self, word: str) -> str:
        """The colour of a word's first letter, where it first stands on the screen."""
        row, column = next((n, line.index(word)) for n, line in enumerate(self._screen.display) if word in line)
        return self._screen.buffer[row][column].fg

    def type(self, keys: str) -> None:
        """Press keys."""
        self.process.send(keys)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size, as a window's user does: its programs get SIGWINCH."""
        self._screen.resize(rows, columns)
        self._screen.reset()
        self.process.setwinsize(rows, columns)
