"""One measurement in a process of its own: `python -m benchmarks.measure SUBJECT WORKLOAD full|tiny [SECONDS]`."""

import ctypes
import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path

from benchmarks.measuring import FULL, TINY
from benchmarks.subjects import SUBJECTS
from benchmarks.workloads import WORKLOADS

LIMIT = "180"  # seconds for one measurement
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2): what loses its parent comes to this process


def main(subject: str, workload: str, size: str, limit: str = LIMIT) -> None:
    """Measure, and print JSON. Raises TimeoutError after ``limit`` seconds."""
    warnings.simplefilter("ignore")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, float(limit), 10)  # again, if its end takes too long as well
    try:
        with SUBJECTS[subject]() as started:
            figures = WORKLOADS[workload](started, FULL if size == "full" else TINY)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _end_what_is_left()
    print(json.dumps(figures), flush=True)


def _too_long(*_: object) -> None:
    raise TimeoutError("it took too long")


def _end_what_is_left() -> None:
    """Kill what was started, and what that has made, which comes here then: the next measurement is to be alone."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(pid) for pid in children.read_text().split()]:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
