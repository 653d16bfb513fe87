"""A process's output without a process: a log, and a pipe that fills it."""

import os

from papa_dbus.service.output.files import LogFiles
from papa_dbus.service.output.log import OutputLog


class Source:
    """A log and a pipe that fills it."""

    def __init__(self, capacity: int = 1000) -> None:
        self.log = OutputLog(capacity, lambda: None, LogFiles.create())
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)

    def say(self, data: bytes, stream: str = "out") -> None:
        """Write as the process would, and have the log take it."""
        os.write(self.write, data)
        while self.log.splice_from(self.read, "err" if stream == "err" else "out") is not None:
            pass

    def close(self) -> None:
        """Let all of it go."""
        os.close(self.read)
        os.close(self.write)
        self.log.close()
