"""The hostile afternoon, inside a container, as root, with arguments: FOLDER SECONDS PROCESSES PAUSE [ATTACK…].

The manager alone for two windows of SECONDS, papad's ends included, then for three beside all attackers (or those
named), then until it has read the rest. Prints one line of JSON: what the manager says, and what was seen of papad.
"""

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.systemd.afternoon import papad

HERE = Path(__file__).parent
PATIENCE = 120
ALONE, BESIDE = 2, 3  # windows
#: How papad is ended, in turns, and seconds between two ends. A reload waits for what is being made, in folders that
#: hang as well.
HOWS, BETWEEN_ENDS = ("kill", "kill", "reload"), 7
#: Which user and which program with which words: mary and carl are members of the group papa, john is not.
ATTACKS: Final = {
    "stall": ("root", "attackers", "stall"),
    "flood": ("carl", "attackers", "flood"),
    "guests": ("carl", "attackers", "guests"),
    "stranger-calls": ("john", "attackers", "stranger-calls"),
    "stranger-parks": ("john", "attackers", "stranger-parks"),
    "stranger-signatures": ("john", "attackers", "stranger-signatures"),
    "stranger-guests": ("john", "attackers", "stranger-guests"),
    "port-sit": ("root", "strangers_port", "sit"),
    "port-guests": ("root", "strangers_port", "come-and-go"),
    "hang": ("root", "hang", ""),
    "ends": ("", "", ""),
}


def program(user: str, module: str, *words: str) -> list[str]:
    """Give the command line of one of the programs here, as a user; it ends with this one."""
    user_of = [] if user == "root" else [f"--reuid={user}", f"--regid={user}", "--init-groups"]
    python = [sys.executable, "-m", f"tests.systemd.afternoon.{module}"]
    return ["setpriv", "--pdeathsig=KILL", *user_of, *python, *filter(None, words)]


@dataclass
class Attacker:
    """One program, started again whenever it ends."""

    name: str
    command: list[str]
    starts: int = 0
    said: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                self.starts += 1
                self.process = await asyncio.create_subprocess_exec(
                    *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE, preexec_fn=lambda: os.nice(10),
                )  # fmt: skip
                await asyncio.gather(self._listen(self.process.stdout), self._listen(self.process.stderr))
                await self.process.wait()
                await asyncio.sleep(0.5)  # paces the attacker's returns
        finally:
            self.end()

    async def _listen(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        async for text in stream:
            self.said = [*self.said[-20:], text.decode(errors="replace").rstrip()]

    def end(self) -> None:
        """End the program, stopped or not."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()


class Manager:
    """The manager's program."""

    async def start(self, folder: Path, processes: int, pause: float) -> None:
        """Start it, and wait until it hosts all."""
        self._process = await asyncio.create_subprocess_exec(
            *program("mary", "manager", str(folder), str(processes), str(pause)),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
        )  # fmt: skip
        assert await self._line() == "ready\n"

    async def _line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self._process.stdout.readline()).decode()

    def begin(self, window: str) -> None:
        """Begin a window of its measurements."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"window {window}\n".encode())

    async def end(self) -> dict[str, Any]:
        """Let it read the rest; what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"end\n")
        said: dict[str, Any] = json.loads(await self._line())
        await self._process.wait()
        return said


async def end_papad(ends: papad.Ends, waiting: list[Attacker]) -> None:
    """End papad time and again; then start those anew whose watches and calls have gone with it."""
    for how in itertools.cycle(HOWS):
        await asyncio.sleep(BETWEEN_ENDS)  # paces papad's ends
        await ends.end(how)
        for attacker in waiting:
            attacker.end()


@contextlib.asynccontextmanager
async def running(*work: Any) -> AsyncIterator[None]:
    """Have this run as long as the block does."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
        failed = [task.exception() for task in tasks if task.done()]
        assert not failed, failed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def main(folder: Path, seconds: float, processes: int, pause: float, chosen: list[str]) -> None:
    """Have it all happen."""
    manager, sampler = Manager(), papad.Sampler()
    attackers = {name: Attacker(name, program(user, module, word, str(folder / "hang" if name == "hang" else folder)))
                 for name, (user, module, word) in ATTACKS.items() if name in chosen and module}  # fmt: skip
    await manager.start(folder, processes, pause)
    async with papad.Ends() as ends, running(sampler.run()):
        async with running(end_papad(ends, [])):
            for n in range(ALONE):
                manager.begin(f"alone-{n}")
                await asyncio.sleep(seconds)  # paces the windows
        manager.begin("coming")
        sampler.begin("under attack")
        waiting = [attackers[name] for name in ("stall", "stranger-parks") if name in attackers]
        ends.beside = True
        ending = [end_papad(ends, waiting)] if "ends" in chosen else []
        async with running(*[attacker.run() for attacker in attackers.values()], *ending):
            await asyncio.sleep(3)  # paces the windows: the attackers come
            for n in range(BESIDE):
                manager.begin(f"beside-{n}")
                await asyncio.sleep(seconds)  # paces the windows
            manager.begin("after")
        (folder / "stop").touch()
        said = await manager.end()
    told = {name: {"starts": one.starts, "said": one.said[-3:]} for name, one in attackers.items()}
    gaps = [vars(end) for end in ends.seen]
    print(json.dumps({"manager": said, "ends": gaps, "papad": sampler.seen(), "attackers": told}))


if __name__ == "__main__":
    asyncio.run(
        main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:] or list(ATTACKS))
    )
