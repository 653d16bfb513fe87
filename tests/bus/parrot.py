"""A hosted process that prints what a test tells it, when the test tells it."""

import os
from pathlib import Path

#: Prints what it is told by lines on a named pipe, so that a test decides when.
PARROT = "while read -r line; do echo \"$line\"; done < '{fifo}'; exit {code}"


class Parrot:
    """A hosted process that prints when it is told to."""

    def __init__(self, folder: Path, name: str = "parrot", code: int = 0) -> None:
        self.name = name
        self._fifo = folder / f"{name}.fifo"
        os.mkfifo(self._fifo)
        self.command = ["/bin/sh", "-c", PARROT.format(fifo=self._fifo, code=code)]
        self._pipe = os.open(self._fifo, os.O_RDWR)  # O_RDWR: does not wait for the reader

    def say(self, *lines: str) -> None:
        """Have it print lines, each in a write of its own."""
        for line in lines:
            os.write(self._pipe, f"{line}\n".encode())

    def end(self) -> None:
        """Have it exit, once all is printed."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)
