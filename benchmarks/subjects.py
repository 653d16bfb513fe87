"""What is measured: a papad with a way to it, or the bare thing that no papad can be faster than.

A subject is started for one measurement and ended after it. All have the same few methods.
"""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus

from benchmarks.peers import Circus, Supervisord
from benchmarks.subject import CHILDREN, Daemon, Handle, Subject, free_port
from papa_dbus.client import aio
from papa_dbus.service.private_bus import OwnBus


class _PapaModule(Daemon):
    """Used through the ``papa`` module, or the drop-in for it."""

    @classmethod
    def client_of(cls, where: str) -> Subject:
        """Another client of one that runs."""
        subject = cls()
        subject.where = int(where) if where.isdigit() else where
        subject._connect()
        return subject

    def leave(self) -> None:
        """End a client that client_of() made."""
        self.client.close()

    def _module(self) -> Any:
        import papa

        return papa

    def _connect(self) -> None:
        self._papa = self._module()
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(self._papa.Error, OSError):
                self.client = self._papa.Papa(self.where, 1)
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing answers at {self.where}")
            time.sleep(0.01)

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a process."""
        if wait:
            self._make_waiting(name, command)
        else:
            self.client.make_process(
                name, command[0], list(command[1:]), env={key: of for key, of in os.environ.items() if of}
            )

    def _make_waiting(self, name: str, command: Sequence[str]) -> None:
        pairs = [f"env.{key}={os.environ[key]}" for key in ("PATH", "HOME") if key in os.environ]
        self.client._do_command(["m", "p", name, "overflow=block", *pairs, *command])  # unknown to Papa's client

    def read(self, pattern: str, handle: Handle) -> None:
        """Pass all output on, and acknowledge it, until every process has ended."""
        with self._papa.Papa(self.where) as client, client.watch_processes(pattern) as watcher:
            while watcher:
                pieces = watcher.read()
                if pieces is not None:
                    for piece in pieces[0]:
                        handle(piece.name, piece.data)

    def list_one(self, name: str) -> None:
        """Ask after one process."""
        assert self.client.list_processes(name)

    def list_all(self) -> int:
        """Ask after all processes."""
        return len(self.client.list_processes())

    def set_and_get(self, name: str, value: str) -> None:
        """Keep a value and ask for it."""
        self.client.set(name, value)
        assert self.client.get(name) == value


class Papa106(_PapaModule):
    """Papa 1.0.6 from PyPI, with its own client."""

    def start(self) -> None:
        """Start its server."""
        self.where = free_port()
        code = f"from papa.server import socket_server; socket_server({self.where})"
        self._run([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.DEVNULL)
        self._papa = self._module()
        self._papa.Papa.spawned = True  # never another of its own
        self._wait_until(self._listens)  # its client would look again after 100 ms
        self._connect()
        self.client.list_processes()
        self._answered()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.where)) == 0


class _Papad(Daemon):
    """papad on a message bus of its own."""

    port = 0
    address = ""

    def start(self) -> None:
        """Start papad."""
        self.port = free_port()
        command = [sys.executable, "-m", "papa_dbus.service", "--bus", "own", "--port", str(self.port)]
        process = self._run(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"unix:path=\S+", line):
                self.address = found[0]
            if line.startswith("Ctrl-C"):
                return
        raise RuntimeError("papad did not start")

    def _end(self) -> None:
        self._process.terminate()
        self._process.communicate()
        self._log.close()


class PapadLine(_Papad, _PapaModule):
    """papad through 20202, with the client of Papa 1.0.6."""

    def start(self) -> None:
        """Start papad."""
        super().start()
        self.where = self.port
        self._papa = self._module()
        self._papa.Papa.spawned = True
        self._connect()


class PapadDropIn(_Papad, _PapaModule):
    """papad through D-Bus, with the drop-in."""

    def _module(self) -> Any:
        from papa_dbus.client.compat import papa

        return papa

    def start(self) -> None:
        """Start papad."""
        super().start()
        self.where = self.address
        self._connect()

    def _make_waiting(self, name: str, command: Sequence[str]) -> None:
        self.client.host_process(name, command, env=dict(os.environ), overflow="block")


class PapadAio(_Papad):
    """papad through D-Bus, with the asyncio client."""

    def start(self) -> None:
        """Start papad."""
        super().start()
        self.where = self.address
        self._connect()

    def _connect(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._kernel = aio.connect(str(self.where))
        self._loop.run_until_complete(self._kernel.__aenter__())
        self._loop.run_until_complete(self._kernel.info())

    @classmethod
    def client_of(cls, where: str) -> Subject:
        """Another client of one that runs."""
        subject = cls()
        subject.where = where
        subject._connect()
        return subject

    def leave(self) -> None:
        """Leave the bus."""
        self._loop.run_until_complete(self._kernel.close())
        self._loop.close()

    def stop(self) -> None:
        """Leave the bus and end papad."""
        self.leave()
        super().stop()

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a process."""
        overflow: Any = "block" if wait else None
        made = self._kernel.make_process(name, command, env=dict(os.environ), overflow=overflow)
        self._loop.run_until_complete(made)

    def read(self, pattern: str, handle: Handle) -> None:
        """Pass all output on, and acknowledge it, until every process has ended."""
        self._loop.run_until_complete(self._read(pattern, handle))

    async def _read(self, pattern: str, handle: Handle) -> None:
        async for event in self._kernel.watch(pattern):
            if isinstance(event, aio.Record):
                handle(event.process, event.data)

    def list_one(self, name: str) -> None:
        """Ask after one process."""
        assert self._loop.run_until_complete(self._kernel.list_processes(name))

    def list_all(self) -> int:
        """Ask after all processes."""
        return len(self._loop.run_until_complete(self._kernel.list_processes()))

    def set_and_get(self, name: str, value: str) -> None:
        """Keep a value and ask for it."""
        self._loop.run_until_complete(self._set_and_get(name, value))

    async def _set_and_get(self, name: str, value: str) -> None:
        await self._kernel.set_value(name, value)
        assert await self._kernel.get_value(name) == value


class PapadCold(PapadAio):
    """papad on a message bus that is there already, from its execution to its first answer."""

    def start(self) -> None:
        """Start papad while somebody waits for it."""
        self._bus = OwnBus()
        self._loop = asyncio.new_event_loop()
        self._kernel = aio.connect(self._bus.address)
        self._loop.run_until_complete(self._kernel.__aenter__())
        self._run([sys.executable, "-m", "papa_dbus.service", "--bus", self._bus.address, "--port", str(free_port())])
        self._loop.run_until_complete(self._kernel.info())
        self._answered()

    def stop(self) -> None:
        """End papad, then its bus."""
        super().stop()
        self._bus.close()


class Bare(Subject):
    """No papad: subprocess.Popen, and the pipe itself, read as fast as it goes."""

    preexec: Callable[[], None] | None = None

    def start(self) -> None:
        """Nothing is to be started."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.daemon = os.getpid()

    def stop(self) -> None:
        """End what was started."""
        for process in self._processes.values():
            process.kill()
            process.communicate()

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a process."""
        del wait
        self._processes[name] = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=self.preexec,  # noqa: PLW1509 (there are no threads)
        )

    def read(self, pattern: str, handle: Handle) -> None:
        """Read pipes to their end."""
        import selectors

        chosen = selectors.DefaultSelector()
        for name, process in self._processes.items():
            if name.startswith(pattern.rstrip("*")) and process.stdout is not None:
                chosen.register(process.stdout.fileno(), selectors.EVENT_READ, name)
        while chosen.get_map():
            for key, _ in chosen.select():
                piece = os.read(key.fd, 65536)
                if piece:
                    handle(key.data, piece)
                else:
                    chosen.unregister(key.fd)


class BarePreexec(Bare):
    """The same, as Papa and Circus call it: with a function for the child, so that Popen cannot use vfork."""

    preexec = staticmethod(os.setsid)


class BareRelay(Bare):
    """No papad: a pipe, and behind it an asyncio loop that passes what it reads to a TCP connection."""

    keeps = False

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a process, with its relay."""
        super().make(name, command, wait)
        writer = self._processes[name]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            relay = [sys.executable, str(CHILDREN / "relay.py"), port, *["keep"] * self.keeps]
            self._processes[f"{name}'s relay"] = subprocess.Popen(relay, stdin=writer.stdout)
            self._connection, _ = listener.accept()
        assert writer.stdout is not None
        writer.stdout.close()
        writer.stdout = None

    def read(self, pattern: str, handle: Handle) -> None:
        """Read to the end."""
        with self._connection:
            while piece := self._connection.recv(65536):
                handle(pattern, piece)
                if self.keeps:
                    self._connection.send(b"\n")


class BareKeeper(BareRelay):
    """The same, and what is passed on outlives the relay until it is acknowledged."""

    keeps = True


class BareFork(Subject):
    """No papad: a small Python that forks for each line that it is told."""

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-I", "-S", str(CHILDREN / "forker.py")]
        self._forker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> None:
        """End it."""
        self._forker.communicate()

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a process."""
        del name, wait
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write(" ".join(command) + "\n")
        self._forker.stdin.flush()
        assert self._forker.stdout.readline()


class BareEcho(Subject):
    """No papad: an asyncio server that sends back what it gets."""

    def start(self) -> None:
        """Start it."""
        self._echo = subprocess.Popen([sys.executable, str(CHILDREN / "echo.py")], stdout=subprocess.PIPE, text=True)
        assert self._echo.stdout is not None
        self._connection = socket.create_connection(("127.0.0.1", int(self._echo.stdout.readline())))

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        self._echo.kill()
        self._echo.communicate()

    def set_and_get(self, name: str, value: str) -> None:
        """Two round trips, with as much in them."""
        for text in (f"set {name} {value}\n", f"get {name}\n"):
            self._connection.sendall(text.encode())
            assert self._connection.recv(1024)


class BareBus(Subject):
    """No papad, and dbus-next alone: a pipe, and behind it a unicast signal for each piece; and a call between two."""

    def start(self) -> None:
        """Start the bus, and one who answers pings."""
        self._own = OwnBus()
        self._loop = asyncio.new_event_loop()
        self._bus = self._loop.run_until_complete(self._connect())
        self._received: asyncio.Queue[bytes] = asyncio.Queue()
        self.daemon = os.getpid()
        pong = [sys.executable, str(CHILDREN / "pong.py"), self._own.address]
        self._pong = subprocess.Popen(pong, stdout=subprocess.PIPE, text=True)
        self._others: list[subprocess.Popen[Any]] = [self._pong]
        assert self._pong.stdout is not None
        self._name = self._pong.stdout.readline().strip()

    async def _connect(self) -> Any:
        bus: Any = await MessageBus(self._own.address).connect()
        bus.add_message_handler(self._hear)
        return bus

    def stop(self) -> None:
        """End all of it."""
        for process in self._others:
            process.kill()
            process.communicate()
        self._bus.disconnect()
        self._loop.run_until_complete(self._bus.wait_for_disconnect())
        self._loop.close()
        self._own.close()

    def _hear(self, signal: Message) -> None:
        if signal.message_type is MessageType.SIGNAL and signal.interface == "org.bare":
            self._received.put_nowait(signal.body[0])

    def make(self, name: str, command: Sequence[str], wait: bool = False) -> None:
        """Start a process, with its pipe's reader behind it."""
        del name, wait
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        sender = [sys.executable, str(CHILDREN / "signals.py"), self._own.address, str(self._bus.unique_name)]
        self._others += [writer, subprocess.Popen(sender, stdin=writer.stdout)]
        assert writer.stdout is not None
        writer.stdout.close()
        writer.stdout = None

    def read(self, pattern: str, handle: Handle) -> None:
        """Take signals until the empty one."""
        self._loop.run_until_complete(self._read(pattern, handle))

    async def _read(self, pattern: str, handle: Handle) -> None:
        while data := await self._received.get():
            handle(pattern, data)

    def set_and_get(self, name: str, value: str) -> None:
        """Two calls to the other, with as much in them."""
        self._loop.run_until_complete(self._call("ss", [name, value]))
        self._loop.run_until_complete(self._call("s", [name]))

    async def _call(self, signature: str, body: list[Any]) -> None:
        call = Message(
            destination=self._name, path="/bare", interface="org.bare", member="Ping", signature=signature, body=body
        )
        reply = await self._bus.call(call)
        assert reply.body == body


SUBJECTS: dict[str, type[Subject]] = {
    "papa": Papa106,
    "line": PapadLine,
    "drop-in": PapadDropIn,
    "aio": PapadAio,
    "cold": PapadCold,
    "bare": Bare,
    "bare preexec": BarePreexec,
    "bare relay": BareRelay,
    "bare keeper": BareKeeper,
    "bare fork": BareFork,
    "bare echo": BareEcho,
    "bare bus": BareBus,
    "supervisord": Supervisord,
    "circus": Circus,
}
