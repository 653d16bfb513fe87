"""A hosted process that prints what a test tells it, when the test tells it."""

import os
from pathlib import Path

#: Prints what it is told by lines on a named pipe, so that a test decides when.
PARROT = """
while read -r line; do case $line in
    err:*) echo "${{line#err:}}" >&2;;
    close) exec >&-;;
    *) echo "$line";;
esac; done < '{fifo}'
exit {code}
"""


class ScriptedChild:
    """A hosted process that prints when it is told to."""

    def __init__(self, folder: Path, name: str = "parrot", code: int = 0) -> None:
        self.name = name
        self._fifo = folder / f"{name}.fifo"
        os.mkfifo(self._fifo)
        self.command = ["/bin/sh", "-c", PARROT.format(fifo=self._fifo, code=code)]
        self._pipe = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)  # waits neither for the reader nor for room

    def say(self, *lines: str) -> None:
        """Have it print lines, each in a write of its own."""
        for line in lines:
            os.write(self._pipe, f"{line}\n".encode())

    def complain(self, *lines: str) -> None:
        """Have it print lines on stderr."""
        self.say(*(f"err:{line}" for line in lines))

    def close_stdout(self) -> None:
        """Have it close its stdout."""
        self.say("close")

    def end(self) -> None:
        """Have it exit, once all is printed."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)
