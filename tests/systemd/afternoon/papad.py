"""What is seen of papad and of the machine from outside, inside a bed."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

#: Seconds for papad to be up again, whatever else the machine does.
PATIENCE = 60


def show(prop: str) -> str:
    """Give a property of papa.service."""
    command = ["systemctl", "show", f"--property={prop}", "--value", "papa"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main_pid() -> int:
    """Give papad's PID."""
    return int(show("MainPID"))


def kill() -> None:
    """Kill papad, if it is there."""
    if pid := main_pid():
        os.kill(pid, signal.SIGKILL)


async def is_another(before: str) -> None:
    """Wait until papad is up and no longer the one that has this stamp."""
    async with asyncio.timeout(PATIENCE):
        while stamp() == before or show("ActiveState") != "active":
            await asyncio.sleep(0.1)  # paces the looks


def stamp() -> str:
    """Give what changes with each restart and each reload."""
    return show("StateChangeTimestampMonotonic")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _processor() -> list[int]:
    return [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


class Sampler:
    """Notes how much memory papad has, five times a second, and what of the processors others took."""

    def __init__(self) -> None:
        self._most: dict[str, int] = {}
        self._phase = "alone"
        self._began = _processor()
        self._restarts = int(show("NRestarts"))

    def begin(self, phase: str) -> None:
        """From here on it is another phase."""
        self._phase = phase

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                status = _status(main_pid())
                size = int(status["VmRSS"].split()[0]) * 1024
            except (OSError, KeyError):
                size = 0  # it is being started again
            self._most[self._phase] = max(size, self._most.get(self._phase, 0))
            await asyncio.sleep(0.2)  # paces the samples

    def seen(self) -> dict[str, Any]:
        """Return it all."""
        now = _processor()
        spent = [after - before for after, before in zip(now, self._began, strict=True)]
        return {
            "memory": self._most,
            "restarts": int(show("NRestarts")) - self._restarts,
            "result": show("Result"),
            "steal": round(spent[7] / max(sum(spent[:8]), 1), 3),
        }
