"""A message bus with limits and a policy of its own, and a papad that finds its descriptors again, as under systemd.

For tests of what happens at a bus's limits and over `kill -9`, without booting a machine.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support import PATIENCE, wait_until

_DOCTYPE = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
"""
_OPEN_POLICY = """<policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*" eavesdrop="true"/><allow receive_sender="*" eavesdrop="true"/></policy>"""
# Moves the descriptors that it was passed to 3 and up, as systemd has them, and executes the rest of its arguments.
_AS_SYSTEMD = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3 + len(fds) + max(fds)) for fd in fds]
for number, fd in enumerate(high, 3):
    os.dup2(fd, number, inheritable=True)
os.closerange(3 + len(fds), 65536)
if fds:
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


# dbus-broker-launch needs a journal. It gets a socket of the test's, in a mount namespace of its own.
_WITH_JOURNAL = """
mount -t tmpfs papa-test /run/systemd && mkdir /run/systemd/journal && mount --bind "$0" /run/systemd/journal
exec "$@"
"""


def as_user(uid: int) -> list[str]:
    """Give the prefix of a command that runs it as a user, without groups. Needs root."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


class PrivateBus:
    """A message bus, "dbus-daemon" or "dbus-broker", which any user may connect to.

    ``limits`` are those of busconfig (dbus-daemon(1)); without any they are the implementation's defaults. ``policy``
    takes the place of one that allows everything.
    """

    def __init__(
        self,
        folder: Path,
        implementation: str = "dbus-daemon",
        limits: Mapping[str, int] | None = None,
        policy: str = _OPEN_POLICY,
    ) -> None:
        self.path = folder / "bus"
        self.address = f"unix:path={self.path}"
        self.log = folder / "bus.log"
        self._implementation = implementation
        self._journal_socket: socket.socket | None = None
        self._copying: threading.Thread
        self._configuration = folder / "bus.conf"
        given = "".join(f'<limit name="{name}">{value}</limit>' for name, value in (limits or {}).items())
        listen = "" if implementation == "dbus-broker" else f"<listen>{self.address}</listen>"
        self._configuration.write_text(f"{_DOCTYPE}<busconfig>{listen}{policy}{given}</busconfig>")
        for part in [folder, *folder.parents][:-2]:  # other users pass through what pytest made for this one alone
            part.chmod(part.stat().st_mode | 0o111)
        self.start()

    def start(self) -> None:
        """Start it, or start it again at the same address."""
        self.path.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            if self._implementation == "dbus-broker":
                self._start_broker(log.fileno())
            else:
                command = ["dbus-daemon", "--nofork", "--nosyslog", "--nopidfile", "--print-address"]
                self.process = subprocess.Popen(
                    [*command, f"--config-file={self._configuration}"], stdout=subprocess.PIPE, stderr=log
                )
                assert self.process.stdout is not None
                assert self.process.stdout.readline(), self.log.read_text()
        self.path.chmod(0o777)

    def _start_broker(self, log: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(self.path))
            listening.listen(128)
            launch = shutil.which("dbus-broker-launch")
            assert launch is not None, "there is no dbus-broker-launch: install the Debian package dbus-broker"
            arguments = [launch, "--scope", "system", "--config-file", str(self._configuration)]
            environment = {"LISTEN_FDS": "1", "DBUS_SYSTEM_BUS_ADDRESS": self.address, "PATH": os.environ["PATH"]}
            inside = ["unshare", "--mount", "--propagation=private", "sh", "-ec", _WITH_JOURNAL, str(self._journal())]
            self.process = _popen_as_systemd(arguments, [listening.fileno()], environment, log, inside)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:  # it has answered: it is up
            probe.settimeout(PATIENCE)
            probe.connect(str(self.path))
            probe.sendall(b"\0AUTH\r\n")
            assert probe.recv(64), self.log.read_text()

    def _journal(self) -> Path:
        """Bind a socket that takes what dbus-broker has to say, into the log, and give its folder."""
        folder = self.path.with_name("journal")
        if self._journal_socket is None:
            folder.mkdir(exist_ok=True)
            (folder / "socket").unlink(missing_ok=True)
            self._journal_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._journal_socket.bind(str(folder / "socket"))
            self._copying = threading.Thread(target=_copy, args=(self._journal_socket, self.log), daemon=True)
            self._copying.start()
        return folder

    def pause(self) -> None:
        """Have it read and write nothing, until resume()."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.resume()
            self.process.terminate()
        self.process.wait(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self._journal_socket is not None:
            self._journal_socket.shutdown(socket.SHUT_RD)
            self._copying.join(PATIENCE)
            self._journal_socket = None


def _copy(taken: socket.socket, log: Path) -> None:
    """Write what comes to a file, until no more can come."""
    with taken, log.open("ab", buffering=0) as file:
        while said := taken.recv(65536):
            file.write(said)


def _popen_as_systemd(
    command: Sequence[str], fds: Sequence[int], environment: Mapping[str, str], log: int, prefix: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    listed = ",".join(str(fd) for fd in fds)
    return subprocess.Popen(
        [*prefix, sys.executable, "-I", "-c", _AS_SYSTEMD, listed, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=fds,
        env=environment,
    )


class SupervisedPapad:
    """papad with a stand-in for systemd: it keeps papad's descriptors, and passes them to the next papad.

    The line protocol is at ``socket``; ``environment`` and ``arguments`` are added to each papad's.
    """

    def __init__(
        self, address: str, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.address = address
        self.socket = folder / "line"
        self.log = folder / "papad.log"
        self.runtime = folder / "runtime"
        self.runtime.mkdir()
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._kept: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        self._ready = threading.Semaphore(0)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The present papad's."""
        return self.process.pid

    @property
    def kept(self) -> list[str]:
        """The names of the descriptors that it has for papad now."""
        with self._lock:
            return [name for name, _ in self._kept]

    def start(self, *, wait: bool = True, **environment: str) -> None:
        """Start papad, with what an earlier one has left, and wait until it is ready."""
        with self._lock:
            kept = list(self._kept)
        variables = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        variables |= {"NOTIFY_SOCKET": str(self._notify.getsockname()), "RUNTIME_DIRECTORY": str(self.runtime)}
        variables |= {"FDSTORE": "16384", "PYTHONDEVMODE": "1"}
        if kept:
            variables |= {"LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": ":".join(name for name, _ in kept)}
        variables |= self._environment | environment
        command = [sys.executable, "-m", "papa_dbus.service", "--bus", self.address, "--port", "0"]
        with self.log.open("ab") as log:
            self.process = _popen_as_systemd(
                [*command, "--socket", str(self.socket), *self._arguments],
                [fd for _, fd in kept],
                variables,
                log.fileno(),
            )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until papad says that it is (sd_notify(3))."""
        deadline = time.monotonic() + PATIENCE
        while not self._ready.acquire(timeout=0.1):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """Read nothing that papad says, and then all of it, as systemd does before it starts a service again."""
        with self._lock:
            yield
        wait_until(lambda: not select.select([self._notify], [], [], 0)[0], "end of what papad has said")

    def wait_until_dead(self) -> None:
        """Wait for a papad that is about to end, at a fault for example."""
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def terminate(self) -> None:
        """End it as `systemctl restart` does."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def reload(self) -> None:
        """Have papad execute itself again, as `systemctl reload` does."""
        self.process.send_signal(signal.SIGHUP)
        self.wait_until_ready()

    def stop(self) -> str:
        """End papad, and forget what was kept; returns what it has logged."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(self._notify.getsockname())
            end.send(b"")
        self._thread.join(PATIENCE)
        self._notify.close()
        for _, fd in self._kept:
            os.close(fd)
        self._kept.clear()
        return self.log.read_text()

    def _serve(self) -> None:
        while True:
            data, fds, _, _ = socket.recv_fds(self._notify, 65536, 253)
            if not data:
                return
            said = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
            with self._lock:
                self._take(said, fds)
            if said.get("READY") == "1":
                self._ready.release()

    def _take(self, said: Mapping[str, str], fds: Sequence[int]) -> None:
        if "FDSTORE" in said:
            self._kept += [(said["FDNAME"], fd) for fd in fds]
            return
        for fd in fds:
            os.close(fd)
        if "FDSTOREREMOVE" in said:
            for name, fd in self._kept:
                if name == said["FDNAME"]:
                    os.close(fd)
            self._kept = [(name, fd) for name, fd in self._kept if name != said["FDNAME"]]


@contextlib.contextmanager
def ended(*pids: int) -> Iterator[None]:
    """End processes that papad has let go of."""
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
