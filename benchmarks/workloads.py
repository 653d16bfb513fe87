"""What is measured of a subject: each workload is bounded in count and time, and gives named figures."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.many import busy, five_hundred_idle, idle, one, watchers
from benchmarks.measuring import Figures, Size, cpu_of, timed
from benchmarks.subject import CHILDREN, Subject
from benchmarks.subjects import SUBJECTS


def make(subject: Subject, size: Size) -> Figures:
    """Processes made one after the other; a second's worth."""
    programs = {f"p.{n}": ["/bin/true"] for n in range(size.processes)}
    subject.plan(programs)
    begin = time.perf_counter()
    for name, command in programs.items():
        subject.make(name, command)
    return {"per second": size.processes / (time.perf_counter() - begin)}


def _latencies(subject: Subject, count: int, pause: float) -> Figures:
    subject.make("clock", [sys.executable, f"{CHILDREN}/clock.py", str(count), str(pause)])
    seen: list[float] = []
    subject.read("clock", timed(seen))
    return {"ms": seen, "lost": count - len(seen)}


def latency(subject: Subject, size: Size) -> Figures:
    """From a child's write to the watcher's hands, a line every 50 ms, in ms."""
    return _latencies(subject, size.lines, 0.05)


def quiet_latency(subject: Subject, size: Size) -> Figures:
    """The same, a line every two seconds."""
    return _latencies(subject, size.quiet_lines, 2.0)


def _flood(subject: Subject, total: int, piece: int, rate: float, wait: bool = False) -> Figures:
    got = 0
    last = 0.0

    def handle(_: str, data: bytes) -> None:
        nonlocal got, last
        last = time.monotonic()
        got += len(data)

    with tempfile.NamedTemporaryFile("r") as told:
        command = [sys.executable, f"{CHILDREN}/flood.py", str(total), str(piece), str(rate), told.name]
        subject.make("flood", command, wait)
        subject.read("flood", handle)
        taken, begin = map(float, told.read().split())
    return {
        "MB/s": got / 1e6 / max(last - begin, 1e-9),
        "taken MB/s": taken,
        "lost %": 100 * (total - got) / total,
    }


def throughput(subject: Subject, size: Size) -> Figures:
    """64 KiB pieces, as fast as they are taken."""
    return _flood(subject, size.flood, 65536, 0)


def steady(subject: Subject, size: Size) -> Figures:
    """64 KiB pieces at 20 MB/s."""
    return _flood(subject, size.flood // 4, 65536, 20e6)


def block(subject: Subject, size: Size) -> Figures:
    """64 KiB pieces, as fast as they are taken, and the child waits where the buffer is full."""
    return _flood(subject, size.flood, 65536, 0, wait=True)


def small_lines(subject: Subject, size: Size) -> Figures:
    """Lines of 100 bytes, each a write of its own."""
    return _flood(subject, size.small_lines * 100, 100, 0)


def values(subject: Subject, size: Size) -> Figures:
    """A value set and asked for, one round trip after the other."""
    begin = time.perf_counter()
    for n in range(size.values):
        subject.set_and_get(f"v{n % 50}", str(n))
    return {"µs": (time.perf_counter() - begin) / size.values / 2 * 1e6}


_CLIENT = """
import sys, time
from benchmarks.subjects import SUBJECTS
subject = SUBJECTS[sys.argv[1]].client_of(sys.argv[2])
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    subject.set_and_get(f"v{n % 50}", str(n))
subject.leave()
"""


def _name_of(subject: Subject) -> str:
    return next(name for name, kind in SUBJECTS.items() if type(subject) is kind)


def many_clients(subject: Subject, size: Size) -> Figures:
    """Eight clients that set and ask for values at once."""
    count = size.values // 2
    command = [sys.executable, "-W", "ignore", "-c", _CLIENT, _name_of(subject), str(subject.where), str(count)]
    clients = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(8)]
    time.sleep(1.5)
    before, idle, begin = cpu_of(subject.daemon), _machine_idle(), time.perf_counter()
    for client in clients:
        assert client.stdin is not None
        client.stdin.write(b"go\n")
        client.stdin.flush()
    for client in clients:
        client.communicate()
    spent = time.perf_counter() - begin
    cores = len(os.sched_getaffinity(0))
    return {
        "per second": 8 * count * 2 / spent,
        "CPU %": 100 * (cpu_of(subject.daemon) - before) / spent,
        "machine %": 100 * (1 - (_machine_idle() - idle) / spent / cores),
    }


def _machine_idle() -> float:
    """Seconds of all cores together in which there was nothing to do (proc_stat(5))."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def cold_start(subject: Subject, size: Size) -> Figures:
    """From exec to the first answer, and the memory then; the bare thing: importing asyncio and dbus_next."""
    del size
    took = getattr(subject, "started_in", None)
    if took is None:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import asyncio, dbus_next"], check=True)
        took = time.perf_counter() - begin
    return {"ms": took * 1000, "MiB": _memory_with_helpers(subject.daemon)}


def _memory_with_helpers(pid: int) -> float:
    """MiB that a process and its children have for themselves, and their share of what they have together (PSS)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    shares = [line.split()[1] for of in [str(pid), *children] for line in _smaps(of) if line.startswith("Pss:")]
    return sum(map(int, shares)) / 1024


def _smaps(pid: str) -> list[str]:
    return Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()


def backlog(subject: Subject, size: Size) -> Figures:
    """What was printed while nobody read: 2 MiB, in 4 KiB pieces."""
    del size
    total = 2 * 1024 * 1024 - 65536
    subject.make("flood", [sys.executable, f"{CHILDREN}/flood.py", str(total), "4096", "0", os.devnull])
    time.sleep(1.5)
    got, last = 0, 0.0

    def handle(_: str, data: bytes) -> None:
        nonlocal got, last
        got, last = got + len(data), time.perf_counter()

    begin = time.perf_counter()
    subject.read("flood", handle)
    took = max(last - begin, 1e-9)
    return {"MB/s": got / 1e6 / took, "took ms": took * 1000, "lost %": 100 * (total - got) / total}


WORKLOADS: dict[str, Callable[[Subject, Size], Figures]] = {
    "make": make,
    "latency": latency,
    "quiet latency": quiet_latency,
    "throughput": throughput,
    "steady": steady,
    "block": block,
    "one": one,
    "many clients": many_clients,
    "cold start": cold_start,
    "small lines": small_lines,
    "idle": idle,
    "500 idle": five_hundred_idle,
    "busy": busy,
    "watchers": watchers,
    "values": values,
    "backlog": backlog,
}
