"""The drop-in for the ``papa`` module of Papa 1.0.6: the same names, arguments, results and exceptions, over D-Bus.

Which papad is meant by a port or a path (set_default_port, set_default_path, or Papa's first argument):

- 20202, the default: the papad on the message bus: PAPA_BUS_ADDRESS where that is set, else the system bus, else the
  session bus; where none of them has one, the line protocol on port 20202. Where nothing runs it is started.
- ``system``, ``session`` or a D-Bus address such as ``unix:path=/run/dbus/system_bus_socket``: that bus.
- another port, or an absolute path: the line protocol there, if root or the caller's own user listens there.

A child that is forked may use its parent's Papa: it connects anew. Its parent's watchers stay its parent's.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from socket import socket
from subprocess import DEVNULL, PIPE, STDOUT
from threading import Lock
from typing import Any, Self

from papa_dbus.client.compat import arguments, launch
from papa_dbus.client.compat.backend import Backend
from papa_dbus.client.compat.bus_backend import BusBackend
from papa_dbus.client.compat.line_backend import LineBackend
from papa_dbus.client.compat.watcher import ProcessOutput, Watch, Watcher
from papa_dbus.errors import NotStarted, Unreachable
from papa_dbus.errors import PapaError as Error
from papa_dbus.names import DEFAULT_PORT

log = getLogger("papa.client")


__all__ = [
    "DEVNULL", "PIPE", "STDOUT", "Error", "Papa", "ProcessOutput", "Watcher", "set_debug_mode",
    "set_default_connection_timeout", "set_default_path", "set_default_port",
]  # fmt: skip

_COMMAND_TIMEOUT = 30.0  # seconds: making a process may take that long
_PAUSE = 0.05


class Papa:
    """A client of papad that ``port_or_path`` means; see above. May be used from many threads.

    ``connection_timeout``: seconds for reaching papad, its start included. Raises Error.
    """

    _debug_mode = False
    _single_connection_mode = False
    _default_port_or_path: int | str = DEFAULT_PORT
    _default_connection_timeout: float = 10

    _starting = Lock()
    _debug_papad: "launch.Child | None" = None

    def __init__(self, port_or_path: int | str | None = None, connection_timeout: float | None = None) -> None:
        self.port_or_path = port_or_path or self._default_port_or_path
        self.connection_timeout = connection_timeout or self._default_connection_timeout
        where = self.port_or_path
        if isinstance(where, str) and not arguments.is_bus(where) and where[0] != "/":
            raise Error("Path to Unix socket must be absolute.")
        self._process = os.getpid()
        self._backend: Backend | None = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._single_connection_mode:
            self._end_debug_papad()

    def close(self) -> None:
        """Disconnect. Watchers go on; the next command connects again."""
        backend, self._backend = self._backend, None
        if backend is not None and self._process == os.getpid():
            backend.close()

    def fileno(self) -> int | None:
        """Return the connection's descriptor, None if there is none now."""
        if self._backend is None or self._process != os.getpid():
            return None
        try:
            return self._backend.fileno()
        except Unreachable:
            return None

    @property
    def _kernel(self) -> Backend:
        if self._backend is None or self._process != os.getpid():
            self._process = os.getpid()
            self._backend = self._connect()
        return self._backend

    # -------------------------------------------------------------- connecting

    def _connect(self) -> Backend:
        started: Path | None = None
        end = time.monotonic() + self.connection_timeout
        while True:
            try:
                return self._try_to_connect(max(end - time.monotonic(), _PAUSE))
            except NotStarted:
                raise
            except Unreachable as error:
                if started is None:
                    started = self._start_kernel(error)
                elif time.monotonic() > end:
                    said = launch.last_words(started)
                    message = f"Could not connect to Papa in {self.connection_timeout} seconds: {error}; {said}"
                    log.error("%s", message)
                    raise Error(message) from None
            time.sleep(_PAUSE)

    def _try_to_connect(self, patience: float) -> Backend:
        where = self.port_or_path
        if isinstance(where, str) and arguments.is_bus(where):
            return BusBackend(where, _COMMAND_TIMEOUT, patience)
        if where != DEFAULT_PORT or self._debug_mode:
            return LineBackend(where, _COMMAND_TIMEOUT, patience)
        try:
            return BusBackend(None, _COMMAND_TIMEOUT, patience)
        except Unreachable as no_bus:
            try:
                return LineBackend(where, _COMMAND_TIMEOUT, patience)
            except Unreachable as no_line:
                if isinstance(no_bus, NotStarted):
                    raise no_bus from None
                raise Unreachable(f"{no_bus}; {no_line}") from None

    def _start_kernel(self, why: Unreachable) -> Path:
        """Start a papad where none is; returns the file that it logs to."""
        command = launch.papad_arguments(self.port_or_path, self._debug_mode)
        with Papa._starting:
            if self._debug_mode:
                if Papa._debug_papad is None or Papa._debug_papad.ended:
                    Papa._debug_papad = launch.Child(command)
                return Path(os.devnull)
            try:
                log_file = launch.start_daemon(command)
            except Unreachable as error:
                raise Error(f"{why}; {error}") from None
            log.info("Daemonizing Papa")
            return log_file

    @classmethod
    def _end_debug_papad(cls) -> None:
        papad, Papa._debug_papad = Papa._debug_papad, None
        if papad is not None:
            papad.end()

    # ----------------------------------------------------------------- sockets

    def list_sockets(self, *args: str) -> dict[str, dict[str, Any]]:
        """Return sockets by name, those that match the names, prefixes with '*' or file numbers."""
        return self._kernel.list_sockets(arguments.texts(args))

    def make_socket(
        self,
        name: str,
        host: str | None = None,
        port: int | str | None = None,
        family: int | None = None,
        socket_type: int | None = None,
        backlog: int | str | None = None,
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
        options = arguments.socket_options(host, port, family, socket_type, backlog, path, umask, interface, reuseport)
        return self._kernel.make_socket(name, options)

    def remove_sockets(self, *args: str) -> bool:
        """Close sockets. True. Raises Error for one that is not there, and where none is named."""
        self._kernel.remove_sockets(arguments.texts(args))
        return True

    # ------------------------------------------------------------------ values

    def list_values(self, *args: str) -> dict[str, str]:
        """Return values by name, those that match."""
        return self._kernel.list_values(arguments.texts(args))

    def set(self, name: str, value: str | None = None) -> None:
        """Keep a value; without one it is forgotten."""
        if value:
            self._kernel.set_value(name, str(value))
        else:
            self._kernel.remove_values([name])

    def get(self, name: str) -> str | None:
        """Return a value, None if there is none."""
        return self._kernel.get_value(name) or None

    def remove_values(self, *args: str) -> bool:
        """Forget values. True. Raises Error if none is named, and for '*'."""
        self._kernel.remove_values(arguments.texts(args))
        return True

    # --------------------------------------------------------------- processes

    def list_processes(self, *args: str) -> dict[str, dict[str, Any]]:
        """Return processes by name, those that match the names, prefixes with '*' or PIDs."""
        return self._kernel.list_processes(arguments.texts(args))

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
        options = arguments.process_options(env, working_dir, uid, gid, rlimits, stdout, stderr, bufsize)
        made = self._kernel.make_process(name, arguments.command(executable, args), options)
        return self.watch_processes(name) if watch_immediately else made

    def host_process(self, name: str, command: Sequence[str], **options: Any) -> dict[str, Any]:
        """Start a process with org.papa.Kernel's own options; Papa 1.0.6 had nothing like it."""
        return self._kernel.make_process(name, command, options)

    def remove_processes(self, *args: str) -> bool:
        """Forget processes' output; those that run go on. True. Raises Error if none is named."""
        self._kernel.remove_processes(arguments.texts(args))
        return True

    def watch_processes(self, *args: str) -> Watcher:
        """Watch the processes that match. Raises Error for one that is not there."""
        return Watcher(self, self._kernel.watch(arguments.texts(args)))

    def watch_events(self, *args: str) -> Watch:
        """Watch, for who wants the events themselves; Papa 1.0.6 had nothing like it."""
        return self._kernel.watch(arguments.texts(args))

    def open_socket(self, name: str) -> socket:
        """Return a duplicate of a hosted socket, for the caller to close; by D-Bus only. Papa 1.0.6 lacks it."""
        return self._kernel.open_socket(name)

    def papads_pid(self) -> int | None:
        """Return papad's PID; None over the line protocol, which does not say it. Papa 1.0.6 had nothing like it."""
        return self._kernel.pid()

    def exit_if_idle(self) -> bool:
        """Ask papad to exit if it holds nothing; return whether it does."""
        return self._kernel.exit_if_idle()

    # ---------------------------------------------------------------- defaults

    @classmethod
    def set_debug_mode(cls, mode: bool = True, quit_when_connection_closed: bool = False) -> None:
        """Start papad, where none is, as a child that ends with this process.

        With ``quit_when_connection_closed`` it ends with the Papa that is left (``with Papa()``).
        """
        cls._debug_mode = mode
        if quit_when_connection_closed:
            cls._single_connection_mode = True

    @classmethod
    def set_default_port(cls, port: int) -> None:
        """Set the port for a Papa that is given none."""
        cls._default_port_or_path = port

    @classmethod
    def set_default_path(cls, path: str) -> None:
        """Set the path, or the bus, for a Papa that is given none."""
        cls._default_port_or_path = path

    @classmethod
    def set_default_connection_timeout(cls, connection_timeout: float) -> None:
        """Set the seconds for reaching papad, for a Papa that is given none."""
        cls._default_connection_timeout = connection_timeout


set_debug_mode = Papa.set_debug_mode
set_default_port = Papa.set_default_port
set_default_path = Papa.set_default_path
set_default_connection_timeout = Papa.set_default_connection_timeout
