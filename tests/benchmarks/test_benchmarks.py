"""The benchmark works: everything is measured once, in a tiny size. What it measures is asserted nowhere."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import PLAN, ROWS

ROOT = Path(__file__).parents[2]


def test_everything_is_measured_and_shown(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs/performance.md").read_text())
    command = [sys.executable, "-m", "benchmarks", "--size", "tiny", "--repetitions", "1"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path / "results"), "--page", str(page)],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = (tmp_path / "results").iterdir()
    figures = json.loads(results.read_text())["figures"]
    assert {workload: list(subjects) for workload, subjects in figures.items()} == PLAN
    shown = page.read_text()
    for row in ROWS:
        assert f"| {row.work} |" in shown
    assert (tmp_path / "latency.svg").stat().st_size > 1000
