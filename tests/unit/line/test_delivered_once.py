"""Watches on connections of the line protocol, over reloads, with real logs, cursors and sockets: each client gets all
that was produced, once and in order, or is told how much was dropped.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papa_dbus.errors import NotFound
from papa_dbus.service.caller import Caller
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.line import handover
from papa_dbus.service.line import watch as line_watch
from papa_dbus.service.line.replies import BATCH_END, PROMPT
from papa_dbus.service.line.session import Session
from papa_dbus.service.output.cursor import Position
from papa_dbus.service.output.log import OutputLog
from papa_dbus.service.output.watches import Watch
from papa_dbus.service.steps import Pace
from tests.source import Source
from tests.support import PATIENCE

CAPACITY = 1000
LOST = re.compile(rb"(\d+) bytes of (?:p were|output) lost")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 400)),
        st.tuples(st.sampled_from(["read", "acknowledge", "hang up", "end"]), st.integers(0, 1)),
        st.tuples(st.just("reload"), st.just(0)),
        st.tuples(st.just("go on"), st.integers(1, 8)),
    ),
    max_size=40,
)


class Client:
    """One that consumes, and takes its time."""

    def __init__(self, papad: "Papad") -> None:
        self.papad = papad
        self.connect()

    def connect(self) -> None:
        """Come, or come again: papad says with which output it begins."""
        self.sock, other = socket.socketpair()
        self.sock.setblocking(False)
        self.sock.send(b"watch process p\n")
        self.received = b""
        self.place: int | None = None  # in what was written; None until papad has the watch
        self.ends = self.expected_ends = 0
        self.batch = self.done = self.ended = False
        self.papad.serve(Kernel(self.papad, self, self.sock), other)

    def read(self) -> None:
        """Take what is there, and look at it."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.sock.recv(65536):
                self.received += data
        while (size := self.look()) is not None:
            self.received = self.received[size:]

    def look(self) -> int | None:
        """Look at what comes first; return its size, None where it has not come whole."""
        for mark in (BATCH_END, PROMPT):
            if self.received.startswith(mark):
                self.batch |= mark == BATCH_END
                return len(mark)
        line, end, rest = self.received.partition(b"\n")
        if not end:
            return None
        size = len(line) + 1
        kind = line.split(b":")[0]
        assert kind != b"Error" or self.done or line == b"Error: papad is stopping", line
        assert not (self.batch and kind in (b"out", b"err", b"closed")), "the one before was not acknowledged"
        if kind in (b"out", b"err"):
            length = int(line.split(b":")[3])
            if len(rest) <= length:
                return None
            self.take(rest[:length], lost=kind == b"err")
            size += length + 1
        elif kind == b"closed":
            self.ends += 1
        elif line.startswith(b"Watching 1"):
            self.take(line, lost=b"lost" in line)
        self.done |= line == b"Nothing left to watch"
        self.ended |= kind == b"Error" and not self.done
        return size

    def take(self, data: bytes, lost: bool) -> None:
        """Compare output with what was written."""
        assert self.place is not None
        if lost:
            [size] = LOST.findall(data)
            self.place += int(size)
        elif not data.startswith(b"Watching"):
            assert self.papad.written[self.place : self.place + len(data)] == data
            self.place += len(data)

    def acknowledge(self) -> None:
        """Let papad send the next batch."""
        if self.batch and not self.ended:
            self.batch = False
            with contextlib.suppress(BrokenPipeError):
                self.sock.send(b"\n")

    def hang_up(self) -> None:
        """Go without a word, and come again."""
        self.sock.close()
        self.connect()


class Kernel:
    """What a session asks of the kernel, for one client."""

    def __init__(self, papad: "Papad", client: Client, sock: socket.socket) -> None:
        self.papad, self.client = papad, client
        self.sock = sock  # the client's end; it may have hung up since, and come again

    def noted(self, names: Sequence[str]) -> None:
        return None

    def attached(self, watch: Watch) -> None:
        return None

    def close_watch(self, watch: Watch, away: bool) -> None:
        watch.close(away)

    def watch(self, patterns: Sequence[str], spec: WatchSpec, on_ready: Any, on_done: Any) -> Watch:
        log = self.papad.source.log
        gone = log.exit_acknowledged and not log.buffered
        if self.sock is self.client.sock:
            self.client.done = gone
            self.client.place, self.client.expected_ends = log.acknowledged_offset, int(not gone)
        if gone:
            raise NotFound("process 'p' is not there")
        return self._watch(spec, on_ready, on_done, None)

    def resume_watch(
        self, positions: Sequence[tuple[int, Position]], spec: WatchSpec, on_ready: Any, on_done: Any
    ) -> Watch:
        position = positions[0][1]
        return self._watch(spec, on_ready, on_done, position)

    def _watch(self, spec: WatchSpec, on_ready: Any, on_done: Any, position: Position | None) -> Watch:
        watch = Watch(1, spec, on_ready, on_done, lambda watch: None)
        watch.attach("p", self.papad.source.log, position)
        return watch

    def positions(self, watch: Watch) -> list[tuple[int, Position]]:
        return [(1, cursor.position) for cursor in watch.cursors]


class Papad:
    """A process's output, the connections, and the front end that lets everybody in."""

    def __init__(self) -> None:
        self.source = Source(CAPACITY)
        self.written = b""
        self.sessions: dict[Session, Kernel] = {}
        self.known: set[Session] = set()  # those that have asked to be let in
        self.pace = Pace()
        self.loop = asyncio.get_running_loop()
        self.clients = [Client(self), Client(self)]

    # ---------------------------------------------------------- as the front end

    async def admit(self, session: Session, sock: socket.socket) -> Caller:
        self.known.add(session)
        await asyncio.sleep(0)
        return Caller(0, None, "here")

    async def check(self, session: Session) -> None:
        await asyncio.sleep(0)

    def batch_room(self, session: Session) -> int:
        return 700

    def charge(self, session: Session, more: int, *, always: bool = False) -> None:
        pass

    def leave(self, session: Session) -> None:
        self.sessions.pop(session, None)

    # ---------------------------------------------------------------- steps

    def serve(self, kernel: Kernel, sock: socket.socket, left: handover.ConnectionState | None = None) -> None:
        """Begin with a connection, or go on with it."""
        session = Session(kernel, self, left)  # type: ignore[arg-type]
        self.sessions[session] = kernel
        sock.setblocking(False)
        self.loop._make_socket_transport(sock, session)  # type: ignore[attr-defined]

    def say(self, size: int) -> None:
        data = os.urandom(size)
        self.written += data
        self.source.say(data)

    def end(self, client: Client) -> None:
        """End a client's connection with a word."""
        for session in [session for session, its in self.sessions.items() if its.client is client]:
            session.end("papad is stopping")

    async def reload(self) -> None:
        """Go on as the next papad, with what this one leaves."""
        while not self.known >= set(self.sessions):  # LineServer does not know them before, either
            await asyncio.sleep(0)
        going = dict(self.sessions)
        for session in going:
            session.leave()
        if tasks := [session.task for session in going if session.task is not None]:
            await asyncio.wait(tasks)
        left = [(*session.left, kernel) for session, kernel in going.items() if session.left is not None]
        packed = handover.pack([handover.Connection(fd, 0, state) for fd, state, _ in left])
        self.source.log = OutputLog.recover(CAPACITY, lambda: None, self.source.log.files)
        connections = handover.unpack([fd for fd, _, _ in left], packed)
        for connection, (*_, kernel) in zip(connections, left, strict=True):
            self.serve(kernel, socket.socket(fileno=connection.fd), connection.left)

    async def finish(self) -> None:
        """Have the process end, and everybody read to the end."""
        self.source.log.end(0, 1)
        self.source.log.complete()
        for client in self.clients:
            while not client.done:
                await asyncio.sleep(0)
                client.read()
                client.acknowledge()
                if client.ended:
                    client.hang_up()
            assert client.place in (None, len(self.written))
            assert client.ends == client.expected_ends

    async def close(self) -> None:
        """Let all of it go."""
        for client in self.clients:
            client.sock.close()
        await asyncio.sleep(0)
        if tasks := [session.task for session in self.sessions if session.task is not None]:
            await asyncio.wait(tasks)
        self.source.close()


async def do(papad: Papad, steps: list[tuple[str, int]]) -> None:
    """Do these, and then come to the end."""
    for what, number in steps:
        client = papad.clients[number % 2]
        match what:
            case "say":
                papad.say(number)
            case "read":
                client.read()
            case "acknowledge":
                client.acknowledge()
            case "hang up":
                client.hang_up()
            case "end":
                papad.end(client)
            case "reload":
                await papad.reload()
            case "go on":
                for _ in range(number):
                    await asyncio.sleep(0)
    await papad.finish()


async def run(steps: list[tuple[str, int]]) -> None:
    """Do these, and leave nothing."""
    papad = Papad()
    try:
        async with asyncio.timeout(PATIENCE):
            await do(papad, steps)
    finally:
        await papad.close()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_each_watch_on_a_connection_gets_everything_once(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(line_watch, "SETTLE", 0.0)
    monkeypatch.setattr(line_watch, "COALESCE_DELAY", 0.0)
    asyncio.run(run(steps))
