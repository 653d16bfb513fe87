"""A container: a container with its own systemd, booted from an overlay, for tests of what only a real systemd shows.

The overlay's changes lie on a tmpfs, and all mounts are made in a mount namespace that one process keeps, the mount
holder. It dies with the test run, however that ends, and the mounts with it: there is nothing to clean up on the
machine. Needs root, and the Debian packages systemd-container and, for fresh trees, debootstrap.
"""

import os
import select
import shlex
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support import wait_until
from tests.systemd import debian

PROJECT = Path(__file__).resolve().parents[2]

#: Where the mount holder mounts its tmpfs, in its own namespace only. What nspawn notes down of its own is to go there
#: too.
_SCRATCH = Path("/mnt")
_MOUNT = f"""
set -e
mkdir -p /run/systemd/nspawn && mount -t tmpfs papa-container /run/systemd/nspawn
mount -t tmpfs -o mode=0755,size=8G papa-container {_SCRATCH}
mkdir {_SCRATCH}/upper {_SCRATCH}/work {_SCRATCH}/root
mount -t overlay -o lowerdir="$1",upperdir={_SCRATCH}/upper,workdir={_SCRATCH}/work papa-container {_SCRATCH}/root
echo mounted
exec sleep infinity
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OLD_CONTROLLERS = ("memory", "cpu", "pids")
# nspawn lets a container read those only. systemd takes cpu and cpuacct for one, wherever they are mounted.
_OPEN_OLD_CONTROLLERS = "; ".join(
    [
        *(f"mount -o remount,bind,rw /sys/fs/cgroup/{name}" for name in _OLD_CONTROLLERS),
        "[ /sys/fs/cgroup/cpu -ef /sys/fs/cgroup/cpuacct ] || mount --bind /sys/fs/cgroup/cpu /sys/fs/cgroup/cpuacct",
        "systemctl daemon-reexec",
    ]
)
# Seconds, each several times what this takes on two cores.
_INSTALL = 600
_BOOT = 60
_COMMAND = 60

# What a container has no use for: a console, disks, a first-boot wizard.
_MASKED = ("console-getty.service", "getty.target", "systemd-firstboot.service", "systemd-repart.service")


class Container:
    """One container. Made by `of_this_machine` or `fresh`, installed to with `run_unbooted`, then booted."""

    def __init__(self, name: str, lower: Path) -> None:
        """Lay an overlay on the folder `lower`, which stays as it is."""
        if os.geteuid() != 0:
            raise PermissionError("tests/systemd needs root: it boots containers")
        self.name = f"{name}-{uuid.uuid4().hex[:8]}"
        self._container: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.boot_warnings: list[str] = []
        self._old_controllers = False
        self._mount_holder = subprocess.Popen(
            [
                *_dies_with_us("KILL"),
                "unshare",
                "--mount",
                "--propagation=private",
                "sh",
                "-c",
                _MOUNT,
                "sh",
                str(lower),
            ],
            stdout=subprocess.PIPE,
        )
        assert self._mount_holder.stdout is not None
        if self._mount_holder.stdout.readline() != b"mounted\n":
            self.stop()
            raise OSError(f"no overlay on {lower}")
        units = self.root / "etc/systemd/system"
        for unit in _MASKED:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")

    @classmethod
    def of_this_machine(cls) -> Self:
        """Make a container of this machine's own files, without the services that its administrator has switched on."""
        container = cls("machine", Path("/"))
        for wants in (container.root / "etc/systemd/system").glob("*.wants"):
            shutil.rmtree(wants)
        # It is another machine: an identity of its own, and a journal of its own, in memory.
        (container.root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        shutil.rmtree(container.root / "var/log/journal", ignore_errors=True)
        return container

    @classmethod
    def fresh(cls, suite: str) -> Self:
        """Make a container of a fresh Debian: the bare minimum, with systemd, a message bus and git."""
        container = cls(suite, debian.tree(suite))
        for file in debian.FILES:
            if Path(file).exists():
                container.copy_in(Path(file), file)
        return container

    @property
    def root(self) -> Path:
        """The container's files, seen from outside."""
        return Path(f"/proc/{self._mount_holder.pid}/root{_SCRATCH}/root")

    @property
    def leader(self) -> int:
        """The PID, outside, of the booted container's first process."""
        return self._leader

    def use_bus(self, implementation: str) -> None:
        """Choose the message bus, "dbus-daemon" or "dbus-broker", for the system and for users; before booting."""
        for manager in ("system", "user"):
            alias = self.root / "etc/systemd" / manager / "dbus.service"
            alias.unlink(missing_ok=True)
            if implementation == "dbus-broker":
                alias.symlink_to(f"/usr/lib/systemd/{manager}/dbus-broker.service")

    def use_old_controllers(self) -> None:
        """Have the container's systemd use the controllers memory, cpu and pids of version 1; before booting.

        For a machine that has its controllers there (cgroups(7)): the container's usual version 2 alone has none then.
        """
        self._old_controllers = True

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file or folder of this machine to an absolute path in the container."""
        destination = self.root / target.lstrip("/")
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination, symlinks=True, dirs_exist_ok=True)
        else:
            destination.unlink(missing_ok=True)
            shutil.copy2(source, destination)

    def check_out(self, target: str) -> None:
        """Put the project at an absolute path in the container, as a clone would have it if all was committed now."""
        git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(git, cwd=PROJECT, check=True, capture_output=True, timeout=_COMMAND)
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (PROJECT / name).exists():  # it may be deleted, and that not committed
                self.copy_in(PROJECT / name, f"{target}/{name}")

    def unbooted_command(self, command: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """Give the command line that runs a shell command in the files alone, on this machine's network."""
        variables = debian.variables() | dict(environment or {})
        settings = [f"--setenv={key}={value}" for key, value in variables.items()]
        return [*self._nspawn(), "--as-pid2", *settings, "sh", "-ec", command]

    def run_unbooted(self, command: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a shell command in the files alone, before booting, on this machine's network; give what it printed."""
        done = _finish(self.unbooted_command(command, environment), check=True, timeout=_INSTALL)
        return done.stdout + done.stderr

    def boot(self) -> None:
        """Boot the container, with a network of its own that has only loopback; returns when it is up."""
        self._start("--boot", "--console=pipe", "--notify-ready=yes", "systemd.unit=multi-user.target")
        state = self.run("systemctl is-system-running --wait", check=False, timeout=_BOOT).stdout.strip()
        if state != "running":
            raise OSError(f"{self.name} came up {state}: {self.run('systemctl --failed --no-legend --plain').stdout}")
        self.boot_warnings = self.journal("--boot", "--priority=warning").splitlines()
        if self._old_controllers:
            self.run(_OPEN_OLD_CONTROLLERS)

    def start_without_systemd(self) -> None:
        """Start the container with an init that only reaps, and a network of its own that has only loopback."""
        self._start("--as-pid2", "--console=pipe", "sleep", "infinity")

    def _start(self, *how: str) -> None:
        # Without this variable the container has both, as this machine has.
        hierarchy = {} if self._old_controllers else {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        console = self.root.parent / "console"
        with _ReadySocket(self.root.parent / "ready") as ready, console.open("wb") as output:
            self._container = subprocess.Popen(
                [*_dies_with_us("TERM"), *self._in_cgroup(), *self._nspawn(), "--private-network",
                 "--kill-signal=KILL", *how],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **hierarchy, "NOTIFY_SOCKET": f"{_SCRATCH}/ready"},
            )  # fmt: skip
            try:
                self._leader = ready.wait_for_leader()
            except TimeoutError:
                raise OSError(f"{self.name} does not come up: {console.read_text()[-4000:]}") from None

    def _in_cgroup(self) -> list[str]:
        """A control group of its own: containers that are started from the same one would share theirs, too."""
        hierarchies = [_unified_hierarchy()]
        if self._old_controllers:
            hierarchies += [place for name in _OLD_CONTROLLERS if (place := old_hierarchy(name)) is not None]
        self._cgroups = [hierarchy / f"papa-container-{self.name}" for hierarchy in hierarchies]
        for group in self._cgroups:
            group.mkdir()
        enter = "".join(f"echo $$ > {group}/cgroup.procs && " for group in self._cgroups)
        return ["sh", "-c", f'{enter}exec "$@"', "sh"]

    def _nspawn(self) -> list[str]:
        return [
            "nsenter", f"--mount=/proc/{self._mount_holder.pid}/ns/mnt", "systemd-nspawn", "--quiet", "--register=no",
            "--keep-unit", "--suppress-sync=yes", "--resolv-conf=off", "--timezone=off",
            f"--directory={_SCRATCH}/root", f"--machine={self.name}",
        ]  # fmt: skip

    def command(self, command: Sequence[str] | str, user: str | None = None) -> list[str]:
        """Give the command line, for this machine, that runs a command (a string: by the shell) in the container."""
        words = ["sh", "-ec", command] if isinstance(command, str) else command
        environment = ["env", "-i", f"PATH={_PATH}", "LANG=C.UTF-8", "TERM=dumb"]
        inside = [*environment, "HOME=/root", *words]
        if user is not None:
            runtime = f"/run/user/{self.run(['id', '-u', user]).stdout.strip()}"
            session = [
                f"HOME=/home/{user}",
                f"XDG_RUNTIME_DIR={runtime}",
                f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus",
            ]
            inside = ["runuser", "-u", user, "--", *environment, *session, *words]
        return ["nsenter", f"--target={self._leader}", "--all", "--root", "--wd", "--", *inside]

    def run(
        self, command: Sequence[str] | str, user: str | None = None, *, check: bool = True, timeout: float = _COMMAND
    ) -> subprocess.CompletedProcess[str]:
        """Run a command (a string: by the shell) in the booted container, as root or as a user of it."""
        return _finish(self.command(command, user), check=check, timeout=timeout)

    def wait_until(self, condition: str, user: str | None = None) -> str:
        """Wait until a shell command succeeds in the booted container; give what it printed."""
        tried: list[subprocess.CompletedProcess[str]] = []

        def holds() -> bool:
            tried[:] = [self.run(condition, user, check=False)]
            return tried[0].returncode == 0

        wait_until(holds, lambda: f"{condition}: {tried[0].stdout}{tried[0].stderr}", _COMMAND)
        return tried[0].stdout

    def journal(self, *options: str) -> str:
        """Give the messages in the journal, without times and hosts."""
        done = self.run(["journalctl", "--quiet", "--no-pager", "--output=cat", *options], check=False)
        if done.returncode != 0 and done.stdout + done.stderr:  # 1 and silence: there are none
            raise AssertionError(done.stderr)
        return done.stdout

    def journal_cursor(self) -> str:
        """Give the journal's present end, for `wait_for_journal`."""
        return self.run("journalctl --lines=0 --show-cursor").stdout.partition("-- cursor: ")[2].strip()

    def wait_for_journal(self, text: str, after: str, timeout: int = 30) -> None:
        """Wait until a message after a cursor has this text in it."""
        follow = ["journalctl", "--quiet", "--output=cat", "--follow", "--no-tail", f"--after-cursor={after}"]
        command = self.command(["timeout", str(timeout), *follow])
        seen = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="backslashreplace") as process:
            assert process.stdout is not None
            for line in process.stdout:
                seen.append(line)
                if text in line:
                    process.kill()
                    return
        raise AssertionError(f"not in the journal within {timeout} s: {text}\n{''.join(seen)}")

    def wait_until_off(self) -> None:
        """Wait until the container has ended; its files stay, and it can be booted again."""
        assert self._container is not None
        self._container.wait(_COMMAND)
        self._container = None
        _end_cgroup(self._cgroups[0])
        mirror = old_hierarchy("name=systemd")  # where nspawn makes the same group once more
        for group in [*self._cgroups, *([mirror / self._cgroups[0].name] if mirror else [])]:
            _remove_cgroup(group)

    def stop(self) -> None:
        """End the container and forget its files."""
        if self._container is not None:
            self._container.terminate()  # nspawn passes on what --kill-signal= says, and ends when its systemd has
            self.wait_until_off()
        self._mount_holder.kill()
        self._mount_holder.communicate(timeout=_COMMAND)


class _ReadySocket:
    """Where nspawn says which process is the container's first and, later, that the container is up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._socket.settimeout(_BOOT)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._path.unlink()

    def wait_for_leader(self) -> int:
        leader, ready = 0, False
        while not (leader and ready):
            for line in self._socket.recv(4096).decode().splitlines():
                key, _, value = line.partition("=")
                if key == "X_NSPAWN_LEADER_PID":
                    leader = int(value)
                ready = ready or line == "READY=1"
        return leader


def _unified_hierarchy() -> Path:
    """Give the place of the unified control group hierarchy, alone or beside the old ones (cgroups(7))."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(Path(fields[1]) for fields in mounts if fields[2] == "cgroup2")


def old_hierarchy(controller: str) -> Path | None:
    """Give the place of a controller's hierarchy of version 1, where this machine has one."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next((Path(of[1]) for of in mounts if of[2] == "cgroup" and controller in of[3].split(",")), None)


def _end_cgroup(group: Path) -> None:
    """End what is left in a control group and all below it (cgroup.kill: Linux 5.14)."""
    (group / "cgroup.kill").write_text("1")
    events = select.poll()
    with (group / "cgroup.events").open() as file:
        events.register(file, select.POLLPRI)
        while "populated 1" in file.read():
            events.poll(1000)
            file.seek(0)


def _remove_cgroup(group: Path) -> None:
    """Remove a control group and all below it."""
    for path, _, _ in os.walk(group, topdown=False):
        Path(path).rmdir()


def _finish(command: Sequence[str], *, check: bool, timeout: float) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="backslashreplace", timeout=timeout
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{shlex.join(command)}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def _dies_with_us(signal: str) -> list[str]:
    # "Us" is a thread to Linux, so containers are made and booted by the main thread.
    return ["setpriv", "--pdeathsig", signal]
