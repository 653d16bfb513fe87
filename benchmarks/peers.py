"""The peers: supervisord and Circus, which write output to log files, and a watcher that follows these by inotify(7).

The files are in memory, so that no disk is measured. None is rotated, which favours the peers: supervisord's default of
50 MB would cost it time, and its watcher bytes.
"""

import contextlib
import fnmatch
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.subject import Daemon, Handle

_WANTED = Path(__file__).parent / "peers.txt"
_VENV = Path(__file__).parents[1] / "build" / "peers"
_PACKAGES = _VENV / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def install() -> None:
    """Install the peers into a virtual environment of their own, unless these versions are there."""
    installed = _PACKAGES / _WANTED.name
    if installed.exists() and installed.read_text() == _WANTED.read_text():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(_VENV)], check=True)
    pip = [str(_VENV / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(_WANTED)], check=True)
    installed.write_text(_WANTED.read_text())


class _LogFiles(Daemon):
    """A manager whose own log says when a process has ended and all of its output is in its file."""

    ended: re.Pattern[str]

    def start(self) -> None:
        """Start it without a process, and wait for its first answer."""
        sys.path.append(str(_PACKAGES))  # for its client, and inotify_simple
        self._folder = tempfile.TemporaryDirectory(prefix="papa-bench-", dir="/dev/shm")
        self._path = Path(self._folder.name)
        self._outputs = self._path / "outputs"
        self._outputs.mkdir()
        (self._path / "log").touch()
        self._begin()
        self._answered()

    def _begin(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End it."""
        super().stop()
        self._folder.cleanup()

    def read(self, pattern: str, handle: Handle) -> None:
        """Read each file when it grows, until every process has ended."""
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {
                path.name: stack.enter_context(path.open("rb", buffering=0))
                for path in self._outputs.iterdir()
                if fnmatch.fnmatchcase(path.name, pattern)
            }
            for grown, ended in self._changes(files):
                for name in grown | ended:
                    while piece := files[name].read(65536):
                        handle(name, piece)

    def _changes(self, names: Mapping[str, object]) -> Iterator[tuple[set[str], set[str]]]:
        """Give the files that have grown, and those of processes that have ended, until all have."""
        from inotify_simple import INotify, flags

        running, log = set(names), self._path / "log"
        with INotify() as inotify:
            outputs = inotify.add_watch(self._outputs, flags.MODIFY)
            said = inotify.add_watch(log, flags.MODIFY)
            grown, look = set(names), True
            while True:
                ended = running & set(self.ended.findall(log.read_text())) if look else set()
                yield grown, ended
                running -= ended
                if not running:
                    return
                events = inotify.read()
                assert not any(event.mask & flags.Q_OVERFLOW for event in events)
                grown = {event.name for event in events if event.wd == outputs} & running
                look = any(event.wd == said for event in events)


class Supervisord(_LogFiles):
    """supervisord, asked as supervisorctl asks it."""

    ended = re.compile(r" exited: (\S+) \(")

    def _begin(self) -> None:
        self._planned: set[str] = set()
        path, socket = self._path, self._path / "socket"
        (path / "conf").write_text(
            f"[supervisord]\nnodaemon=true\nsilent=true\nlogfile={path}/log\npidfile={path}/pid\n"
            f"[unix_http_server]\nfile={socket}\n[include]\nfiles={path}/*.ini\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        self._run([str(_VENV / "bin/supervisord"), "-c", str(path / "conf")])
        self._wait_until(socket.exists)
        from xmlrpc.client import ServerProxy

        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{socket}")
        self._rpc: Any = ServerProxy("http://127.0.0.1", transport=transport).supervisor
        self._rpc.getState()

    def plan(self, programs: Mapping[str, Sequence[str]]) -> None:
        """Write the programs down, and have them read."""
        (self._path / f"{len(self._planned)}.ini").write_text(
            "".join(
                f"[program:{name}]\ncommand={shlex.join(command)}\nautostart=false\nautorestart=false\nstartsecs=0\n"
                f"redirect_stderr=true\nstdout_logfile={self._outputs}/{name}\nstdout_logfile_maxbytes=0\n"
                for name, command in programs.items()
            )
        )
        self._rpc.reloadConfig()
        for name in programs:
            self._rpc.addProcessGroup(name)
        self._planned |= programs.keys()

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a program; one that writes faster than it is read always waits."""
        del wait
        if name not in self._planned:
            self.plan({name: command})
        self._rpc.startProcess(name, False)

    def list_all(self) -> int:
        """Ask after all processes."""
        return len(self._rpc.getAllProcessInfo())


class Circus(_LogFiles):
    """circusd, asked as circusctl asks it: each process is a watcher of its own."""

    ended = re.compile(r" (\S+) stopped$", re.MULTILINE)

    def _begin(self) -> None:
        path, socket = self._path, self._path / "socket"
        (path / "ini").write_text(
            f"[circus]\nendpoint=ipc://{socket}\npubsub_endpoint=ipc://{path}/pubsub\nlogoutput={path}/log\n"
        )
        self._run([str(_VENV / "bin/circusd"), str(path / "ini")])
        self._wait_until(socket.exists)
        from circus.client import CircusClient

        self._client = CircusClient(endpoint=f"ipc://{socket}", timeout=20)
        self._ask("numwatchers")

    def _ask(self, command: str, **properties: Any) -> Any:
        while True:
            answer = self._client.send_message(command, **properties)
            if answer["status"] != "error":
                return answer
            if "already running" not in answer["reason"]:  # it looks after its processes now and then, and refuses
                raise RuntimeError(answer["reason"])

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Add a watcher, and start it; one that writes faster than it is read always waits."""
        del wait
        options = {
            "copy_env": True,
            "respawn": False,
            "stdout_stream": {"class": "FileStream", "filename": str(self._outputs / name)},
        }
        self._ask("add", name=name, cmd=shlex.join(command), start=True, waiting=True, options=options)

    def list_all(self) -> int:
        """Ask after all watchers."""
        return len(self._ask("status")["statuses"])
