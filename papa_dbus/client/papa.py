"""The drop-in for the ``papa`` module of Papa 1.0.6: the same names, arguments, results and exceptions, over D-Bus.

Which kernel is meant by a port or a path (set_default_port, set_default_path, or Papa's first argument):

- 20202, the default: the kernel on the message bus: PAPA_BUS_ADDRESS where that is set, else the system bus, else the
  session bus; where none of them has one, the line protocol on port 20202. Where nothing runs it is started.
- ``system``, ``session`` or a D-Bus address such as ``unix:path=/run/dbus/system_bus_socket``: that bus.
- another port, or an absolute path: the line protocol there.
"""

import os
import subprocess
import time
from collections import namedtuple
from collections.abc import Iterable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from socket import AddressFamily, SocketKind, socket
from subprocess import DEVNULL, PIPE, STDOUT
from threading import Lock
from typing import Any, Protocol, Self

from papa_dbus.client import launch
from papa_dbus.client.papa_bus import BusBackend
from papa_dbus.client.papa_line import LineBackend
from papa_dbus.client.records import Dropped, Event, Exited
from papa_dbus.errors import PapaError as Error
from papa_dbus.errors import Unreachable
from papa_dbus.names import DEFAULT_PORT, UNKNOWN_EXIT

__all__ = [
    "DEVNULL", "PIPE", "STDOUT", "Error", "Papa", "ProcessOutput", "Watcher", "set_debug_mode",
    "set_default_connection_timeout", "set_default_path", "set_default_port",
]  # fmt: skip

log = getLogger("papa.client")

#: ``timestamp`` in seconds; ``data`` is bytes, or the exit code.
ProcessOutput = namedtuple("ProcessOutput", "name timestamp data")

_COMMAND_TIMEOUT = 30.0  # seconds: making a process may take that long
_PAUSE = 0.05
_MULTIPLES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_FAMILIES = {family: family.name[3:].lower() for family in AddressFamily}
_TYPES = {kind: kind.name[5:].lower() for kind in SocketKind}


class EventWatch(Protocol):
    """A watch's events themselves, in order; each is to be acknowledged, or comes again."""

    def fileno(self) -> int:
        """A descriptor that is readable while read() would not wait."""

    @property
    def ready(self) -> bool:
        """Whether read() would not wait."""

    def read(self) -> list[Event]:
        """Wait for what comes next; empty at the end. Raises Error where the kernel lets nothing more be read."""

    def acknowledge(self, keep: int = 0) -> None:
        """What was read has been dealt with, but for the last ``keep`` events."""

    def close(self) -> None:
        """End the watch. What was not acknowledged is there for the next one."""


class Watcher:
    """What watch_processes gives: the output of processes, until all of them have ended.

    ``exit_code`` has the codes of those that have, by name; ``fileno()`` is readable while read() would not wait.
    """

    def __init__(self, papa_object: "Papa", watch: EventWatch) -> None:
        self.papa_object = papa_object
        self.exit_code: dict[str, int] = {}
        self._watch: EventWatch | None = watch
        self._begun: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __bool__(self) -> bool:
        return self._watch is not None

    def __len__(self) -> int:
        return int(self._watch is not None)

    def fileno(self) -> int:
        """A descriptor for select(). Raises Error once the watch has ended."""
        return self._open().fileno()

    def _open(self) -> EventWatch:
        if self._watch is None:
            raise Error("this watcher is closed")
        return self._watch

    @property
    def ready(self) -> bool:
        """Whether there is something to read."""
        return self._watch is not None and self._watch.ready

    def read(self) -> tuple[list[ProcessOutput], list[ProcessOutput], list[ProcessOutput]] | None:
        """Wait for what comes next: stdout, stderr and ends. None once everything has been read and acknowledged.

        What was read before is acknowledged. Raises Error where the kernel lets nothing more be read.
        """
        if self._watch is None:
            return [], [], []
        self._watch.acknowledge()
        events = self._watch.read()
        if not events:
            self.close()
            return None
        out: list[ProcessOutput] = []
        err: list[ProcessOutput] = []
        closed: list[ProcessOutput] = []
        for place, event in enumerate(events):
            match event:
                case Exited():
                    code = UNKNOWN_EXIT if event.exit_code is None else event.exit_code
                    self.exit_code[event.process] = code
                    closed.append(ProcessOutput(event.process, event.timestamp / 1e6, code))
                case Dropped():
                    self._tell_loss(event, events[place + 1 :], err)
                case _:
                    piece = ProcessOutput(event.process, event.timestamp / 1e6, event.data)
                    (out if event.stream == "out" else err).append(piece)
            self._begun.add(event.process)
        return out, err, closed

    def _tell_loss(self, loss: Dropped, following: Iterable[Event], err: list[ProcessOutput]) -> None:
        """Tell of a loss in the midst where errors are read; one from before the watch would look like output."""
        log.warning("%d bytes of the output of %s were lost: its buffer was full", loss.bytes, loss.process)
        if loss.process in self._begun:
            times = (event.timestamp for event in following if not isinstance(event, Dropped))
            text = f"papa: {loss.bytes} bytes of output lost\n"
            err.append(ProcessOutput(loss.process, next(times, time.time_ns() // 1000) / 1e6, text.encode()))

    def acknowledge(self) -> None:
        """What was read has been dealt with, and need not come again."""
        if self._watch is not None:
            self._watch.acknowledge()

    def close(self) -> None:
        """Acknowledge what was read, and watch no more. What was not read is there for the next watcher."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.acknowledge()
            watch.close()


class _Backend(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def make_socket(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]: ...
    def list_sockets(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def remove_sockets(self, patterns: Sequence[str]) -> None: ...
    def set_value(self, name: str, value: str) -> None: ...
    def get_value(self, name: str) -> str | None: ...
    def list_values(self, patterns: Sequence[str]) -> dict[str, str]: ...
    def remove_values(self, patterns: Sequence[str]) -> None: ...
    def make_process(self, name: str, command: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]: ...
    def list_processes(self, patterns: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def remove_processes(self, patterns: Sequence[str]) -> None: ...
    def exit_if_idle(self) -> bool: ...
    def watch(self, patterns: Sequence[str]) -> EventWatch: ...
    def open_socket(self, name: str) -> socket: ...


class Papa:
    """A client of the kernel that ``port_or_path`` means; see above. May be used from many threads.

    ``connection_timeout``: seconds for reaching the kernel, its start included. Raises Error.
    """

    _debug_mode = False
    _single_connection_mode = False
    _default_port_or_path: int | str = DEFAULT_PORT
    _default_connection_timeout: float = 10

    _starting = Lock()
    _debug_papad: "subprocess.Popen[bytes] | None" = None

    def __init__(self, port_or_path: int | str | None = None, connection_timeout: float | None = None) -> None:
        self.port_or_path = port_or_path or self._default_port_or_path
        self.connection_timeout = connection_timeout or self._default_connection_timeout
        if isinstance(self.port_or_path, str) and not (_is_bus(self.port_or_path) or self.port_or_path[0] == "/"):
            raise Error("Path to Unix socket must be absolute.")
        self._backend: _Backend | None = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if self._single_connection_mode and kind is None:
            self._end_debug_papad()

    def close(self) -> None:
        """Disconnect. Watchers go on; the next command connects again."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def fileno(self) -> int | None:
        """The connection's descriptor, None where there is none."""
        return self._backend.fileno() if self._backend is not None else None

    @property
    def _kernel(self) -> _Backend:
        if self._backend is None:
            self._backend = self._connect()
        return self._backend

    # -------------------------------------------------------------- connecting

    def _connect(self) -> _Backend:
        started: Path | None = None
        end = time.monotonic() + self.connection_timeout
        while True:
            try:
                return self._try_to_connect()
            except Unreachable as error:
                if started is None:
                    started = self._start_kernel(error)
                elif time.monotonic() > end:
                    said = launch.last_words(started)
                    message = f"Could not connect to Papa in {self.connection_timeout} seconds: {error}; {said}"
                    log.error("%s", message)
                    raise Error(message) from None
            time.sleep(_PAUSE)

    def _try_to_connect(self) -> _Backend:
        where = self.port_or_path
        if isinstance(where, str) and _is_bus(where):
            return BusBackend(where, _COMMAND_TIMEOUT)
        if where != DEFAULT_PORT or self._debug_mode:
            return LineBackend(where, _COMMAND_TIMEOUT)
        try:
            return BusBackend(None, _COMMAND_TIMEOUT)
        except Unreachable as no_bus:
            try:
                return LineBackend(where, _COMMAND_TIMEOUT)
            except Unreachable as no_line:
                raise Unreachable(f"{no_bus}; {no_line}") from None

    def _start_kernel(self, why: Unreachable) -> Path:
        """Start a kernel where none is; returns the file that it logs to."""
        arguments = self._papad_arguments()
        with Papa._starting:
            if self._debug_mode:
                if Papa._debug_papad is None or Papa._debug_papad.poll() is not None:
                    Papa._debug_papad = subprocess.Popen(launch.papad_command(arguments), stdout=subprocess.DEVNULL)
                return Path(os.devnull)
            log.info("Daemonizing Papa")
            try:
                return launch.start_daemon(arguments)
            except Unreachable as error:
                raise Error(f"{why}; {error}") from None

    def _papad_arguments(self) -> list[str]:
        where = self.port_or_path
        if isinstance(where, int):
            on_bus = where == DEFAULT_PORT and not self._debug_mode
            bus = (os.environ.get("PAPA_BUS_ADDRESS") if on_bus else None) or "own"
            return ["--bus", bus, "--port", str(where)]
        if _is_bus(where):
            return ["--bus", where, "--port", "0"]
        return ["--bus", "own", "--port", "0", "--socket", where]

    @classmethod
    def _end_debug_papad(cls) -> None:
        papad, Papa._debug_papad = Papa._debug_papad, None
        if papad is not None:
            papad.terminate()
            papad.wait()

    # ----------------------------------------------------------------- sockets

    def list_sockets(self, *args: str) -> dict[str, dict[str, Any]]:
        """Sockets by name, those that match the names, prefixes with '*' or file numbers."""
        return self._kernel.list_sockets(_texts(args))

    def make_socket(
        self,
        name: str,
        host: str | None = None,
        port: int | None = None,
        family: int | None = None,
        socket_type: int | None = None,
        backlog: int | None = None,
        path: str | None = None,
        umask: int | str | None = None,
        interface: str | None = None,
        reuseport: bool | None = None,
    ) -> dict[str, Any]:
        """Host a socket, or give the one that is there.

        ``family`` and ``socket_type`` as in the socket module; a ``umask`` that is text is octal.
        """
        if not name:
            raise Error("Socket requires a name")
        options: dict[str, Any] = {
            "family": _known(_FAMILIES, family, "family"),
            "type": _known(_TYPES, socket_type, "type"),
            "backlog": backlog,
        }
        if path:
            if path[0] != "/" or path[-1] in "/\\":
                raise Error("Socket path must be absolute to a file")
            options |= {"path": path, "umask": int(umask, 8) if isinstance(umask, str) else umask}
        else:
            options |= {"host": host, "port": port, "interface": interface, "reuseport": bool(reuseport) or None}
        return self._kernel.make_socket(name, _given(options))

    def remove_sockets(self, *args: str) -> bool:
        """Close sockets. True. Raises Error for one that is not there, and where none is named."""
        self._kernel.remove_sockets(_texts(args))
        return True

    # ------------------------------------------------------------------ values

    def list_values(self, *args: str) -> dict[str, str]:
        """Values by name, those that match."""
        return self._kernel.list_values(_texts(args))

    def set(self, name: str, value: str | None = None) -> None:
        """Keep a value; without one it is forgotten."""
        if value:
            self._kernel.set_value(name, str(value))
        else:
            self._kernel.remove_values([name])

    def get(self, name: str) -> str | None:
        """A value, None where there is none."""
        return self._kernel.get_value(name) or None

    def remove_values(self, *args: str) -> bool:
        """Forget values. True. Raises Error where none is named, and for '*'."""
        self._kernel.remove_values(_texts(args))
        return True

    # --------------------------------------------------------------- processes

    def list_processes(self, *args: str) -> dict[str, dict[str, Any]]:
        """Processes by name, those that match the names, prefixes with '*' or PIDs."""
        return self._kernel.list_processes(_texts(args))

    def make_process(
        self,
        name: str,
        executable: str | None = None,
        args: str | Iterable[str] | None = None,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        uid: str | int | None = None,
        gid: str | int | None = None,
        rlimits: Mapping[str, int] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        bufsize: int | str | None = None,
        watch_immediately: bool | None = None,
    ) -> Any:
        """Start a process, or give the one that runs already; a Watcher of it with ``watch_immediately``.

        ``bufsize``: bytes of output that are kept, as a number or as text such as '2m'; 0 for none.
        """
        options: dict[str, Any] = {
            "working_dir": working_dir,
            "uid": _number_or_name(uid),
            "gid": _number_or_name(gid),
            "bufsize": _size(bufsize),
            "env": {key: str(value) for key, value in env.items()} if env else None,
            "rlimits": {key.lower(): _limit(value) for key, value in rlimits.items()} if rlimits else None,
        }
        if bufsize != 0:
            options |= {"stdout": _stdout(stdout), "stderr": _stderr(stderr)}
        made = self._kernel.make_process(name, _command(executable, args), _given(options))
        return self.watch_processes(name) if watch_immediately else made

    def remove_processes(self, *args: str) -> bool:
        """Forget processes' output; those that run go on. True. Raises Error where none is named."""
        self._kernel.remove_processes(_texts(args))
        return True

    def watch_processes(self, *args: str) -> Watcher:
        """Watch the processes that match. Raises Error for one that is not there."""
        return Watcher(self, self._kernel.watch(_texts(args)))

    def watch_events(self, *args: str) -> EventWatch:
        """Watch, for who wants the events themselves; Papa 1.0.6 had nothing like it."""
        return self._kernel.watch(_texts(args))

    def open_socket(self, name: str) -> socket:
        """A duplicate of a hosted socket, for the caller to close; by D-Bus only. Papa 1.0.6 had nothing like it."""
        return self._kernel.open_socket(name)

    def exit_if_idle(self) -> bool:
        """Ask the kernel to exit where it holds nothing; whether it does."""
        return self._kernel.exit_if_idle()

    # ---------------------------------------------------------------- defaults

    @classmethod
    def set_debug_mode(cls, mode: bool = True, quit_when_connection_closed: bool = False) -> None:
        """Start the kernel, where none is, as a child of this process, which may end with the connection."""
        cls._debug_mode = mode
        if quit_when_connection_closed:
            cls._single_connection_mode = True

    @classmethod
    def set_default_port(cls, port: int) -> None:
        """The port for a Papa that is given none."""
        cls._default_port_or_path = port

    @classmethod
    def set_default_path(cls, path: str) -> None:
        """The path, or the bus, for a Papa that is given none."""
        cls._default_port_or_path = path

    @classmethod
    def set_default_connection_timeout(cls, connection_timeout: float) -> None:
        """Seconds for reaching the kernel, for a Papa that is given none."""
        cls._default_connection_timeout = connection_timeout


set_debug_mode = Papa.set_debug_mode
set_default_port = Papa.set_default_port
set_default_path = Papa.set_default_path
set_default_connection_timeout = Papa.set_default_connection_timeout


def _is_bus(where: str) -> bool:
    """Whether a path means a message bus: system, session, or a D-Bus address, which has a transport and a colon."""
    return where in ("system", "session") or (":" in where and where[0] != "/")


def _texts(args: Iterable[object]) -> list[str]:
    return [str(arg) for arg in args]


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _known(table: Mapping[Any, str], value: int | None, what: str) -> str | None:
    if value is None:
        return None
    if value not in table:
        raise Error(f"Invalid socket {what}")
    return table[value]


def _number_or_name(who: str | int | None) -> str | int | None:
    return int(who) if isinstance(who, str) and who.isdigit() else who


def _limit(value: object) -> int:
    number = int(str(value))
    return number if number >= 0 else 2**64 - 1  # resource.RLIM_INFINITY is -1 (getrlimit(2))


def _size(size: int | str | None) -> int | None:
    if not isinstance(size, str):
        return size
    digits, unit = (size[:-1], size[-1].lower()) if size[-1:].isalpha() else (size, "")
    if not digits.isdigit() or unit not in _MULTIPLES:
        raise Error(f"bufsize: {size!r} is no number of bytes")
    return int(digits) * _MULTIPLES[unit]


def _stdout(stdout: int | None) -> str | None:
    if stdout not in (None, PIPE, DEVNULL):
        raise Error("stdout must be DEVNULL or PIPE")
    return "null" if stdout == DEVNULL else None


def _stderr(stderr: int | None) -> str | None:
    if stderr not in (None, PIPE, DEVNULL, STDOUT):
        raise Error("stderr must be DEVNULL, PIPE or STDOUT")
    words: Mapping[int | None, str] = {DEVNULL: "null", STDOUT: "stdout"}
    return words.get(stderr)


def _command(executable: str | None, args: object) -> list[str]:
    command = [executable] if executable else []
    if isinstance(args, Iterable) and not isinstance(args, str):
        return [*command, *_texts(args)]
    return [*command, str(args)] if args else command
