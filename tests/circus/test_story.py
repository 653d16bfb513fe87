"""The example's web stack goes on, and its log stays whole, while circusd quits, is killed and comes back."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.circus.conftest import COMBINATIONS
from tests.circus.machine import Machine, wait
from tests.support import PATIENCE

HOSTED = ("nginx", "logger", "web_app")
LINE = re.compile(r"(\S+ \S+) \[(\d+)\] \| line (\d+) at (\S+ \S+)$")
END = re.compile(r"\S+ \S+ \[\d+\] \| end after (\d+) lines$")
KILLS = 4


class Load:
    """Constant requests, for as long as a test wants."""

    def __init__(self, machine: Machine) -> None:
        machine.bed.copy_in(Path(__file__).with_name("load.py"), "/opt/load.py")
        self._process = subprocess.Popen(
            machine.bed.command(["/usr/bin/python3", "/opt/load.py"]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def answered(self) -> int:
        """How many requests have been answered so far. None may have failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("?\n")
        answered, failures = json.loads(self._process.stdout.readline())
        assert failures == []
        return int(answered)

    def go_on(self, more: int = 200) -> None:
        """Wait until so many more have been answered."""
        goal = self.answered() + more
        wait(lambda: self.answered() >= goal or None, lambda: f"{self.answered()} answers, not {goal}")

    def stop(self) -> None:
        """End it."""
        self._process.communicate(timeout=PATIENCE)


@contextmanager
def load(machine: Machine) -> Iterator[Load]:
    """Constant load; no request may fail."""
    running = Load(machine)
    try:
        running.go_on()
        yield running
        running.answered()
    finally:
        running.stop()


def logged(machine: Machine) -> list[str]:
    """The logger's log, all its files in order."""
    folder = machine.path("/srv/web/log")
    numbers = sorted((int(file.suffix[1:]) for file in folder.glob("logger.log.*")), reverse=True)
    files = [*(folder / f"logger.log.{number}" for number in numbers), folder / "logger.log"]
    return "".join(file.read_text() for file in files).splitlines()


def now(machine: Machine) -> str:
    """The machine's time, as it stands in the log."""
    return machine.run("date '+%Y-%m-%d %H:%M:%S.%6N'").strip()


def wait_for_line_after(machine: Machine, moment: str) -> None:
    """Wait until a line is in the log that was printed after a moment."""

    def come() -> bool:
        last = next((found for line in reversed(logged(machine)) if (found := LINE.match(line))), None)
        return last is not None and last[4] > moment

    wait(lambda: come() or None, lambda: "\n".join(logged(machine)[-5:]) + machine.words())


def check_stamps(lines: list[str], pid: int) -> list[int]:
    """Check each line's process and stamp; the numbers, as they stand there."""
    numbers = []
    for line in lines:
        found = LINE.match(line)
        assert found is not None, line
        stamp, by, number, printed = found.groups()
        assert int(by) == pid
        assert stamp >= printed
        numbers.append(int(number))
    return numbers


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def combination(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


def test_the_stack_outlives_circusd(machine: Machine) -> None:
    machine.begin()
    before = {name: machine.pids(name) for name in HOSTED}
    [logger] = before["logger"]
    with load(machine) as running:
        machine.quit()
        left = now(machine)
        running.go_on(500)
        back = now(machine)
        machine.begin()
        assert {name: machine.pids(name) for name in HOSTED} == before
        running.go_on()
        wait_for_line_after(machine, now(machine))

        lines = logged(machine)
        numbers = check_stamps(lines, logger)
        assert numbers == list(range(1, len(numbers) + 1)), "once each, and in order"
        away = [line for line in lines if left < line.partition(" | ")[2].partition(" at ")[2] < back]
        assert len(away) > 10
        assert all(line < back for line in away), "stamped when they were printed, not when circusd came back"

        machine.ctl("reload", "nginx", "--waiting")
        machine.ctl("reload", "web_app", "--waiting")
        wait(lambda: machine.settled() or None, machine.words)
        assert machine.pids("nginx") == before["nginx"], "send_hup"
        assert machine.pids("web_app") != before["web_app"]
        assert len(machine.pids("web_app")) == 1
        running.go_on()

        before = {name: machine.pids(name) for name in HOSTED}
        for _ in range(KILLS):
            machine.kill_and_begin()
            wait_for_line_after(machine, now(machine))
            assert {name: machine.pids(name) for name in HOSTED} == before
        running.go_on()

    machine.ctl("stop", "logger", "--waiting")
    check_complete(logged(machine))
    assert machine.path("/srv/web/log/logger.log.1").exists(), "rotated"
    machine.ctl("stop", "--waiting")
    machine.quit()


def check_complete(lines: list[str]) -> None:
    """No line is missing to the last; what was not acknowledged when circusd was killed may stand there again."""
    *lines, last = lines
    end = END.match(last)
    assert end is not None, last
    steps_back = 0
    expected = 1
    for line in lines:
        found = LINE.match(line)
        if found is None:
            continue  # circusd was killed while it wrote this one: it comes again, or is missed below
        number = int(found[3])
        if number < expected:
            steps_back += 1
        else:
            assert number == expected
        expected = number + 1
    assert expected == int(end[1]) + 1
    assert steps_back <= KILLS
