"""`make bench`: every workload for every subject, in turns, several times; the table, a picture and the raw figures.

A ratio is of two medians of one run. Nothing passes or fails here: the table says what was seen and what was hoped for.
"""

import argparse
import compileall
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import papa_dbus
from benchmarks import report
from benchmarks.rows import PLAN

_LIMIT = 180  # seconds for one measurement


def measure(subject: str, workload: str, size: str) -> dict[str, Any] | None:
    """One measurement in a process of its own; None where it failed or took too long."""
    command = [sys.executable, "-m", "benchmarks.measure", subject, workload, size]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        print(f"  {subject}: {workload} took more than {_LIMIT} s", flush=True)
        return None
    try:
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        print(f"  {subject}: {workload} failed: {done.stderr[-500:]}", flush=True)
        return None
    return figures


def machine() -> dict[str, str]:
    """What it ran on."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in cpus.splitlines() if line.startswith("model name")), "?")
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores of {model}",
        "kernel": f"Linux {platform.release()}",
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def run(repetitions: int, size: str, only: str) -> dict[str, Any]:
    """Measure everything; figures by workload and subject, a list of repetitions each."""
    compileall.compile_dir(Path(papa_dbus.__path__[0]), quiet=1)  # as an installed package is
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for repetition in range(repetitions):
        for workload, subjects in PLAN.items():
            if only not in ("", workload):
                continue
            for subject in subjects:
                print(f"{repetition + 1}/{repetitions} {workload}: {subject}", flush=True)
                seen = measure(subject, workload, size)
                if seen is not None:
                    figures.setdefault(workload, {}).setdefault(subject, []).append(seen)
    return {"machine": machine(), "repetitions": repetitions, "size": size, "figures": figures}


def main() -> int:
    """Run, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", default="", help="one workload")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder for the raw figures")
    parser.add_argument("--page", type=Path, help="page whose table is written anew, such as docs/performance.md")
    options = parser.parse_args()
    results = run(options.repetitions, options.size, options.only)
    options.results.mkdir(parents=True, exist_ok=True)
    stem = results["machine"]["date"][:16].replace(" ", "-").replace(":", "")
    (options.results / f"{stem}.json").write_text(json.dumps(results) + "\n")
    table = report.table(results)
    print(table)
    if options.page is not None:
        report.write_into(options.page, table)
        report.draw(results, options.page.parent / "latency.svg")
    complete = all(subject in results["figures"].get(workload, {}) for workload in PLAN for subject in PLAN[workload])
    return 0 if complete or options.only else 1


if __name__ == "__main__":
    sys.exit(main())
