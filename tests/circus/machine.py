"""A machine with one Circus and papad: on a booted systemd, or without systemd on a bus of papad's own.

The same files lie at the same places in both: Circus in /opt/circus, the example in /srv/web.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.circus.environments import install
from tests.support import PATIENCE, wait_until
from tests.systemd.container import PROJECT, Container

#: How circusd is started: with the project's command, or, 0.17.2 with its own code for Papa, by the drop-in alone.
PLAIN = (
    "/opt/circus/bin/python -c 'from papa_dbus.client import install_as_papa; install_as_papa(); "
    "from circus.circusd import main; main()'"
)
COMMANDS = {"papa-circusd": "/opt/circus/bin/papa-circusd", "plain": PLAIN}
INI = "/srv/web/circus.ini"


class Machine:
    """What both kinds have in common."""

    def __init__(self, container: Container, version: str, how: str) -> None:
        self.container = container
        self.circusd = COMMANDS[how]
        self._plain = how == "plain"
        opt = container.root / "opt/circus"
        opt.unlink(missing_ok=True)
        opt.symlink_to(f"circus-{version}")
        for folder in ("log", "run"):
            (container.root / "srv/web" / folder).mkdir(parents=True)
        for file in (PROJECT / "examples/circus").iterdir():
            if file.is_file():
                container.copy_in(file, f"/srv/web/{file.name}")

    def path(self, path: str) -> Path:
        """A file of the machine, from outside."""
        return self.container.root / path.lstrip("/")

    def run(self, command: Sequence[str] | str, *, check: bool = True) -> str:
        """Run a command on the machine; what it printed."""
        return self.container.run(command, check=check).stdout

    def ctl(self, *arguments: str, check: bool = True) -> str:
        """Run circusctl; what it printed, bare."""
        command = ["/opt/circus/bin/circusctl", "--timeout", "30", *arguments]
        done = self.container.run(command, check=check and not self._plain)
        if check and done.returncode != 0:
            # Circus refuses a command while it looks after its watchers.
            done = wait_until(
                lambda: (again := self.container.run(command, check=False)).returncode == 0 and again, self.words
            )
        return (done.stdout + done.stderr).strip()

    def pids(self, watcher: str) -> list[int]:
        """The PIDs of a watcher's processes."""
        return sorted(int(pid) for pid in re.findall(r"\d+", self.ctl("list", watcher)))

    def begin(self, ini: str = INI) -> None:
        """Start circusd, and wait until all that is to be started is."""
        self.launch(ini)
        self.wait_settled()

    def wait_settled(self) -> None:
        """Wait until circusd answers, and no watcher is between two states."""
        wait_until(lambda: self._settled() or None, lambda: self.ctl("status", check=False) + self.words())

    def _settled(self) -> bool:
        said = self.container.run(["/opt/circus/bin/circusctl", "--timeout", "2", "status"], check=False)
        states = [line.rpartition(": ")[2] for line in said.stdout.splitlines()]
        return said.returncode == 0 and bool(states) and all(state in ("active", "stopped") for state in states)

    def quit(self) -> None:
        """`circusctl quit`, and wait for circusd's end."""
        wait_until(self._told_to_quit, self.words)
        self.wait_gone()

    def _told_to_quit(self) -> bool:
        done = self.container.run(["/opt/circus/bin/circusctl", "--timeout", "5", "quit"], check=False)
        # circusd closes its socket with linger 0 (circus/controller.py), and its answer may be lost with it.
        return done.returncode == 0 or "Timed out" in done.stdout + done.stderr

    def launch(self, ini: str) -> None:
        """Start circusd."""
        raise NotImplementedError

    def wait_gone(self) -> None:
        """Wait for circusd's end."""
        raise NotImplementedError

    def kill_and_begin(self) -> None:
        """End circusd with kill -9, and start it again."""
        raise NotImplementedError

    def words(self) -> str:
        """What circusd said outside of its log."""
        raise NotImplementedError


class Booted(Machine):
    """systemd runs papa.service and circus.service."""

    def __init__(self, container: Container, version: str, how: str) -> None:
        container.run("systemctl stop circus papa.service papa.slice || true; systemctl reset-failed; rm -rf /srv/web")
        super().__init__(container, version, how)
        container.run("cp /srv/web/circus.service /etc/systemd/system/")

    def launch(self, ini: str) -> None:
        command = f"{self.circusd} {ini}".replace("$", "$$").replace("%", "%%")
        override = f"[Service]\nExecStart=\nExecStart={command}\n"
        folder = self.path("/etc/systemd/system/circus.service.d")
        folder.mkdir(exist_ok=True)
        (folder / "command.conf").write_text(override)
        self.run("systemctl daemon-reload && systemctl start circus")

    def wait_gone(self) -> None:
        wait_until(lambda: self._main_pid() == "0", self.words)

    def kill_and_begin(self) -> None:
        before = self._main_pid()
        self.run("systemctl kill --kill-who=main --signal=KILL circus")  # the unit has Restart=
        wait_until(lambda: self._main_pid() not in ("0", before) or None, self.words)
        self.wait_settled()

    def _main_pid(self) -> str:
        return self.run("systemctl show --property=MainPID --value circus").strip()

    def words(self) -> str:
        return self.container.journal("--unit=circus")


class WithoutSystemd(Machine):
    """No systemd: papad is started by hand, on a message bus of its own, and circusd by hand."""

    def __init__(self, container: Container, version: str, how: str, *papad: str) -> None:
        super().__init__(container, version, how)
        self._ini = INI
        self._circusd: subprocess.Popen[str] | None = None
        self.environment = ""
        self._papad = self._begin(
            "papad", "/opt/circus/bin/papad --bus own " + shlex.join(papad or ("--port", "20202"))
        )
        assert self._papad.stdout is not None
        for line in self._papad.stdout:
            if (found := re.search(r"unix:path=\S+", line)) is not None:
                self.environment = f"PAPA_BUS_ADDRESS={found[0]}"
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError("papad did not start: " + self.words("papad"))

    def _begin(self, name: str, command: str) -> "subprocess.Popen[str]":
        """Start a program; its PID on the machine goes to a file, since what is started here is only nsenter."""
        shell = f"echo $$ >/run/{name}.pid; exec {command} 2>>/srv/web/log/{name}.err"
        return subprocess.Popen(
            self.container.command(shell), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    @contextmanager
    def background(self, name: str, command: str) -> Iterator[None]:
        """Run a program meanwhile."""
        process = self._begin(name, command)
        try:
            yield
        finally:
            self._signal(name, "KILL")
            process.communicate(timeout=PATIENCE)

    def _signal(self, name: str, signal: str) -> None:
        self.run(f"kill -{signal} $(cat /run/{name}.pid)")

    def launch(self, ini: str) -> None:
        self._ini = ini
        self._circusd = self._begin(
            "circusd", f"env {self.environment} {self.circusd} {ini} >>/srv/web/log/circusd.err"
        )

    def use_no_bus(self) -> str:
        """Tell circusd of no message bus; gives the one that it does not know of then."""
        address, self.environment = self.environment.removeprefix("PAPA_BUS_ADDRESS="), ""
        return address

    def wait_gone(self, status: int = 0) -> None:
        assert self._circusd is not None
        assert self._circusd.wait(PATIENCE) == status, self.words()
        self._forget()

    def terminate(self) -> None:
        """End circusd as a service manager does."""
        self._signal("circusd", "TERM")
        self.wait_gone()

    def kill_and_begin(self) -> None:
        assert self._circusd is not None
        self._signal("circusd", "KILL")
        self._circusd.wait(PATIENCE)
        self._forget()
        self.begin(self._ini)

    def _forget(self) -> None:
        assert self._circusd is not None
        assert self._circusd.stdout is not None
        self._circusd.stdout.close()
        self._circusd = None

    def words(self, name: str = "circusd") -> str:
        return self.path(f"/srv/web/log/{name}.err").read_text()

    def stop(self) -> None:
        """End circusd and papad, where they run. What they have started ends with the container."""
        for name, process in (("circusd", self._circusd), ("papad", self._papad)):
            if process is not None and process.poll() is None:
                self._signal(name, "TERM")
                process.wait(PATIENCE)

    def close(self) -> None:
        """Forget both programs, whose machine has ended, after a test that failed, too."""
        for process in (self._circusd, self._papad):
            if process is not None:
                process.kill()  # this is nsenter, whose program went with the machine
                process.wait(PATIENCE)
                if process.stdout is not None:
                    process.stdout.close()


@contextmanager
def bare_machine(wheel: Path, version: str, how: str, *papad: str) -> Iterator[WithoutSystemd]:
    """A machine without systemd."""
    container = Container.of_this_machine()
    machine = None
    try:
        install(container, version, wheel)
        container.start_without_systemd()
        machine = WithoutSystemd(container, version, how, *papad)
        yield machine
        machine.stop()
        for word in ("Traceback", "internal"):
            assert word not in machine.words("papad"), machine.words("papad")
    finally:
        container.stop()
        if machine is not None:
            machine.close()
