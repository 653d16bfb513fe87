"""Workloads of many processes, or many watchers."""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.measuring import Figures, Size, cpu_of, status_of, timed
from benchmarks.subject import CHILDREN, Subject


def _switches(pid: int) -> int:
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def idle(subject: Subject, size: Size) -> Figures:
    """Many processes that do nothing: what each costs, and whether the last is made as fast as the first."""
    memory, descriptors = status_of(subject.daemon, "VmRSS"), len(os.listdir(f"/proc/{subject.daemon}/fd"))
    times = []
    for n in range(size.idle):
        begin = time.perf_counter()
        subject.make(f"idle.{n}", ["/bin/sleep", "3600"])
        times.append((time.perf_counter() - begin) * 1000)
    tenth = max(size.idle // 10, 1)
    begin = time.perf_counter()
    for n in range(20):
        subject.list_one(f"idle.{n % size.idle}")
    listing = (time.perf_counter() - begin) / 20 * 1000
    time.sleep(0.5)  # what is told of the making has been told
    switches = _switches(subject.daemon)
    time.sleep(2)
    return {
        "KiB each": (status_of(subject.daemon, "VmRSS") - memory) / size.idle,
        "descriptors each": (len(os.listdir(f"/proc/{subject.daemon}/fd")) - descriptors) / size.idle,
        "threads": status_of(subject.daemon, "Threads"),
        "first ms": sorted(times[:tenth])[tenth // 2],
        "last ms": sorted(times[-tenth:])[tenth // 2],
        "list one ms": listing,
        "wake-ups in 2 s": _switches(subject.daemon) - switches,
    }


def five_hundred_idle(subject: Subject, size: Size) -> Figures:
    """Processes that do nothing: what each costs, and how long it takes to list them all."""
    memory = status_of(subject.daemon, "VmRSS")
    programs = {f"idle.{n}": ["/bin/sleep", "3600"] for n in range(size.listed)}
    subject.plan(programs)
    for name, command in programs.items():
        subject.make(name, command)
    each = (status_of(subject.daemon, "VmRSS") - memory) / size.listed
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        listed = subject.list_all()
        times.append((time.perf_counter() - begin) * 1000)
        assert listed == size.listed
    return {"KiB each": each, "list ms": times}


def one(subject: Subject, size: Size) -> Figures:
    """The one process there is, listed."""
    del size
    subject.make("one", ["/bin/sleep", "3600"])
    begin = time.perf_counter()
    for _ in range(200):
        subject.list_one("one")
    return {"list one ms": (time.perf_counter() - begin) / 200 * 1000}


def busy(subject: Subject, size: Size) -> Figures:
    """Many processes that print ten lines a second each, one watcher."""
    count = size.lines // 4
    seen: list[float] = []
    with tempfile.TemporaryDirectory(prefix="papa-bench-") as folder:
        go = Path(folder) / "go"
        command = [sys.executable, f"{CHILDREN}/clock.py", str(count), "0.1", str(go)]
        programs = {f"busy.{n}": command for n in range(size.busy)}
        subject.plan(programs)
        for name in programs:
            subject.make(name, command)
        time.sleep(size.busy / 40)  # until all of them have started
        before, begin = cpu_of(subject.daemon), time.perf_counter()
        go.touch()
        subject.read("busy.*", timed(seen))
        spent, cpu = time.perf_counter() - begin, cpu_of(subject.daemon) - before
    return {"ms": seen, "lost": size.busy * count - len(seen), "CPU s": cpu, "CPU %": 100 * cpu / spent}


def watchers(subject: Subject, size: Size) -> Figures:
    """A process that prints 20 lines a second for one watcher, then one for many: the daemon's CPU for either."""
    one, lost = _watched(subject, size, 1)
    many, more_lost = _watched(subject, size, size.watchers)
    return {"CPU s of one": one, "CPU s": many, "times one": many / one, "lost": lost + more_lost}


def _watched(subject: Subject, size: Size, count: int) -> tuple[float, int]:
    """Return the daemon's CPU, s, and how many lines all watchers together have missed."""
    name, lines = f"watched.by.{count}", size.lines // 2
    seen: list[list[float]] = [[] for _ in range(count)]
    clients = [type(subject).client_of(str(subject.where)) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="papa-bench-") as folder:
        go = Path(folder) / "go"
        subject.make(name, [sys.executable, f"{CHILDREN}/clock.py", str(lines), "0.05", str(go)])
        threads = [
            threading.Thread(target=client.read, args=(name, timed(each)))
            for client, each in zip(clients, seen, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5 + count / 40)  # until all of them watch
        before = cpu_of(subject.daemon)
        go.touch()
        for thread in threads:
            thread.join()
        cpu = cpu_of(subject.daemon) - before
    for client in clients:
        client.leave()
    return cpu, count * lines - sum(map(len, seen))
