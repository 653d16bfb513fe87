"""Lines that say by themselves whether one is lost, doubled or damaged; run as a program it prints them.

``lines.py NAME PAUSE STOP`` prints one line on each stream every PAUSE seconds until the file STOP is there, then how
many these were, and ends with an exit code that its name tells. It imports little: there are hundreds of it.
"""

import os
import sys
import time
import zlib


def line(name: str, number: int | str) -> bytes:
    """Return a line with its number and checksum: the first 100 to 900 bytes long."""
    padding = "x" * (100 + number * 37 % 800 if isinstance(number, int) else 0)
    text = f"{name} {number} {padding}"
    return f"{text} {zlib.crc32(text.encode())}\n".encode()


def exit_code_of(name: str) -> int:
    """Return the exit code with which the process of that name ends."""
    return zlib.crc32(name.encode()) % 100


class Account:
    """What has arrived of one stream, byte for byte: each line in its turn, once."""

    def __init__(self, name: str) -> None:
        self.lines = 0
        self.ended = False
        self.wrong: list[str] = []
        self._name = name
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Take the next piece; a line may lie in several."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for text in whole:
            self._take_line(text + b"\n")

    def _take_line(self, got: bytes) -> None:
        if not self.ended and got == line(self._name, self.lines):
            self.lines += 1
        elif not self.ended and got == line(self._name, f"end-{self.lines}"):
            self.ended = True
        else:
            self.wrong.append(f"{self._name}: line {self.lines} was expected, {got[:40]!r} came")
            # Go on from there: one hole is one complaint.
            number = got.split()[1:2]
            self.lines = int(number[0]) + 1 if number and number[0].isdigit() else self.lines

    def complaints(self) -> list[str]:
        """Return what is wrong with all that has come."""
        missing = [] if self.ended and not self._rest else [f"{self._name}: its last line did not come"]
        return self.wrong + missing


def main(name: str, pause: float, stop: str) -> None:
    """Print until it is told to stop."""
    number = 0
    time.sleep(pause * (zlib.crc32(name.encode()) % 100) / 100)  # paces the lines: not all print at once
    while not os.path.exists(stop):
        for stream in (1, 2):
            os.write(stream, line(name, number))
        number += 1
        time.sleep(pause)  # paces the lines
    for stream in (1, 2):
        os.write(stream, line(name, f"end-{number}"))
    os._exit(exit_code_of(name))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
