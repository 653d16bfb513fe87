"""The benchmark works: everything is measured once, in a tiny size. What it measures is asserted nowhere."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import plan
from benchmarks.beside import BESIDE
from benchmarks.figures import Figures, Results
from benchmarks.report import table
from benchmarks.rows import PLAN, ROWS
from tests.support import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)  # it installs the peers, too
def test_everything_is_measured_and_shown(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs/performance.md").read_text())
    command = [sys.executable, "-m", "benchmarks", "--size", "tiny", "--repetitions", "1"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path / "results"), "--page", str(page)],
        cwd=ROOT, capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (tmp_path / "results").iterdir()
    figures = json.loads(results.read_text())["figures"]
    assert {workload: list(subjects) for workload, subjects in figures.items()} == PLAN
    assert all(run is not None for subjects in figures.values() for (run,) in subjects.values())
    shown = page.read_text()
    for row in BESIDE + ROWS:
        assert f"| {row.work} |" in shown
    assert (tmp_path / "latency.svg").stat().st_size > 1000


def test_one_workload_of_some_subjects_is_measured() -> None:
    assert plan("latency", "circus,aio") == {"latency": ["aio", "circus"]}
    assert plan("", "") == PLAN


def _results(**seen: list[list[float] | None]) -> dict[str, Any]:
    """A line's latency, ms, for each subject and turn; None if that measurement failed."""
    runs: Results = {"latency": {name: [{"ms": of} if of else None for of in turns] for name, turns in seen.items()}}
    machine = {"date": "today", "processor": "2 cores", "kernel": "Linux", "python": "3"}
    return {"machine": machine, "repetitions": 3, "figures": runs}


def test_a_ratio_is_of_two_figures_of_one_turn() -> None:
    (row,) = (row for row in BESIDE if row.work == "a line each 50 ms: p50, aio")
    results = _results(aio=[[1], [20], [9]], supervisord=[[2], [10], [10]], circus=[[1], [40], [12]])
    assert row.ratios(Figures(results["figures"])) == [1, 2, 0.9]  # of the better peer
    assert "| 9 ms; supervisord: 10; circus: 12 | 1.00 (0.90 to 2.00) | yes |" in table(results)


def test_a_measurement_that_failed_leaves_its_turn_out() -> None:
    (row,) = (row for row in BESIDE if row.work == "a line each 50 ms: p50, aio")
    results = _results(aio=[[1], None, [9]], supervisord=[[2], [10], [10]], circus=[[1], [40], None])
    assert row.ratios(Figures(results["figures"])) == [1]
    assert "a line each 50 ms: p50, 20202" not in table(results)


def test_the_machines_own_noise_is_in_the_head_of_the_table() -> None:
    results = _results(bare=[[0.1, 0.1, 3], [0.2, 0.2, 1], [0.1, 0.1, 2]])
    assert "a line through a bare pipe: p50 0.1 (0.1 to 0.2) ms and p99 2 (1 to 3) ms." in table(results)


def test_a_measurement_that_takes_too_long_ends_what_it_has_started() -> None:
    mark = f"PAPA_BENCHMARK_OF={uuid.uuid4()}"
    command = [sys.executable, "-m", "benchmarks.measure", "aio", "quiet latency", "full", "3"]  # ten seconds' work
    environment = os.environ | dict([mark.split("=")])
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "TimeoutError: it took too long" in done.stderr
    assert not [environ for environ in Path("/proc").glob("[0-9]*/environ") if mark in _read(environ)]


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is another user's
        return ""
