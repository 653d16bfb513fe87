"""papad from start to stop. The only place where all the parts meet."""

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from papa_dbus import __version__
from papa_dbus.bus import Bus, address_of
from papa_dbus.errors import Bind, PapaError
from papa_dbus.service import rlimits
from papa_dbus.service.access.policy import GROUP, Access
from papa_dbus.service.access.polkit import Polkit
from papa_dbus.service.dbus.server import DBusServer
from papa_dbus.service.fork.fork import ForkServer
from papa_dbus.service.items.store import Store
from papa_dbus.service.journal.socket import Journal, OwnLog
from papa_dbus.service.kernel.changes import Change
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line.handover import Connection, pack, unpack
from papa_dbus.service.line.server import LineServer, PortFor
from papa_dbus.service.private_bus import OwnBus
from papa_dbus.service.systemd import fd_store as systemd_fd_store
from papa_dbus.service.systemd import listen_fds as systemd_listen_fds
from papa_dbus.service.systemd import manager as systemd_manager
from papa_dbus.service.systemd import notify as systemd_notify
from papa_dbus.service.systemd import scopes as systemd_scopes
from papa_dbus.service.systemd.reloads import Reloads

log = logging.getLogger("papad")


#: What papa.socket calls the sockets of the line protocol (FileDescriptorName=).
LINE_SOCKETS = "line"
#: What papad itself calls the connections that its new version goes on with, and the file that says where they stand.
#: There may be thousands, and all names come in one variable: hence one letter.
LINE_CONNECTIONS, LINE_STATE = "c", "connections"
_STATUS_SECONDS = 0.2
#: Collections of the second generation before a full one.
_NEVER = 2**31 - 1
#: Seconds that papad's end may wait for a journal that is full, and for systemd.
LAST_WORDS_SECONDS = 1.0
#: In the runtime directory: the registries of what systemd keeps the descriptors of.
STATE_FILE = "state.sqlite"


class Papad:
    """The kernel with its front ends, from start to stop."""

    def __init__(
        self,
        options: argparse.Namespace,
        own: OwnBus | None,
        fork_server: ForkServer | None,
        journal: Journal,
        own_log: OwnLog,
    ) -> None:
        self._options = options
        self._own = own
        self._fork_server = fork_server
        self._own_log = own_log
        self._listen_fds = systemd_listen_fds.ListenFds()
        store, self._descriptors = self._open_store()
        self._kernel = Kernel(store=store, journal=journal)
        if fork_server is not None:
            self._kernel.fork = fork_server.fork
        self._stop = asyncio.Event()
        self._status_due = False
        self._reload = False

    def _end(self) -> None:
        self._reload = False
        self._stop.set()

    def _begin_reload(self) -> None:
        if self._descriptors is None:
            log.warning("papad cannot be reloaded: systemd did not start it, so what it holds would be lost")
            return
        self._reload = True
        self._stop.set()

    async def run(self) -> int:
        """Start, serve, stop or become the new version."""
        self._hear_signals()
        bus = Bus(self._own.address if self._own is not None else address_of(self._options.bus))
        scopes = systemd_scopes.Scopes(bus)
        bus.on_connected.append(lambda: self._name_units(bus))  # before there is a front end that tells of them
        reloads = Reloads(bus, lambda: self._learn_limit(bus))
        if self._own is None:
            self._kernel.assign_scope = scopes.assign_scope
        self._recover()
        # The group and polkit are the system's: what serves another bus is its own user's alone.
        access = Access(GROUP, Polkit(bus)) if self._options.bus == "system" else Access()
        line = LineServer(self._kernel, access, PortFor(self._options.port_for))
        server = DBusServer(self._kernel, bus, access)
        handed_over: dict[str, list[int]] = {}
        try:
            await self._start(bus, line)
            await self._stop.wait()
            reloads.close()
            if self._reload:
                await systemd_manager.reload_job_done(bus)
            await self._kernel.settle()
            if self._reload:
                handed_over = await self._hand_over(line)
            else:
                await self._take_leave(bus, scopes)
        finally:
            await line.stop()
            await server.close(leave=self._reload)
            self._kernel.close()
        if self._reload and self._descriptors is not None:
            self._become_new_version(self._descriptors, handed_over)
        systemd_notify.finish_notifying(LAST_WORDS_SECONDS)
        log.info("papad has stopped")
        return 0

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        self._kernel.on_exit = self._stop.set
        self._kernel.listeners.append(self._status_changed)

    async def _start(self, bus: Bus, line: LineServer) -> None:
        connections = self._line_connections()
        await line.start(self._line_sockets(line))
        await line.adopt(connections)
        await bus.start(wait=self._descriptors is not None)
        await self._learn_limit(bus)
        self._ready()

    async def _learn_limit(self, bus: Bus) -> None:
        if self._descriptors is not None:
            await self._descriptors.learn_limit(bus)

    async def _hand_over(self, line: LineServer) -> dict[str, list[int]]:
        """Stop serving; return the descriptors for the new version, by name."""
        systemd_notify.notify_reloading()
        listening, connections = await line.hand_over()
        handed_over = self._kernel.passed_sockets()
        handed_over |= {LINE_SOCKETS: listening, LINE_CONNECTIONS: [of.fd for of in connections]}
        handed_over[LINE_STATE] = [pack(connections)]
        return handed_over

    async def _take_leave(self, bus: Bus, scopes: systemd_scopes.Scopes) -> None:
        """Let those who read have the rest, before papad's end."""
        systemd_notify.notify(STOPPING=1, STATUS="Stopping")
        if self._descriptors is not None:
            with contextlib.suppress(PapaError):  # no bus, no word of what systemd does
                await scopes.read_to_their_end()
        await self._kernel.tell_last_words()
        await self._say_what_is_lost(bus)

    def _become_new_version(
        self, descriptors: systemd_fd_store.SystemdFdStore, handed_over: dict[str, list[int]]
    ) -> NoReturn:
        log.info("papad becomes its new version, with %s", self._status())
        if self._fork_server is not None:
            self._fork_server.close()
        rlimits.give_back()
        systemd_notify.finish_notifying(LAST_WORDS_SECONDS)
        self._own_log.finish(LAST_WORDS_SECONDS)
        descriptors.execute_again(handed_over)

    def _line_connections(self) -> list[Connection]:
        packed = self._listen_fds.take(LINE_STATE, systemd_listen_fds.is_memory_file)
        if not packed:
            return []
        return unpack(self._listen_fds.take(LINE_CONNECTIONS, systemd_listen_fds.is_connected), packed[0])

    def _line_sockets(self, line: LineServer) -> list[socket.socket]:
        sockets = self._listen_fds.sockets(LINE_SOCKETS)
        self._listen_fds.close_rest()
        port, path = self._options.port, self._options.socket
        if not sockets and port:
            free = f"end the program that has it ('ss -ltnp sport = {port}' shows it)"
            sockets = self._bound(f"port {port}", lambda: line.bind(port), free)
        if path is not None and not any(s.family == socket.AF_UNIX for s in sockets):
            sockets += self._bound(f"socket {path}", lambda: [line.bind_unix(path)], "put that right")
        return sockets

    def _bound(self, what: str, bind: Callable[[], list[socket.socket]], remedy: str) -> list[socket.socket]:
        """Bind what no socket unit has passed. Under systemd papad serves the bus if it cannot; else raises Bind."""
        try:
            return bind()
        except Bind as error:
            if self._descriptors is None:
                raise Bind(f"{what}: {error}; {remedy}, or choose another with --{what.partition(' ')[0]}") from None
            restart = "systemctl restart papa" if self._options.bus == "system" else "systemctl --user restart papa"
            log.error("%s: not served, only the message bus is: %s; %s, then run '%s'", what, error, remedy, restart)
            return []

    def _ready(self) -> None:
        gc.freeze()  # what is there now stays: the collector need not look at it again
        # A full collection looks at all that papad holds: 0.15 s for 1,000 watches in a flood of calls. Nothing of
        # papad's needs one (tests/bus/test_garbage.py).
        gc.set_threshold(*gc.get_threshold()[:2], _NEVER)
        systemd_notify.notify(READY=1, STATUS=self._status())
        interval = systemd_notify.watchdog_interval()
        if interval is not None:
            systemd_notify.keep_watchdog_quiet(interval)
        log.info("papad %s is ready", __version__)
        if self._own is not None:
            print(_HINT.format(version=__version__, address=self._own.address, line=self._line_hint()), flush=True)

    def _line_hint(self) -> str:
        if self._options.port:
            return f"telnet localhost {self._options.port}      (try: help)"
        return f"nc -U {self._options.socket}" if self._options.socket else "(no line protocol)"

    # ------------------------------------------------------------------ status

    def _status(self) -> str:
        kernel = self._kernel
        counts = ((kernel.socket_count, "socket"), (kernel.value_count, "value"), (kernel.process_count, "process"))
        return ", ".join(f"{n} {_plural(word, n)}" for n, word in counts)

    def _status_changed(self, change: Change) -> None:
        if not self._status_due and change.what != "changed":
            self._status_due = True
            asyncio.get_running_loop().call_later(_STATUS_SECONDS, self._tell_status)

    def _tell_status(self) -> None:
        self._status_due = False
        systemd_notify.notify(STATUS=self._status())

    def _open_store(self) -> tuple[Store, systemd_fd_store.SystemdFdStore | None]:
        folder = systemd_fd_store.SystemdFdStore.available()
        if folder is None:
            log.info("not started by systemd: all that papad holds is lost when it ends")
            return Store(), None
        descriptors = systemd_fd_store.SystemdFdStore()
        return Store(folder / STATE_FILE, descriptors), descriptors

    def _recover(self) -> None:
        """Host again what an earlier papad left with systemd."""
        kept, slots = self._listen_fds.kept()
        if self._descriptors is not None:
            self._descriptors.adopt(kept, slots)
        for problem in self._kernel.recover(kept):
            log.error("not recovered: %s", problem)
        if kept:
            log.info("recovered: %s", self._status())
        for problem in self._kernel.host_passed(self._listen_fds.others((LINE_SOCKETS, LINE_CONNECTIONS, LINE_STATE))):
            log.error("%s", problem)

    async def _name_units(self, bus: Bus) -> None:
        if self._kernel.passed_sockets():
            self._kernel.name_units(await systemd_manager.socket_units(bus))

    async def _say_what_is_lost(self, bus: Bus) -> None:
        kept = await systemd_manager.keeps_descriptors(bus) if self._descriptors is not None else False
        if kept:
            log.info("papad stops; kept for its next start: %s", self._status())
            return
        lost = self._kernel.losses()
        if kept is None and lost:
            log.warning("papad stops, and systemd does not say whether it keeps what papad holds; if not:")
        for loss in lost:
            log.warning("%s", loss)


def _plural(word: str, count: int) -> str:
    if count == 1:
        return word
    return word + ("es" if word.endswith("s") else "s")


_HINT = """
Papa {version} is up, on a message bus of its own. In another terminal:

  busctl --address={address} tree org.papa.Kernel
  busctl --address={address} introspect org.papa.Kernel /org/papa/Kernel
  busctl --address={address} call -- org.papa.Kernel /org/papa/Kernel org.papa.Kernel \\
         MakeProcess 'sasa{{sv}}' hello 3 sh -c 'echo hello; sleep 600' 0
  {line}

Ctrl-C ends it.
"""
