"""What is seen of papad and of the machine from outside, inside a container."""

import asyncio
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from papa_dbus.bus import Bus, Message, address_of
from papa_dbus.names import BUS_NAME

#: Seconds for papad to be up again, whatever else the machine does: a reload waits for what is being made.
PATIENCE = 90


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


@dataclass
class End:
    """How papad was ended, when it left the bus, and when another was there (CLOCK_MONOTONIC)."""

    how: str
    beside: bool  # all attackers
    left: float
    back: float = float("inf")


class Ends:
    """Ends papad, and notes by what the bus says when it has left and come back."""

    def __init__(self) -> None:
        self.seen: list[End] = []
        self.beside = False
        self._how = "by itself"
        self._back = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._bus = Bus(address_of("system"))
        await self._bus.start()
        self._bus.on_signal.append(self._hear)
        driver = "org.freedesktop.DBus"
        rule = f"type='signal',sender='{driver}',member='NameOwnerChanged',arg0='{BUS_NAME}'"
        await self._bus.call(driver, "/org/freedesktop/DBus", driver, "AddMatch", "s", [rule])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._bus.close()

    def _hear(self, message: Message) -> None:
        if message.member != "NameOwnerChanged" or message.body[0] != BUS_NAME:
            return
        if not message.body[2]:
            self.seen.append(End(self._how, self.beside, time.monotonic()))
        elif self.seen:
            self.seen[-1].back = time.monotonic()
            self._back.set()

    async def end(self, how: str) -> None:
        """End papad by "kill" or "reload", and wait until another is on the bus."""
        self._back.clear()
        self._how = how
        if how == "kill":
            kill()
        else:
            reload = await asyncio.create_subprocess_exec("systemctl", "--no-block", "reload", "papa")
            await reload.wait()
        async with asyncio.timeout(PATIENCE):
            await self._back.wait()


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
