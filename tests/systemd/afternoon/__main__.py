"""The hostile afternoon, inside a bed, as root, with arguments: FOLDER SECONDS PROCESSES PAUSE [ATTACK…].

The manager alone for a while, then for three windows of SECONDS beside all attackers (or those named), then until it
has read the rest. Prints one line of JSON: what the manager says, and what was seen of papad meanwhile.
"""

import asyncio
import contextlib
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
WINDOWS = 3
#: Seconds between two ends of papad.
BETWEEN_ENDS = 7
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


async def end_papad(waiting: list[Attacker], counts: dict[str, int]) -> None:
    """Reload papad, kill it, and so on; then start those anew whose watches and calls have gone with it."""
    while True:
        for how in ("reload", "kill"):
            await asyncio.sleep(BETWEEN_ENDS)  # paces papad's ends
            before = papad.stamp()
            if how == "kill":
                papad.kill()
            else:
                reload = await asyncio.create_subprocess_exec("systemctl", "--no-block", "reload", "papa")
                await reload.wait()
            counts[how] += 1
            await papad.is_another(before)
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
    counts = {"reload": 0, "kill": 0}
    attackers = {name: Attacker(name, program(user, module, word, str(folder / "hang" if name == "hang" else folder)))
                 for name, (user, module, word) in ATTACKS.items() if name in chosen and module}  # fmt: skip
    await manager.start(folder, processes, pause)
    async with running(sampler.run()):
        manager.begin("alone")
        await asyncio.sleep(seconds)  # paces the windows
        manager.begin("coming")
        sampler.begin("under attack")
        waiting = [attackers[name] for name in ("stall", "stranger-parks") if name in attackers]
        ends = [end_papad(waiting, counts)] if "ends" in chosen else []
        async with running(*[attacker.run() for attacker in attackers.values()], *ends):
            await asyncio.sleep(3)  # paces the windows: the attackers come
            for n in range(WINDOWS):
                manager.begin(f"load-{n}")
                await asyncio.sleep(seconds)  # paces the windows
            manager.begin("after")
        (folder / "stop").touch()
        said = await manager.end()
    told = {name: {"starts": one.starts, "said": one.said[-3:]} for name, one in attackers.items()}
    print(json.dumps({"manager": said, "ends": counts, "papad": sampler.seen(), "attackers": told}))


if __name__ == "__main__":
    asyncio.run(
        main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:] or list(ATTACKS))
    )
