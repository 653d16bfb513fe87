"""One measurement, in a process of its own: `python -m benchmarks.measure SUBJECT WORKLOAD full|tiny` prints JSON."""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import warnings

from benchmarks.subjects import SUBJECTS
from benchmarks.workloads import FULL, TINY, WORKLOADS

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2): what loses its parent comes to this process


def main(subject: str, workload: str, size: str) -> None:
    """Measure."""
    warnings.simplefilter("ignore")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with SUBJECTS[subject]() as started:
        figures = WORKLOADS[workload](started, FULL if size == "full" else TINY)
    print(json.dumps(figures), flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(ChildProcessError):  # what was made has gone before the next one is measured
        while True:
            os.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
