"""For the tests of the line protocol: a real papad with a bus of its own, and a client that says what it is told."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import PATIENCE

__all__ = ["PATIENCE", "ROOT", "LineClient", "Papad", "free_port", "kill_session"]

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Papad:
    """A papad of the tests' own, with its TCP port and its Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.path = str(folder / "papad.sock")
        self.log = folder / "papad.log"
        command = [sys.executable, "-m", "papa_dbus.service", "--bus", "own"]
        command += ["--port", str(self.port), "--socket", self.path]
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self.process.stdout is not None
        self.address = ""
        for line in self.process.stdout:
            if (found := re.search(r"unix:path=\S+", line)) is not None:
                self.address = found[0]
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(f"papad did not start: {self.log.read_text()}")

    def client(self) -> "LineClient":
        """A new connection, with its welcome read."""
        client = LineClient(socket.create_connection(("127.0.0.1", self.port), PATIENCE))
        client.reply()
        return client

    def clear(self) -> None:
        """Kill and forget whatever is hosted."""
        with self.client() as client:
            for line in client.ask("list processes").splitlines():
                if "running=True" in line:
                    kill_session(int(re.search(r"pid=(\d+)", line)[1]))  # type: ignore[index]
                client.say(f"remove process {line.split()[0]}\n")
                client.reply()  # an error where it has gone meanwhile
            for kind in ("sockets", "values"):
                for line in client.ask(f"list {kind}").splitlines():
                    client.ask(f"remove {kind} {line.split()[0]}")

    def stop(self) -> int:
        """End it; returns its exit code."""
        assert self.process.stdout is not None
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


def kill_session(pid: int) -> None:
    """Kill a hosted process and its children (it leads a session of its own), and see it end."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        os.killpg(pid, signal.SIGKILL)
        ended, _, _ = select.select([pidfd], [], [], PATIENCE)
        os.close(pidfd)
        assert ended


class LineClient:
    """A connection of the line protocol; reading it is bounded in time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def say(self, text: str | bytes) -> None:
        """Send."""
        self.sock.sendall(text.encode() if isinstance(text, str) else text)

    def until(self, end: bytes) -> bytes:
        """Read up to an end, which is not given back."""
        while end not in self._data:
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError(f"the connection ended with {self._data!r}")
            self._data += data
        before, _, self._data = self._data.partition(end)
        return before

    def reply(self) -> str:
        """One whole reply."""
        if self._data == b"":
            self._data = self.sock.recv(1 << 20)
        if self._data.startswith(b"> "):
            self._data = self._data[2:]
            return ""
        return self.until(b"\n> ").decode()

    def ask(self, line: str | bytes) -> str:
        """Send a line and read the reply, which must be no error."""
        reply = self.try_(line)
        assert not reply.startswith("Error:"), reply
        return reply

    def fault(self, line: str | bytes) -> str:
        """Send a line and read the error that it must be answered with."""
        reply = self.try_(line)
        assert reply.startswith("Error: "), reply
        return reply.removeprefix("Error: ")

    def try_(self, line: str | bytes) -> str:
        """Send a line and read the reply."""
        self.say((line.encode() if isinstance(line, str) else line) + b"\n")
        return self.reply()

    def rest(self) -> bytes:
        """Read to the end of the connection."""
        while data := self.sock.recv(1 << 20):
            self._data += data
        rest, self._data = self._data, b""
        return rest

    def batch(self) -> list[tuple[str, str, float, bytes | int]]:
        """One batch of a watch: kind, name, seconds, and the bytes or the exit code of each."""
        records: list[tuple[str, str, float, bytes | int]] = []
        while True:
            while not (self._data.startswith(b"] ") or b"\n" in self._data):
                self._more()
            if self._data.startswith(b"] "):
                self._data = self._data[2:]
                return records
            kind, name, seconds, number = self.until(b"\n").decode().split(":")
            if kind == "closed":
                records.append((kind, name, float(seconds), int(number)))
            else:
                records.append((kind, name, float(seconds), self._exactly(int(number))))

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionError(f"the connection ended with {self._data!r}")
        self._data += data

    def _exactly(self, size: int) -> bytes:
        while len(self._data) < size + 1:
            self._more()
        data, end, self._data = self._data[:size], self._data[size : size + 1], self._data[size + 1 :]
        assert end == b"\n"
        return data

    def read_watch(self) -> tuple[bytes, bytes, list[int]]:
        """Read a watch to its end, acknowledging: all of stdout, all of stderr, the exit codes."""
        out, err = bytearray(), bytearray()
        codes: list[int] = []
        while True:
            while len(self._data) < 2:
                self._more()
            if self._data.startswith(b"Nothing"):
                assert self.reply() == "Nothing left to watch"
                return bytes(out), bytes(err), codes
            for kind, _, _, data in self.batch():
                if isinstance(data, int):
                    codes.append(data)
                elif kind == "out":
                    out += data
                else:
                    err += data
            self.say("\n")
