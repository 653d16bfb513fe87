"""`make bench`: every workload for every subject, in turns, several times; the table, a picture and the raw figures.

A ratio is of two figures of one turn. Nothing passes or fails: the table says what was seen and what was hoped for.

One row alone: `python -m benchmarks --only latency --subjects aio,supervisord,circus,bare`.
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
from benchmarks import peers, report
from benchmarks.figures import Results
from benchmarks.rows import PEERS, PLAN


def measure(subject: str, workload: str, size: str) -> dict[str, Any] | None:
    """One measurement in a process of its own; None if it failed or took too long."""
    command = [sys.executable, "-m", "benchmarks.measure", subject, workload, size]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
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


def plan(only: str, subjects: str) -> dict[str, list[str]]:
    """Return what is measured: all, or one workload, and of some subjects only."""
    wanted = subjects.split(",") if subjects else None
    return {
        workload: [subject for subject in of if wanted is None or subject in wanted]
        for workload, of in PLAN.items()
        if only in ("", workload)
    }


def run(repetitions: int, size: str, planned: dict[str, list[str]]) -> dict[str, Any]:
    """Measure everything; figures by workload and subject, one for each turn, None where that failed."""
    compileall.compile_dir(Path(papa_dbus.__path__[0]), quiet=1)  # as an installed package is
    if any(subject in PEERS for subjects in planned.values() for subject in subjects):
        peers.install()
    figures: Results = {workload: {subject: [] for subject in subjects} for workload, subjects in planned.items()}
    for turn in range(repetitions):
        for workload, subjects in planned.items():
            first = turn % max(len(subjects), 1)  # none is always measured after the same one
            for subject in subjects[first:] + subjects[:first]:
                print(f"{turn + 1}/{repetitions} {workload}: {subject}", flush=True)
                figures[workload][subject].append(measure(subject, workload, size))
    return {"machine": machine(), "repetitions": repetitions, "size": size, "figures": figures}


def main() -> int:
    """Run, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--size", choices=["full", "tiny"], default="full")
    parser.add_argument("--repetitions", type=int, default=5, help="turns")
    parser.add_argument("--only", default="", choices=["", *PLAN], metavar="WORKLOAD", help="one workload")
    parser.add_argument("--subjects", default="", help="some of its subjects, with commas between them")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder for the raw figures")
    parser.add_argument("--page", type=Path, help="page whose table is written anew, such as docs/performance.md")
    options = parser.parse_args()
    results = run(options.repetitions, options.size, plan(options.only, options.subjects))
    options.results.mkdir(parents=True, exist_ok=True)
    stem = results["machine"]["date"][:16].replace(" ", "-").replace(":", "")
    (options.results / f"{stem}.json").write_text(json.dumps(results) + "\n")
    table = report.table(results)
    print(table)
    if options.page is not None:
        report.write_into(options.page, table)
        report.draw(results, options.page.parent / "latency.svg")
    failed = any(None in runs for subjects in results["figures"].values() for runs in subjects.values())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
