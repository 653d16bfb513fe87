"""One measurement, in a process of its own: `python -m benchmarks.measure SUBJECT WORKLOAD full|tiny` prints JSON."""

import json
import os
import resource
import signal
import sys
import warnings

from benchmarks.subjects import SUBJECTS
from benchmarks.workloads import FULL, TINY, WORKLOADS


def main(subject: str, workload: str, size: str) -> None:
    """Measure."""
    warnings.simplefilter("ignore")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.setpgid(0, 0)
    with SUBJECTS[subject]() as started:
        figures = WORKLOADS[workload](started, FULL if size == "full" else TINY)
    print(json.dumps(figures), flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)  # what was hosted by a kernel that is gone


if __name__ == "__main__":
    main(*sys.argv[1:])
