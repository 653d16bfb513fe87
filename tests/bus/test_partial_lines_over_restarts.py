"""A line that began before papad was restarted, or killed, ends after it, and is one; /dev/stdout stays the user's."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.isolated import SupervisedPapad
from tests.bus.test_partial_and_long_lines import read_until
from tests.papactl import PAPACTL, Papactl, environment
from tests.support import PATIENCE, wait_until


@pytest.fixture
def supervised(bus_address: str, tmp_path: Path) -> Iterator[SupervisedPapad]:
    """A papad that finds its descriptors again."""
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    yield papad
    papad.stop()


@pytest.fixture
def fifo() -> Iterator[Path]:
    """A named pipe that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        fifo = Path(folder) / "answers"
        os.mkfifo(fifo)
        fifo.chmod(0o644)
        yield fifo


@pytest.mark.parametrize("how", ["reload", "kill"])
def test_a_begun_line_and_its_end(
    supervised: SupervisedPapad, bus_address: str, tmp_path: Path, fifo: Path, how: str
) -> None:
    papactl = Papactl(bus_address)
    log = tmp_path / "output"
    script = 'printf "Name? " >/dev/stdout; cat "$0" >/dev/stdout; echo thanks >/dev/stderr'
    papactl("run", "ask", "--user", "nobody", "--", "sh", "-c", script, str(fifo))
    command = [*PAPACTL, "logs", "-f", "-o", "json", "ask"]
    with subprocess.Popen(command, env=environment(bus_address), stdout=subprocess.PIPE, bufsize=0) as logs:
        prompt = json.loads(read_until(logs.stdout, b"\n"))
        assert (prompt["message"], prompt["partial"]) == ("Name? ", True)
        if how == "reload":
            supervised.reload()
        else:
            supervised.kill()
            supervised.start()
        fifo.write_text("Ada\n")
        got = read_until(logs.stdout, b"exit_code").splitlines()
        logs.terminate()
        logs.wait(PATIENCE)
    objects = [json.loads(line) for line in got]
    rest = next(each for each in objects if each.get("message") == "Ada")
    assert (rest["continued"], rest["timestamp"], "partial" in rest) == (True, prompt["timestamp"], False)
    assert [each["message"] for each in objects if each.get("stream") == "err"] == ["thanks"]
    assert len(objects) == 3
    papactl("consume", "ask", "--to", str(log))
    assert sorted(log.read_text().splitlines()) == ["Name? Ada", "thanks"]
    wait_until(lambda: not papactl("list", "processes", "--no-legend").stdout, "nothing is left")
