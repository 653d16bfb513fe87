"""The example's web stack goes on, and its log stays whole, while circusd quits, is killed and comes back."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.circus.environments import COMBINATIONS
from tests.circus.logger_log import check_complete, now, parse, texts, wait_for_line_after
from tests.circus.machine import Machine
from tests.support import PATIENCE, wait_until

HOSTED = ("nginx", "logger", "web_app")
KILLS = 4


class Load:
    """Constant requests, for as long as a test wants."""

    def __init__(self, machine: Machine) -> None:
        machine.container.copy_in(Path(__file__).with_name("load.py"), "/opt/load.py")
        self._process = subprocess.Popen(
            machine.container.command(["/usr/bin/python3", "/opt/load.py"]),
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
        wait_until(lambda: self.answered() >= goal or None, lambda: f"{self.answered()} answers, not {goal}")

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
        running.go_on()
    finally:
        running.stop()


def hosted(machine: Machine) -> dict[str, list[int]]:
    """The PIDs of what Papa holds."""
    return {name: machine.pids(name) for name in HOSTED}


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def combination(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A Circus, and how its circusd is started."""
    found: tuple[str, str] = request.param
    return found


def test_the_stack_outlives_circusd(machine: Machine) -> None:
    machine.begin()
    with load(machine) as running:
        quits_and_returns(machine, running)
        reloads(machine)
        running.go_on()
        before = hosted(machine)
        for _ in range(KILLS):
            machine.kill_and_begin()
            wait_for_line_after(machine, now(machine))
            assert hosted(machine) == before
    machine.ctl("stop", "logger", "--waiting")
    check_complete(texts(machine), KILLS)
    assert machine.path("/srv/web/log/logger.log.1").exists(), "rotated"
    machine.ctl("stop", "--waiting")
    machine.quit()


def quits_and_returns(machine: Machine, running: Load) -> None:
    """Nothing of the stack notices, and the log has what was printed meanwhile, when it was printed."""
    before = hosted(machine)
    machine.quit()
    left = now(machine)
    running.go_on(500)
    middle = now(machine)
    running.go_on()
    back = now(machine)
    machine.begin()
    assert hosted(machine) == before
    wait_for_line_after(machine, now(machine))

    lines = [parse(text) for text in texts(machine)]
    assert [line.number for line in lines] == list(range(1, len(lines) + 1)), "once each, and in order"
    assert {line.pid for line in lines} == set(map(str, before["logger"]))
    assert [line.stamp for line in lines] == sorted(line.stamp for line in lines)
    away = [line for line in lines if left < line.printed < middle]
    assert len(away) > 10
    assert all(line.stamp < back for line in away), "stamped when they were printed, not when circusd came back"


def reloads(machine: Machine) -> None:
    """nginx by SIGHUP, uWSGI by a new one that takes over."""
    before = hosted(machine)
    machine.ctl("reload", "nginx", "--waiting")
    machine.ctl("reload", "web_app", "--waiting")
    machine.wait_settled()
    after = hosted(machine)
    assert after["nginx"] == before["nginx"]
    assert after["web_app"] != before["web_app"]
    assert len(after["web_app"]) == 1
