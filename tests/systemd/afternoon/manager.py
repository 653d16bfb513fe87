"""The manager of the hostile afternoon: a member of the group papa with papa_dbus.client.aio, who plays by the rules.

Hosts the processes that print, consumes and acknowledges all they say, makes one call after the other and a short job
every second. Takes lines from its input: ``window NAME`` begins a new window of its measurements, ``end`` lets it read
the rest. Prints ``ready`` once all processes run, and at the end one line of JSON.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from papa_dbus.client import aio
from papa_dbus.errors import PapaError
from tests.systemd.afternoon import lines

#: Seconds for what takes a second; then the manager says what it has and gives up.
PATIENCE = 60
PAUSE = 0.002  # seconds between two calls
PYTHON = "/usr/bin/python3"
#: The bus itself is called, too: what that takes is not papad's.
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class Reader:
    """Consumes all, and keeps the accounts."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str], lines.Account] = {}
        self.ends: dict[str, int | None] = {}
        self.last: dict[str, int] = {}
        self.records = self.dropped = 0
        self.wrong: list[str] = []

    async def run(self, kernel: aio.Kernel) -> None:
        """Read until each process has ended."""
        async for event in kernel.watch("w.*"):
            last = self.last.get(event.process, 0)
            match event:
                case aio.Record():
                    self.records += 1
                    self._account(event.process, event.stream).take(event.data)
                case aio.Dropped():
                    self.dropped += event.bytes
                case aio.Exited():
                    self.ends[event.process] = event.exit_code
            if not isinstance(event, aio.Dropped):
                if event.seq != last + 1:
                    self.wrong.append(f"{event.process}: number {event.seq} came after {last}")
                self.last[event.process] = event.seq

    def _account(self, name: str, stream: str) -> lines.Account:
        if (name, stream) not in self.accounts:
            self.accounts[name, stream] = lines.Account(name)
        return self.accounts[name, stream]

    def complaints(self, names: list[str]) -> list[str]:
        """Return all that was lost, came twice, or was damaged."""
        wrong = list(self.wrong)
        for name in names:
            for stream in ("out", "err"):
                wrong += self._account(name, stream).complaints()
            if self.ends.get(name, -1) != lines.exit_code_of(name):
                wrong.append(f"{name}: ended with {self.ends.get(name, 'nothing')}")
        return wrong

    @property
    def lines(self) -> int:
        """How many lines have come, both streams."""
        return sum(account.lines for account in self.accounts.values())


class Caller:
    """Makes calls and notes when each began and ended (CLOCK_MONOTONIC), in the window in which it began."""

    def __init__(self, kernel: aio.Kernel, jobs: Path) -> None:
        self._kernel = kernel
        self._jobs = jobs
        self.window = "before"
        self.calls: dict[str, list[tuple[float, float]]] = {}
        self.job_seconds: dict[str, list[float]] = {}
        self.errors: Counter[str] = Counter()
        self.jobs = 0
        self.wrong: list[str] = []

    async def call_constantly(self) -> None:
        """Make the everyday calls, one after the other, for ever."""
        kernel = self._kernel
        for n in itertools.count():
            value = f"value {n}"
            await self._time(kernel.set_value(f"m.{n % 20}", value))
            got = await self._time(kernel.get_value(f"m.{n % 20}"))
            if got not in (value, None):
                self.wrong.append(f"value m.{n % 20} is {got!r}, and {value!r} was set")
            await self._time(kernel.list_processes(f"w.{n % 200}"))
            await self._time(kernel.list_sockets("m.*"))
            if n % 5 == 0:
                await self._time(kernel.link.bus.call(*_BUS, "GetId"), "bus ")

    async def _time(self, call: Any, of: str = "") -> Any:
        window, begin = of + self.window, time.monotonic()
        try:
            return await call
        except PapaError as error:
            self.errors[f"{type(error).__name__}: {error}"[:120]] += 1
            return None
        finally:
            self.calls.setdefault(window, []).append((begin, time.monotonic()))
            await asyncio.sleep(PAUSE)  # paces the calls

    async def make_jobs(self) -> None:
        """Run a short job every second, for ever: each once, and its exit code is known."""
        for n in itertools.count():
            self.jobs = n
            name, window, begin = f"job.{n}", self.window, time.monotonic()
            try:
                command = ["/bin/sh", "-c", f"echo ran >>{self._jobs / name}; exit {n % 100}"]
                await self._kernel.make_process(name, command)
                self.job_seconds.setdefault(window, []).append(time.monotonic() - begin)
                await self._see_end(name, n % 100)
            except PapaError as error:
                self.errors[f"job: {type(error).__name__}: {error}"[:120]] += 1
            await asyncio.sleep(1)  # paces the jobs

    async def _see_end(self, name: str, code: int) -> None:
        async for event in self._kernel.watch(name):
            if isinstance(event, aio.Exited) and event.exit_code != code:
                self.wrong.append(f"{name}: ended with {event.exit_code}")

    def complaints(self) -> list[str]:
        """Return which jobs have run not at all or more than once, and values that were not kept."""
        ran = {n: _lines_in(self._jobs / f"job.{n}") for n in range(self.jobs)}
        return self.wrong + [f"job.{n} ran {times} times" for n, times in ran.items() if times != 1]


def _lines_in(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


async def make_processes(kernel: aio.Kernel, names: list[str], folder: Path, pause: float) -> None:
    """Host them, some at a time."""
    some = asyncio.Semaphore(8)

    async def make(name: str) -> None:
        async with some:
            command = [PYTHON, "-I", "-S", lines.__file__, name, str(pause), str(folder / "stop")]
            await kernel.make_process(name, command)

    await asyncio.gather(*[make(name) for name in names])


async def main(folder: Path, processes: int, pause: float) -> None:
    """Manage until the input says that it is over."""
    names = [f"w.{n}" for n in range(processes)]
    reader = Reader()
    async with aio.connect("system") as kernel:
        await make_processes(kernel, names, folder, pause)
        caller = Caller(kernel, folder / "jobs")
        reading = asyncio.create_task(reader.run(kernel))
        busy = [asyncio.create_task(caller.call_constantly()), asyncio.create_task(caller.make_jobs())]
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while (told := (await loop.run_in_executor(None, sys.stdin.readline)).split())[:1] == ["window"]:
            caller.window = told[1]
        for task in busy:
            task.cancel()
        await asyncio.wait([reading, *busy], timeout=PATIENCE)
        failed = [
            repr(task.exception())
            for task in (reading, *busy)
            if task.done() and not task.cancelled() and task.exception()
        ]
        if not reading.done():
            failed.append(f"the watch did not end within {PATIENCE} s")
        reading.cancel()
    print(
        json.dumps(
            {
                "wrong": [*failed, *reader.complaints(names), *caller.complaints()],
                "dropped": reader.dropped, "lines": reader.lines, "records": reader.records, "jobs": caller.jobs,
                "errors": caller.errors, "calls": caller.calls, "job seconds": caller.job_seconds,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
