"""What the example's logger has printed, as it stands in its log."""

import re
from dataclasses import dataclass
from itertools import pairwise

from tests.circus.machine import Machine
from tests.support import wait_until

_LINE = re.compile(r"(\S+ \S+) \[(\d+)\] \| line (\d+) at (\S+ \S+)")
_END = re.compile(r"\S+ \S+ \[\d+\] \| end after (\d+) lines")


@dataclass(frozen=True, slots=True)
class Line:
    """A line: circusd's stamp and PID, the logger's number and time. Times are local, to the µs, and sort as text."""

    stamp: str
    pid: str
    number: int
    printed: str


def texts(machine: Machine) -> list[str]:
    """All lines of the log, its rotated files first."""
    folder = machine.path("/srv/web/log")
    numbers = sorted((int(file.suffix[1:]) for file in folder.glob("logger.log.*")), reverse=True)
    files = [*(folder / f"logger.log.{number}" for number in numbers), folder / "logger.log"]
    return "".join(file.read_text() for file in files).splitlines()


def parse(text: str) -> Line:
    """One line, which must be whole."""
    found = _LINE.fullmatch(text)
    assert found is not None, text
    return Line(found[1], found[2], int(found[3]), found[4])


def now(machine: Machine) -> str:
    """The machine's time, as it stands in the log."""
    return machine.run("date '+%Y-%m-%d %H:%M:%S.%6N'").strip()


def wait_for_line_after(machine: Machine, moment: str) -> None:
    """Wait until a line is in the log that was printed after a moment."""

    def come() -> bool:
        last = next((found for text in reversed(texts(machine)) if (found := _LINE.fullmatch(text))), None)
        return last is not None and last[4] > moment

    wait_until(lambda: come() or None, lambda: "\n".join(texts(machine)[-5:]) + machine.words())


def check_complete(found: list[str], kills: int) -> None:
    """No line is missing, to the logger's last; what circusd had not acknowledged when it was killed may come again."""
    *lines, last = found
    end = _END.fullmatch(last)
    assert end is not None, last
    numbers = [int(line[3]) for text in lines if (line := _LINE.fullmatch(text))]
    assert len(lines) - len(numbers) <= kills, "a line is torn only where circusd was killed while it wrote it"
    steps_back = sum(later <= earlier for earlier, later in pairwise(numbers))
    gaps = [earlier for earlier, later in pairwise(numbers) if later > earlier + 1]
    assert (numbers[0], gaps, numbers[-1]) == (1, [], int(end[1]))
    assert steps_back <= kills
