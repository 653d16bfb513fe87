"""A watcher that may have its processes in Papa."""

from typing import Any

from circus import logger
from circus.exc import MessageError
from circus.stream import Redirector
from circus.util import to_bool
from circus.watcher import Watcher
from tornado import gen

from papa_dbus.client.circus import inherited
from papa_dbus.client.circus.prefix import claim, fault, of_watcher
from papa_dbus.client.circus.process import PapaProcess
from papa_dbus.client.compat import papa
from papa_dbus.names import UNKNOWN_EXIT

_RETRY = 0.1  # seconds, where another of Circus's commands runs
#: Seconds between an end and what Circus does about it. Commands are refused while it does that, so a plugin that hears
#: of the end is to have its say before; and where one end follows the other, everybody else.
_SOON, _LATER = 0.05, 1.0
_MANY_ENDS = 5  # in a second


class PapaWatcher(Watcher):  # type: ignore[misc]  # Circus has no types
    """Circus's watcher, and with ``use_papa`` one whose processes go on without circusd."""

    optnames: tuple[str, ...]
    numprocesses: int
    autostart: bool
    on_demand: bool
    stream_redirector: Redirector | None

    def __init__(self, name: str, cmd: str, *args: Any, use_papa: Any = False, **options: Any) -> None:
        super().__init__(name, cmd, *args, **options)
        self.use_papa = to_bool(use_papa)
        self.leaving = False  # circusd goes, and its processes stay
        self._ends: list[float] = []  # moments of the last second's
        if "use_papa" not in self.optnames:
            self.optnames = (*self.optnames, "use_papa")
        self._different: dict[str, list[int]] = {}  # processes found, by what is different
        self._autostart = self.autostart
        if self.use_papa:
            self.papa = papa.Papa()
            claim(self.papa)
            self._configured = self.numprocesses
            self._fault = fault(name)
            self._found_wids = [] if self._fault else self._find_wids()
            if self._found_wids:
                self.autostart = True  # they run: whoever started them by hand did not stop them

    def initialize(self, evpub_socket: Any, sockets: Any, arbiter: Any) -> None:
        """Do as Circus does. What reloadconfig makes anew is as the file says."""
        new = self.arbiter is None
        super().initialize(evpub_socket, sockets, arbiter)
        if not (self.use_papa and new):
            return
        if getattr(arbiter, "reloading", False):
            self._remember()
        else:
            self.numprocesses = self._remembered()
        self._tell_what_papa_cannot()

    def _tell_what_papa_cannot(self) -> None:
        inherited.tell(self.papa)
        if not self.close_child_stdin:
            logger.warning(
                "%s: close_child_stdin = false has no effect with use_papa: the input is /dev/null", self.name
            )
        if self.on_demand and not any(getattr(sock, "shared", True) for sock in (self.sockets or {}).values()):
            logger.warning(
                "%s: on_demand has no effect: with use_papa it needs a message bus as papa_endpoint, and a socket"
                " without so_reuseport; it is started now",
                self.name,
            )
            self.on_demand = False

    @property
    def _prefix(self) -> str:
        return of_watcher(self.name)

    def papa_name(self, wid: int) -> str:
        """Return what a process is called in Papa."""
        return f"{self._prefix}{wid}"

    def _find_wids(self) -> list[int]:
        """Return the numbers of the processes that are there already. Those of a watcher ``a.b`` are not ``a``'s."""
        prefix = self._prefix
        rests = (name.removeprefix(prefix) for name in self.papa.list_processes(f"{prefix}*"))
        return sorted(int(rest) for rest in rests if rest.isdecimal())

    @property
    def found(self) -> list[int]:
        """Return the numbers of those that were there already, and are not taken over yet."""
        return list(self._found_wids) if self.use_papa else []

    @property
    def _process_class(self) -> Any:
        return PapaProcess if self.use_papa else super()._process_class

    @property
    def _redirector_class(self) -> Any:
        return Redirector

    def _get_sockets_fds(self) -> dict[str, int]:
        sockets = self.sockets or {}
        return {
            name: sock.fileno()
            for name, sock in sockets.items()
            if sock.use_papa == self.use_papa or (not self.use_papa and sock.shared)
        }

    # ---------------------------------------------------------------- spawning

    @property
    def pending_socket_event(self) -> bool:
        """Return whether it waits for its first request; not if it runs already."""
        return not (self.use_papa and self._found_wids) and bool(super().pending_socket_event)

    @gen.coroutine  # type: ignore[untyped-decorator]
    def spawn_processes(self) -> Any:
        """Do as Circus does. What was found is taken over; a job of which that is has had its start."""
        found, self._found_wids = self._found_wids, []
        for wid in found:
            self.spawn_process(wid)
            yield gen.sleep(0)
        self._tell_differences()
        self.autostart = self._autostart
        if not found or (self.respawn and not self.on_demand):
            yield super().spawn_processes()

    def spawn_process(self, recovery_wid: int | None = None) -> Any:
        """Do as Circus does; one that ended while nobody looked is reaped, and not taken for one that runs."""
        if not self.use_papa or self.is_stopped():
            return super().spawn_process(recovery_wid)
        if self.stdin_socket is not None or self._fault:
            what = f"its name ({self._fault})" if self._fault else "stdin_socket"
            logger.error("%s: %s is not possible with use_papa; it is not started", self.name, what)
            return False
        runs = self._runs(recovery_wid or self._nextwid)
        if recovery_wid and not runs:
            return True  # there is none to be taken over; Circus starts what is missing
        started = super().spawn_process(recovery_wid)
        if not recovery_wid:
            self._tell_differences()
        return started

    def found_different(self, wid: int, names: list[str]) -> None:
        """Note a process that was found in Papa, and the options in which it is not as the file says."""
        if names:
            self._different.setdefault(", ".join(names), []).append(wid)

    def _tell_differences(self) -> None:
        for names, wids in self._different.items():
            numbers = ", ".join(map(str, wids))
            which = f"processes {numbers} in papa differ" if wids[1:] else f"process {numbers} in papa differs"
            logger.warning(
                "%s: %s from the file in %s; circusctl restart %s starts what the file says",
                self.name, which, names, self.name,
            )  # fmt: skip
        self._different.clear()

    def _runs(self, wid: int) -> bool:
        name = self.papa_name(wid)
        try:
            found = self.papa.list_processes(name).get(name)
            if found and not found["running"]:
                ended = PapaProcess(self.name, wid, self.cmd, working_dir=self.working_dir, watcher=self)
                self.processes[ended.pid] = ended
                ended.read_last_words()
                if ended.exit_code is None:  # an earlier circusd has read it, and a descendant has its pipes
                    ended.ended(int(found.get("exit_code", UNKNOWN_EXIT)))
                logger.info(
                    "%s: process %d ended while circusd was away (PID %d, exit code %s)",
                    self.name, wid, ended.pid, ended.exit_code,
                )  # fmt: skip
                self.reap_process(ended.pid)
        except (papa.Error, OSError) as error:
            logger.warning("error in %r: %s", self.name, error)
            return True  # spawning it will show
        return bool(found and found["running"])

    # ------------------------------------------------------------------ ending

    def papa_process_ended(self, process: PapaProcess) -> None:
        """Papa says that a process has ended: reap it at once, and soon do what Circus does about it."""
        if self.leaving:
            return
        now = self.loop.time()
        self._ends = [*(end for end in self._ends if now - end < 1), now]
        self.loop.add_callback(self._reap, process.pid)
        self.loop.call_later(_SOON if len(self._ends) <= _MANY_ENDS else _LATER, self._manage)

    def _reap(self, pid: int) -> None:
        """Reap, once no command runs: one that starts the watcher would take the missing process for a failure."""
        if self.arbiter is not None and self.arbiter._exclusive_running_command is not None:
            self.loop.call_later(_RETRY, self._reap, pid)
        else:
            self.reap_process(pid)

    def _manage(self) -> None:
        if self.arbiter is None or self.is_stopped() or self.leaving:
            return
        managing = self.arbiter.manage_watchers()
        if managing is None:  # another command runs
            self.loop.call_later(_RETRY, self._manage)
        else:
            self.loop.add_future(managing, lambda done: done.result())

    def reap_process(self, pid: int, status: int | None = None) -> None:
        """Reap a process that has ended; one that runs, or that Circus is about to kill, is left alone."""
        process = self.processes.get(pid)
        if isinstance(process, PapaProcess) and (process.stopping or process.is_alive()):
            return
        super().reap_process(pid, status)

    def manage_processes(self) -> Any:
        """Do as Circus does, but for ends: those are reaped, with their code, before it looks."""
        if self.use_papa and not self.is_stopped():
            self.reap_processes()
        return super().manage_processes()

    def _restart(self) -> Any:
        if self.use_papa and self.arbiter is not None:
            self.arbiter.tell_if_unread()
        return super()._restart()

    def _stop(self, close_output_streams: bool = False, for_shutdown: bool = False) -> Any:
        if not self.use_papa or not (for_shutdown or self.leaving) or self.is_stopped():
            return super()._stop(close_output_streams)
        self._leave()
        return gen.maybe_future(None)

    def _leave(self) -> None:
        """Let go of the processes. They do not stop, so no hook and no event says that they do."""
        self.leaving = True
        for process in self.processes.values():
            process.leave()
        self.processes.clear()
        if self.stream_redirector:
            self.stream_redirector.stop()
            self.stream_redirector = None
        for stream in (self.stdout_stream, self.stderr_stream):
            if hasattr(stream, "close"):
                stream.close()
        self._status = "stopped"
        logger.info("%s left running in papa", self.name)

    # ----------------------------------------------------- incr, decr and set

    @property
    def _value(self) -> str:
        return f"{self._prefix}numprocesses"

    def _remembered(self) -> int:
        """Return how many processes were wanted last, unless the file says another number than it did then."""
        if self._fault:
            return self._configured
        wanted, _, configured = (self.papa.get(self._value) or "").partition(" of ")
        if not wanted.isdecimal() or configured != str(self._configured):
            return self._configured
        logger.warning(
            "%s: numprocesses is %s, as it was set with circusctl, and not %d as in the file; circusctl set %s"
            " numprocesses %d for the file's",
            self.name, wanted, self._configured, self.name, self._configured,
        )  # fmt: skip
        return int(wanted)

    def _remember(self) -> None:
        if self._fault:
            return
        changed = self.numprocesses != self._configured
        try:
            self.papa.set(self._value, f"{self.numprocesses} of {self._configured}" if changed else None)
        except papa.Error as error:
            logger.warning("%s: papa does not remember the number of processes: %s", self.name, error)

    def set_numprocesses(self, np: int) -> Any:
        """Do as Circus does, and remember it in Papa; what reloadconfig sets is what the file says."""
        done = super().set_numprocesses(np)
        if self.use_papa:
            if getattr(self.arbiter, "reloading", False):
                self._configured = self.numprocesses
            self._remember()
        return done

    def set_opt(self, key: str, val: Any) -> Any:
        """Do as Circus does, and the number of processes is remembered in Papa."""
        if key == "use_papa":
            raise MessageError(
                f"use_papa: cannot be set while {self.name} is there; change the file and run 'circusctl reloadconfig'"
            )
        action = super().set_opt(key, val)
        if self.use_papa and key == "numprocesses":
            self._remember()
        return action
