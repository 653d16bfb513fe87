"""Circus without a machine of its own: in virtual environments of the test's, with a papad on a bus of its own."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from tests.bus.isolated import PrivateBus, SupervisedPapad
from tests.support import PATIENCE, wait_until
from tests.systemd.container import PROJECT
from tests.systemd.debian import TREES

FILES = Path(__file__).with_name("local")


def environment(version: str) -> Path:
    """Make, or find, a virtual environment with a Circus, which has the project as it is here."""
    target = TREES / f"circus-{version}-local-python{sys.version_info.major}.{sys.version_info.minor}"
    TREES.mkdir(parents=True, exist_ok=True)
    with (TREES / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "whole").exists():
            shutil.rmtree(target, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", target], check=True, timeout=PATIENCE * 10)
            pip = [str(target / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, f"circus=={version}", "dbus-next>=0.2.3,<0.3"], check=True, timeout=PATIENCE * 15)
            (target / "whole").touch()
    return target


class Place:
    """A folder, a message bus and a papad, for the circusds of a test."""

    def __init__(self, version: str) -> None:
        self.python = environment(version) / "bin/python"
        self.folder = Path(tempfile.mkdtemp(prefix="circus-"))
        self.folder.chmod(0o755)
        self.bus = PrivateBus(self.folder)
        self.papad = SupervisedPapad(self.bus.address, self.folder)
        self.papad.start()
        self._circusds: list[Circusd] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for circusd in self._circusds:
            circusd.kill()
        hosted = [info["pid"] for info in self.processes().values()]
        self.papad.stop()
        self.bus.stop()
        for pid in {*hosted, *self._of_mine()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder)

    def _of_mine(self) -> Iterator[int]:
        """What runs with a file of this folder, such as what a shell that was ended has left."""
        for found in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in found.read_bytes():
                    yield int(found.parent.name)

    def papa(self, code: str) -> Any:
        """Evaluate an expression about ``p``, a client of papad."""
        program = f"import json; from papa_dbus.client.compat.papa import Papa; p = Papa(); print(json.dumps({code}))"
        return json.loads(self.python_says(program))

    def python_says(self, program: str) -> str:
        """What a program prints in the environment of this Circus."""
        return subprocess.check_output([self.python, "-c", program], env=self.variables, timeout=PATIENCE, text=True)

    def kept(self, name: str) -> int:
        """Bytes of a process's output that nobody has acknowledged."""
        program = (
            "import asyncio, sys\nfrom papa_dbus.client import aio\nasync def main():\n"
            " async with aio.connect() as p: print((await p.list_processes(sys.argv[1]))[sys.argv[1]].buffered)\n"
            "asyncio.run(main())"
        )
        return int(subprocess.check_output([self.python, "-c", program, name], env=self.variables, timeout=PATIENCE))

    def processes(self) -> dict[str, Any]:
        """What papad hosts and runs."""
        found: dict[str, Any] = self.papa("p.list_processes()")
        return {name: info for name, info in found.items() if info["running"]}

    @property
    def variables(self) -> dict[str, str]:
        """A circusd's environment."""
        return {"PATH": os.environ["PATH"], "PAPA_BUS_ADDRESS": self.bus.address, "PYTHONPATH": str(PROJECT)}

    def circusd(self, name: str = "circus", *, plain: bool = False) -> "Circusd":
        """Make a circusd that has a folder and endpoints of its own; ``plain`` is Circus's."""
        circusd = Circusd(self, name, plain=plain)
        self._circusds.append(circusd)
        return circusd


class Circusd:
    """One circusd of a place, and a client of it."""

    def __init__(self, place: Place, name: str, *, plain: bool) -> None:
        self._place = place
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place.folder))
        self.folder.chmod(0o777)
        self.log = self.folder / "log"
        self._ini = self.folder / "circus.ini"
        self.endpoint = f"ipc://{self.folder}/ctl"
        self._module = "circus.circusd" if plain else "papa_dbus.client.circus"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[str] | None = None

    def configure(self, sections: str, circus: str = "") -> None:
        """Write its file: what is in [circus] besides the endpoints, and the other sections."""
        head = f"[circus]\nendpoint = {self.endpoint}\npubsub_endpoint = ipc://{self.folder}/pub\ncheck_delay = 0.2\n"
        self._ini.write_text(f"{head}{circus}\n{sections}")

    def launch(self, *prefix: str, variables: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start it."""
        command = [*prefix, str(self._place.python), "-m", self._module, str(self._ini)]
        with self.log.open("ab") as log, self._ini.open() as something:
            self._process = subprocess.Popen(
                command,
                stdin=something,
                stdout=log,
                stderr=log,
                env={**self._place.variables, **(variables or {})},
                cwd=self.folder,
            )
        return self._process

    def begin(self, *prefix: str, variables: Mapping[str, str] | None = None) -> None:
        """Start it, and wait until all that is to be started is."""
        process = self.launch(*prefix, variables=variables)
        wait_until(lambda: process.poll() is not None or "waiting for commands" in self.words(), self.words)
        assert process.poll() is None, self.words()
        wait_until(self._settled, self.words)

    def _settled(self) -> bool:
        said = self.ask("status")
        return said["status"] == "ok" and set(said["statuses"].values()) <= {"active", "stopped"}

    def ask(self, command: str, **properties: Any) -> dict[str, Any]:
        """Send a message, and return the answer."""
        if self._client is None:
            self._client = subprocess.Popen(
                [self._place.python, FILES / "ask.py", self.endpoint],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=self._place.variables,
            )  # fmt: skip
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(json.dumps({"command": command, **properties}) + "\n")
        answer: dict[str, Any] = json.loads(self._client.stdout.readline())
        return answer

    def do(self, command: str, **properties: Any) -> dict[str, Any]:
        """Send a message, wait until it is done, and until it is done well."""
        return wait_until(
            lambda: (said := self.ask(command, **properties, waiting=True))["status"] == "ok" and said,
            lambda: self.ask(command, **properties, waiting=True),
        )

    def pids(self, watcher: str) -> list[int]:
        """The PIDs of a watcher's processes."""
        return sorted(self.ask("list", name=watcher)["pids"])

    def running(self, watcher: str, count: int = 1) -> list[int]:
        """Wait until a watcher has so many processes."""
        return wait_until(lambda: len(found := self.pids(watcher)) == count and found, self.words)

    def status(self, watcher: str) -> str:
        """A watcher's status."""
        return str(self.ask("status", name=watcher)["status"])

    def words(self) -> str:
        """Its log."""
        return self.log.read_text() if self.log.exists() else ""

    def warnings(self) -> list[str]:
        """The warnings and errors in its log."""
        return [line for line in self.words().splitlines() if "[WARNING]" in line or "[ERROR]" in line]

    def quit(self) -> None:
        """End it as a service manager does, and forget what it has logged."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._end_client()
        self.log.unlink()

    def kill(self) -> None:
        """End it with kill -9."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._end_client()

    def _end_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.close()
            client.wait(PATIENCE)
            client.stdout.close()


@contextlib.contextmanager
def place(version: str) -> Iterator[Place]:
    """Make a place."""
    with Place(version) as made:
        yield made
