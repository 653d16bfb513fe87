"""One connection to a bus that the test is: how it is let in, its replies, its loss."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dbus_next import Message, MessageType

from papa_dbus.bus import Bus, BusLost, transport
from papa_dbus.bus import bus as bus_module
from papa_dbus.bus import connection as bus_connection
from papa_dbus.bus.connection import Connection
from papa_dbus.bus.reader import MessageReader
from papa_dbus.bus.writer import MAX_MESSAGE
from papa_dbus.errors import Limit
from tests.dbus_messages import as_bytes
from tests.support import PATIENCE, descriptors, turns


class FakeBus:
    """A bus for one connection. ``answers`` are its lines by what they answer, one for each word."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix:path={path}"
        self.answers = {"AUTH": "OK 1234deadbeef1234deadbeef1234dead", "NEGOTIATE_UNIX_FD": "AGREE_UNIX_FD"}
        self.told: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.setblocking(False)
        self.end: socket.socket | None = None

    async def serve(self, hello: Message | None) -> None:
        """Let a connection in and answer its first call, with this message."""
        loop = asyncio.get_running_loop()
        self.end, _ = await loop.sock_accept(self._listener)
        while (line := await self._line()) != "BEGIN":
            self.told.append(line)
            await loop.sock_sendall(self.end, f"{self.answers[line.split()[0]]}\r\n".encode())
        if hello is not None:
            await self.next_call()
            await self.send(hello)

    async def send(self, message: Message) -> None:
        assert self.end is not None
        await asyncio.get_running_loop().sock_sendall(self.end, bytes(as_bytes(message)))

    async def _line(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            assert self.end is not None
            line += await asyncio.get_running_loop().sock_recv(self.end, 1)
        return line.decode().strip("\0\r\n")

    async def next_call(self) -> Message:
        assert self.end is not None
        reader, came = MessageReader(self.end), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.end, came.set)
        try:
            while (message := reader.read_message()) is None:
                await came.wait()
                came.clear()
        finally:
            loop.remove_reader(self.end)
        return message

    def close(self) -> None:
        self._listener.close()
        if self.end is not None:
            self.end.close()


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeBus]:
    fake = FakeBus(tmp_path / "bus")
    before = descriptors()
    yield fake
    fake.close()
    assert not descriptors().items() - before.items()


def named(name: str) -> Message:
    return Message(
        message_type=MessageType.METHOD_RETURN, reply_serial=1, serial=1, sender="a.b", signature="s", body=[name]
    )


@contextlib.asynccontextmanager
async def connected(fake: FakeBus) -> AsyncIterator[Connection]:
    connection = Connection(*await transport.connect(fake.address), Bus(fake.address))
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(connection.open(), fake.serve(named(":1.5")))
            yield connection
    finally:
        connection.lose()


async def test_it_is_let_in_as_its_user_and_named(fake: FakeBus) -> None:
    async with connected(fake) as connection:
        assert connection.unique_name == ":1.5"
        assert fake.told == [f"AUTH EXTERNAL {str(os.getuid()).encode().hex()}", "NEGOTIATE_UNIX_FD"]


@pytest.mark.parametrize(("word", "answer"), [("AUTH", "REJECTED EXTERNAL"), ("NEGOTIATE_UNIX_FD", "ERROR no")])
async def test_a_bus_that_refuses(fake: FakeBus, word: str, answer: str) -> None:
    fake.answers[word] = answer
    serving = asyncio.ensure_future(fake.serve(None))
    with pytest.raises(BusLost, match=f"cannot be reached: authentication failed: '{answer}'"):
        await asyncio.wait_for(Bus(fake.address).start(), PATIENCE)
    serving.cancel()


async def test_serial_numbers_begin_again(fake: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_connection, "_MAX_SERIAL", 3)
    async with connected(fake) as connection:
        assert [connection.next_serial() for _ in range(4)] == [2, 3, 1, 2]


async def test_a_call_that_is_too_large_is_not_taken_for_an_answer(fake: FakeBus) -> None:
    too_large = Message(path="/a", member="SetValue", signature="s", body=["x" * MAX_MESSAGE])
    async with connected(fake) as connection:
        with pytest.raises(Limit, match=f"^SetValue would have .* bytes, a message at most {MAX_MESSAGE}: pass less$"):
            await connection.ask(too_large)


async def test_a_reply_that_nobody_waits_for_leaves_no_descriptor(fake: FakeBus) -> None:
    async with connected(fake) as connection:
        asking = asyncio.ensure_future(connection.ask(Message(path="/a", member="M")))
        call = await fake.next_call()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        before = descriptors()
        assert fake.end is not None
        for serial in (call.serial, 77):
            reply = Message(message_type=MessageType.METHOD_RETURN, reply_serial=serial, serial=2, unix_fds=[0])
            socket.send_fds(fake.end, [as_bytes(reply)], [0])
        asking = asyncio.ensure_future(connection.ask(Message(path="/a", member="M")))
        call = await fake.next_call()
        await fake.send(Message(message_type=MessageType.METHOD_RETURN, reply_serial=call.serial, serial=3))
        assert (await asking) is not None
        assert not descriptors().items() - before.items()


async def test_all_calls_end_with_the_connection(fake: FakeBus) -> None:
    async with connected(fake) as connection:
        asking = [asyncio.ensure_future(connection.ask(Message(path="/a", member="M"))) for _ in range(2)]
        await fake.next_call()
        assert fake.end is not None
        fake.end.shutdown(socket.SHUT_RDWR)
        for call in asking:
            with pytest.raises(EOFError):
                await call
        assert isinstance(await connection.lost, EOFError)
        assert (connection.closed, connection.fileno()) == (True, -1)


async def test_a_call_of_a_connection_that_is_closed_has_no_reply(fake: FakeBus) -> None:
    async with connected(fake) as connection:
        asking = asyncio.ensure_future(connection.ask(Message(path="/a", member="M")))
        await fake.next_call()
        connection.lose()
        assert await asking is None


@pytest.mark.parametrize(("first", "seen"), [(32, 64), (31, 31)])
async def test_what_a_bus_has_behind_many_messages_is_read_with_them(
    fake: FakeBus, monkeypatch: pytest.MonkeyPatch, first: int, seen: int
) -> None:
    """A bus has more than the socket holds, and sends it when there is room."""
    monkeypatch.setattr(bus_connection, "READING_TURN", PATIENCE)
    signal = bytes(as_bytes(Message(None, "/a", "a.b", "S", MessageType.SIGNAL, serial=1)))
    heard: list[Message] = []
    async with connected(fake) as connection:
        assert fake.end is not None
        fake.end.sendall(signal * first)
        further = [signal * (64 - first)]

        def send_on(reader: MessageReader, seconds: float) -> bool:
            del reader, seconds
            assert fake.end is not None
            fake.end.sendall(sent := b"".join(further))
            further.clear()
            return bool(sent)

        monkeypatch.setattr(MessageReader, "wait", send_on)
        monkeypatch.setattr(connection._owner, "hear", heard.append)
        connection.read()
        assert len(heard) == seen


async def test_a_signal_that_makes_no_sense_is_left_out(fake: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    said: list[object] = []
    signal = as_bytes(Message(None, "/a", "a.b", "S", MessageType.SIGNAL, signature="s", body=["xyz"], serial=1))
    nonsense = bytes(signal).replace(b"xyz", b"x\xffz")
    async with connected(fake) as connection:
        monkeypatch.setattr(connection._owner, "hear", lambda message: heard.append(*message.body))
        monkeypatch.setattr(connection._owner, "warn", lambda *words: said.append(words))
        assert fake.end is not None
        fake.end.sendall(nonsense + bytes(signal))
        connection.read()
    assert (heard, len(said)) == (["xyz"], 1)


async def test_the_transports_of_an_address_are_tried_in_turn(fake: FakeBus, tmp_path: Path) -> None:
    sock, program = await transport.connect(f"unix:path={tmp_path}/none;{fake.address}")
    assert program is None
    sock.close()
    with pytest.raises(ConnectionRefusedError):
        await transport.connect(f"unix:path={tmp_path}/none;unix:abstract={tmp_path}/neither")


@pytest.mark.parametrize("address", ["launchd:env=X", "unix:tmpdir=/tmp", "nonsense", "unix:path=/nowhere"])
async def test_an_address_where_no_bus_can_be(address: str) -> None:
    with pytest.raises(BusLost, match="cannot be reached"):
        await Bus(address).start()


async def test_a_bus_whose_queue_is_full_holds_up_nobody(tmp_path: Path) -> None:
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "bus"))
        listener.listen(0)
        waiting = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(tmp_path / "bus"))
        connecting = asyncio.ensure_future(transport.connect(f"unix:path={tmp_path}/bus"))
        await turns(10)  # would be none while connect(2) waits
        assert not connecting.done()
        open_sockets.enter_context(listener.accept()[0])
        sock, _ = await asyncio.wait_for(connecting, PATIENCE)
        sock.close()


@pytest.mark.parametrize("accepts", [True, False])
async def test_a_bus_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepts: bool) -> None:
    monkeypatch.setattr(bus_module, "CALL_TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(tmp_path / "bus"))
        listener.listen(0)
        if not accepts:
            waiting.connect(str(tmp_path / "bus"))
        before = descriptors()
        with pytest.raises(BusLost, match="cannot be reached: it has not answered in 0.1 s"):
            await Bus(f"unix:path={tmp_path}/bus").start()
        assert not descriptors().items() - before.items()


async def test_a_full_queue_is_joined_and_not_asked_now_and_then(tmp_path: Path) -> None:
    """Linux gives a place to those who wait in connect(2): eight others who do take each that comes free."""
    path = str(tmp_path / "bus")
    over = threading.Event()

    def connect_again_and_again() -> None:
        while not over.is_set():
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(path)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        others = [threading.Thread(target=connect_again_and_again) for _ in range(8)]
        for other in others:
            other.start()
        joining = asyncio.create_task(transport.connect(f"unix:path={path}"))
        accepted = 0
        try:
            while not joining.done() and accepted < 200:
                listener.accept()[0].close()
                accepted += 1
                await asyncio.sleep(0.01)  # paces the bus that accepts
            assert joining.done()
        finally:
            over.set()
            while any(other.is_alive() for other in others) or not joining.done():
                with contextlib.suppress(BlockingIOError):
                    listener.setblocking(False)
                    listener.accept()[0].close()
                await asyncio.sleep(0)
            (await joining)[0].close()
