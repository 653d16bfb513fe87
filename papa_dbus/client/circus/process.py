"""One process of a watcher with ``use_papa``: Papa runs it and keeps its output, Circus decides about it."""

import contextlib
import os
import re
import resource
import signal
import time
from typing import Any

import psutil
from circus import logger
from circus.process import RUNNING, UNEXISTING, Process

from papa_dbus.client.circus import option_digests
from papa_dbus.client.circus.output import Output
from papa_dbus.client.circus.prefix import prefix
from papa_dbus.client.compat import papa
from papa_dbus.client.compat.line_connection import readable
from papa_dbus.errors import NotFound
from papa_dbus.names import UNKNOWN_EXIT

#: Seconds for the last output of a process that has ended, or was killed, to arrive.
LAST_WORDS = 2.0
_SOCKET = re.compile(r"\$\(circus\.sockets\.([^)]+)\)|\(\(circus\.sockets\.([^)]+)\)\)", re.IGNORECASE)

#: A limit as papad names it, on the bus and on its port.
_LIMIT = re.compile(r"\boption 'rlimits?[ .]([^']*)'")


class _Worker(psutil.Process):  # type: ignore[misc]  # no types
    """What Circus asks for memory, CPU and children."""

    stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self._init(pid, _ignore_nsp=True)  # as psutil.Popen does: it may have ended already


class PapaProcess(Process):  # type: ignore[misc]  # Circus has no types
    """Started in Papa, or found there."""

    cmd: str
    args: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self.exit_code: int | None = None
        self._pidfd: int | None = None
        self._closed = False
        self.found = False  # it was in Papa already
        super().__init__(*args, **options)
        # Circus is not to read pipes: what Papa keeps has its own way to the streams.
        self.pipe_stdout = self.pipe_stderr = False

    # ---------------------------------------------------------------- spawning

    def spawn(self) -> None:
        """Start it, or take over the one of that number. Raises OSError, which Circus reports and tries again."""
        self.papa_name = self.watcher.papa_name(self.wid)
        try:
            found = self.kernel.list_processes(self.papa_name).get(self.papa_name)
            self.found = found is not None
            made = self._compare(found) if found else self._make()
            self.started = made["started"]
            self._worker = _Worker(made["pid"])
            self._open_pidfd()
            self.output = Output(self, self.kernel.watch_events(self.papa_name))
        except papa.Error as error:
            self._close_pidfd()
            raise OSError(f"papa: {self._as_written(str(error))}") from error
        if found:
            logger.info("%s: process %s was found in papa (PID %d)", self.name, self.wid, self.pid)

    def _as_written(self, message: str) -> str:
        """Return what papad says, with a limit named as it is in the watcher's section."""
        written = {name.lower(): name for name in self.rlimits}
        return _LIMIT.sub(lambda found: f"option 'rlimit_{written.get(found[1], found[1])}'", message)

    @property
    def kernel(self) -> papa.Papa:
        """Return the watcher's way to Papa."""
        kernel: papa.Papa = self.watcher.papa
        return kernel

    def _make(self) -> dict[str, Any]:
        command, options = self._command(), self._options()
        self.kernel.set(self._asked, option_digests.digest(command, self._said(options)))
        try:
            made: dict[str, Any] = self.kernel.host_process(self.papa_name, command, **options)
        except papa.Error:
            self._forget_asked()
            raise
        for sock in (self.watcher.sockets or {}).values():
            if sock.use_papa:
                sock.set_blocking()  # papad hands over sockets that block
        return made

    def _compare(self, found: dict[str, Any]) -> dict[str, Any]:
        """Tell the watcher if it runs in another way than it would be started in now."""
        if found["running"]:
            command, then = self._command(), self.kernel.get(self._asked)
            now = option_digests.digest(command, self._said(self._options()))
            self.watcher.found_different(self.wid, option_digests.differences(then, now, command, found))
        return found

    def _command(self) -> list[str]:
        mine = {name.lower() for name in self.watcher._get_sockets_fds()}
        self.cmd = self._with_sockets(self.cmd, mine)
        if isinstance(self.args, str):
            self.args = self._with_sockets(self.args, mine)
        elif self.args:
            self.args = [self._with_sockets(argument, mine) for argument in self.args]
        command = [self._with_sockets(argument, mine) for argument in self.format_args()]
        if self.shell:
            return [self.executable or "/bin/sh", "-c", *command]
        return [self.executable, *command[1:]] if self.executable else command

    def _options(self) -> dict[str, Any]:
        """Return all that a child of circusd would have from it, and what the watcher says otherwise."""
        uid, gid = self.uid, self.gid
        if uid is None and os.geteuid() != 0:  # papad's own user may be root
            uid, gid = os.geteuid(), os.getegid() if gid is None else gid
        options = {
            "env": {str(key): str(value) for key, value in self.env.items()},
            "working_dir": self.working_dir,
            "uid": uid,
            "gid": gid,
            "rlimits": _files() | {name.lower(): _limit(value) for name, value in self.rlimits.items()} or None,
            "umask": _umask(),
            "stdout": "null" if self.close_child_stdout else "pipe",
            "stderr": "null" if self.close_child_stderr else "pipe",
            "overflow": "block",
        }
        return {name: value for name, value in options.items() if value is not None}

    def _said(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options without what is circusd's own environment, which is another each time that it starts."""
        options = {name: value for name, value in options.items() if name != "overflow"}  # the same for all
        if not self.watcher.copy_env:
            return options
        return options | {"env": {key: value for key, value in self.env.items() if os.environ.get(key) != value}}

    @property
    def _asked(self) -> str:
        return f"{self.papa_name}.asked"

    def _forget_asked(self) -> None:
        with contextlib.suppress(papa.Error):
            self.kernel.set(self._asked)

    def _with_sockets(self, text: str, mine: set[str]) -> str:
        def say(match: re.Match[str]) -> str:
            name = (match[1] or match[2]).lower()
            if name not in mine:
                logger.warning(
                    'Process "%s" refers to socket "%s", and they do not have the same "use_papa"', self.name, name
                )
            return f"$(socket.{prefix()}{name}.fileno)"

        return _SOCKET.sub(say, text)

    def _open_pidfd(self) -> None:
        """Get hold of the process itself, where it still runs: its PID may be another's later (pidfd_open(2))."""
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        still = self.kernel.list_processes(self.papa_name).get(self.papa_name, {})
        if not (still.get("running") and still["pid"] == self.pid):
            self._close_pidfd()

    def _close_pidfd(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    # ------------------------------------------------------------------ ending

    @property
    def _runs(self) -> bool:
        return self._pidfd is not None and not readable(self._pidfd)

    def poll(self) -> int | None:
        """Return its exit code, None while it runs or its last words are still to come. Does not wait for them."""
        if self.exit_code is None and not self._runs:
            self.output.end()
            self.output.pump()
            if self.output.closed and self.exit_code is None:
                self.ended(None)
        return self.exit_code

    def returncode(self) -> int | None:
        """Return its exit code."""
        return self.exit_code

    def read_last_words(self) -> None:
        """Pass on what is left of its output, and learn its exit code; waits LAST_WORDS at most."""
        end = time.monotonic() + LAST_WORDS
        while self.exit_code is None and not self._closed and self.output.wait(end - time.monotonic()):
            self.output.pump()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end."""
        if self._pidfd is not None:
            readable(self._pidfd, timeout)
        if not self._runs:
            self.read_last_words()
        if self.poll() is None and timeout is not None:
            raise psutil.TimeoutExpired(timeout, self.pid)
        return self.exit_code

    def send_signal(self, sig: int) -> None:
        """Signal it, and never another that has its PID."""
        if self._pidfd is None:
            raise psutil.NoSuchProcess(self.pid)
        try:
            signal.pidfd_send_signal(self._pidfd, sig)
        except ProcessLookupError:
            raise psutil.NoSuchProcess(self.pid) from None

    @property
    def status(self) -> int:
        """Return Circus's word: it throws away what it finds ended, so it is told only once that has been reaped."""
        return int(UNEXISTING if self._closed else RUNNING)

    def ended(self, exit_code: int | None) -> None:
        """Note that all its output has been passed on; None: nobody saw its exit code."""
        self.exit_code = UNKNOWN_EXIT if exit_code is None else exit_code
        self.watcher.papa_process_ended(self)

    def close_output_channels(self) -> None:
        """Pass on its last words, and have done with it: its name is free then."""
        if self._closed:
            return
        self.read_last_words()
        if self.exit_code is None:
            logger.warning("%s: process %d does not end; papa forgets it and its output", self.name, self.pid)
            try:
                self.kernel.remove_processes(self.papa_name)
            except papa.Error as error:
                logger.warning("%s: %s", self.name, error)
        self._forget_asked()
        self.let_go()
        self._free_name()

    def _free_name(self) -> None:
        """Have Papa forget it if it is still there: a descendant has its pipes, which Circus closes at this moment."""
        try:
            found = self.kernel.list_processes(self.papa_name).get(self.papa_name)
            if found and found["pid"] == self.pid and not found["running"]:
                self.kernel.remove_processes(self.papa_name)
        except NotFound:  # the descendant has ended just now
            pass
        except papa.Error as error:
            logger.warning("%s: %s", self.name, error)

    def let_go(self) -> None:
        """Watch it no more."""
        if not self._closed:
            self._closed = True
            self.output.close()
            self._close_pidfd()

    def leave(self) -> None:
        """Let go of it while it runs. What was not passed on is there when circusd comes back."""
        if not self._closed:
            self.output.leave()
            self.let_go()


def _limit(value: Any) -> int:
    return 2**64 - 1 if value == resource.RLIM_INFINITY else int(value)


def _files() -> dict[str, int]:
    """Return the limit that somebody has set circusd (LimitNOFILE=, ulimit -n): its children have that, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"nofile": hard} if soft == hard else {}


def _umask() -> int:
    """Return circusd's own, which its children have. os.umask() cannot tell it without setting it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))
