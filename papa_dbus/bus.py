"""A dbus-next connection that can be trusted, for the daemon and the client alike.

dbus-next's own writer takes a full socket for the death of the connection (its issue 153), its reader goes on for as
long as one peer sends, and a call on a lost connection never returns. Here writing waits, what is queued is bounded by
not reading on, calls are bounded in time, and a lost connection is made again.

With the other bus_*.py all that imports dbus-next: whoever needs its types takes them from here.
"""

import array
import asyncio
import contextlib
import itertools
import logging
import os
import socket
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dbus_next import Message, MessageFlag, MessageType, SignatureBodyMismatchError, Variant
from dbus_next.aio import MessageBus
from dbus_next.auth import AuthExternal

from papa_dbus import bridge, framing
from papa_dbus.bus_encoder import Entries, encode
from papa_dbus.bus_reader import MessageReader, Senseless, check_size, read_body
from papa_dbus.errors import InvalidArgs, Late, Limit, NoReply, PapaError, Unreachable, from_dbus

__all__ = [
    "Bus", "BusLost", "Entries", "Message", "MessageFlag", "MessageType", "SignatureBodyMismatchError", "Variant",
    "address_of", "check_size", "close_descriptors", "read_body",
]  # fmt: skip

log = logging.getLogger(__name__)

#: Bytes that may wait for the bus before senders are asked to wait, and before they may go on.
HIGH_WATER = 1024 * 1024
LOW_WATER = 256 * 1024
#: Bytes that may wait for the bus before no more output is added, and about as many that the socket holds: replies go
#: out behind it, and a busy dbus-daemon takes 2 KiB of a connection before it looks at the others.
BULK_WATER = 64 * 1024
_SOCKET_BUFFER = 64 * 1024
#: Bytes of one message: what the system bus takes, with some room (its max_message_size is 32 MiB, dbus-daemon(1)).
MAX_MESSAGE = 31 * 1024 * 1024
#: Seconds of reading before others have their turn. A call's body is not read meanwhile.
READING_TURN = 0.01
#: Seconds of it to wait for the bus to go on with a large message, of which a socket holds a part.
_REST_OF_MESSAGE = 0.002
_PIECES = 64  # messages in one system call
_REST = 0.002  # seconds between two writings of what is not urgent
_SMALL = 8192  # bytes of a message that is quicker copied than written in two pieces
_RECONNECT_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
CALL_TIMEOUT = 30.0
#: Bytes of a line while a bus lets us in.
_MAX_AUTH_LINE = 16 * 1024

_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"


class BusLost(Unreachable):
    """The message bus is not there."""

    code = "bus-lost"


def address_of(bus: str) -> str:
    """The address of the bus that is called ``system``, ``session`` or by its address.

    Raises BusLost where there is no session bus.
    """
    if bus == "system":
        return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", _SYSTEM_BUS)
    if bus != "session":
        return bus
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"unix:path={runtime}/bus"
    raise BusLost("there is no session bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set")


class _Writer:
    """Takes dbus-next's writer's place: writes at once what the socket takes, and waits for it with the rest."""

    def __init__(self, connection: "Connection") -> None:
        self.queued = 0
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket = connection._sock
        self._queue: deque[tuple[memoryview, Sequence[int], Callable[[], None] | None]] = deque()
        self._waiting = False
        self._due: asyncio.TimerHandle | None = None  # flush_due() will be called
        self._rested_at = 0.0  # the loop's time from which what is not urgent goes out at once

    def schedule_write(self, message: Message | None = None, future: "asyncio.Future[None] | None" = None) -> None:
        """What dbus-next itself calls, to send a message or to begin once the bus has said hello."""
        if message is not None:
            self.put(message)
        else:
            self.flush()
        if future is not None and not future.done():
            future.set_result(None)

    def put(
        self,
        message: Message,
        sent: Callable[[], None] | None = None,
        urgent: bool = True,
        most: int = MAX_MESSAGE,
    ) -> None:
        """Queue a message; ``sent`` is called once the socket has taken it, or cannot any more. Sets its ``size``.

        One that is not urgent goes with the next that is, or at the end of this turn of the loop, or where others went
        just before, after a rest: each writing wakes the bus.
        """
        body = encode(message.signature, message.body)
        header = framing.header(message.message_type.value, message.flags.value, len(body), message.serial, message)
        size = len(header) + len(body)
        if size > MAX_MESSAGE:
            raise Limit(f"the answer has {size} bytes, a message at most {MAX_MESSAGE}: ask for less, with patterns")
        if size > most:
            raise Limit(f"{size} bytes of answer find no room at the bus: what clients have asked for is not read")
        message.size = size
        fds = tuple(message.unix_fds)
        if size < _SMALL or not body:  # an empty piece would never be taken off the queue
            self._queue.append((memoryview(header + body), fds, sent))
        else:
            self._queue.append((memoryview(header), fds, None))
            self._queue.append((memoryview(body), (), sent))
        self.queued += size
        if self._waiting or not self._connection.unique_name:
            return
        if urgent:
            self.flush()
        elif self._due is None:
            self._due = self._loop.call_at(self._rested_at, self.flush_due)

    def flush_due(self) -> None:
        """Write what was not urgent, as far as the socket takes it."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._queue and not self._waiting:
            self._rested_at = self._loop.time() + _REST
            self.flush()

    def flush(self) -> None:
        """Write until the queue is empty or the socket full."""
        try:
            while self._queue:
                self._write_first()
        except (BlockingIOError, InterruptedError):
            self._wait(True)
            return
        except OSError as error:
            self.discard()
            # Not at once: dbus-next notes who waits for a call's reply only after it has been sent.
            self._loop.call_soon(self._connection._finalize, error)
        self._wait(False)

    def _write_first(self) -> None:
        data, fds, _ = self._queue[0]
        if fds:
            size = self._socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        elif len(self._queue) == 1:
            size = self._socket.send(data)
        else:
            without = itertools.takewhile(lambda entry: not entry[1], itertools.islice(self._queue, _PIECES))
            size = self._socket.sendmsg([piece for piece, _, _ in without])
        before = self.queued
        self.queued -= size
        self._take_off(size)
        if before >= LOW_WATER > self.queued:
            self._connection.drained()
        if before >= BULK_WATER > self.queued:
            self._connection.bus.on_room()

    def _take_off(self, size: int) -> None:
        """The socket has taken so many bytes of the queue's beginning."""
        while size:
            data, _, sent = self._queue[0]
            if size < len(data):
                self._queue[0] = (data[size:], (), sent)
                return
            self._queue.popleft()
            size -= len(data)
            if sent is not None:
                sent()

    def _wait(self, wait: bool) -> None:
        if wait == self._waiting:
            return
        self._waiting = wait
        if wait:
            self._loop.add_writer(self._socket.fileno(), self.flush)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def discard(self) -> None:
        """Let go of what can no longer be sent."""
        while self._queue:
            if (sent := self._queue.popleft()[2]) is not None:
                sent()
        self.queued = 0


def close_descriptors(message: Message | None, beginning: int = 0) -> None:
    """Close the descriptors that a message has brought, from the one with that place on."""
    for fd in message.unix_fds[beginning:] if message is not None else ():
        os.close(fd)


class _WithoutDescriptors(AuthExternal):  # type: ignore[misc]  # dbus-next has no types
    """Lets descriptors not be passed: a message that has some would be lost on the way, and the connection with it."""

    def _authentication_start(self, negotiate_unix_fd: bool = False) -> str:  # noqa: ARG002
        return str(super()._authentication_start(negotiate_unix_fd=False))


class Connection(MessageBus):  # type: ignore[misc]  # dbus-next has no types
    """One connection, from its making to its loss."""

    def __init__(self, address: str, bus: "Bus") -> None:
        self._bus = bus
        self._program: bridge.Program | None = None
        auth = _WithoutDescriptors() if bridge.is_program(address) else None
        # negotiate_unix_fd also has messages read from the socket itself: a buffer before it would hold some back.
        super().__init__(bus_address=address, auth=auth, negotiate_unix_fd=True)
        self._writer = _Writer(self)
        self._reading = True
        self._read_on: asyncio.Handle | None = None  # messages have come that wait for the next turn
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        _connections.add(self)

    def _setup_socket(self) -> None:
        transport, options = self._bus_address[0]
        if transport == bridge.TRANSPORT:
            self._program = bridge.Program(bridge.words_of(options))
            self._sock = self._program.socket
            self._stream = self._sock.makefile("rwb")
            self._fd = self._sock.fileno()
            return
        try:
            super()._setup_socket()
        except Exception:
            self._stream.close()
            self._sock.close()
            raise
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)

    async def _auth_readline(self) -> str:
        """A line of the bus's while it lets us in; dbus-next's own never comes back where the bus has gone."""
        line = b""
        while not line.endswith(b"\r\n") and len(line) < _MAX_AUTH_LINE:
            byte = await self._loop.sock_recv(self._sock, 1)
            if not byte:
                raise EOFError("it closed the connection")
            line += byte
        return line.decode(errors="replace").removesuffix("\r\n")

    def fileno(self) -> int:
        """The socket's descriptor."""
        return int(self._sock.fileno())

    @property
    def bus(self) -> "Bus":
        """Whose connection it is."""
        return self._bus

    @property
    def writer(self) -> _Writer:
        """What sends the messages."""
        return self._writer

    def _message_reader(self) -> None:
        """Read for a moment, so that others have their turn; nothing while the bus takes nothing of ours."""
        if self._read_on is not None:
            self._read_on.cancel()
            self._read_on = None
        try:
            end = self._loop.time() + READING_TURN
            while not self._disconnected and self._may_read():
                if not self._read_one() and not self._reader.wait_for_rest(_REST_OF_MESSAGE):
                    break
                if self._loop.time() >= end:
                    break
            if self._reading and not self._disconnected and self._reader.has_message:
                self._read_on = self._loop.call_soon(self._message_reader)
        except Exception as error:  # noqa: BLE001 (whatever it is, the stream cannot be trusted any more)
            self._finalize(error)
        self._bus.on_read()

    def _may_read(self) -> bool:
        if self._writer.queued >= HIGH_WATER:
            self._reading = False
            self._loop.remove_reader(self._fd)
        return self._reading

    def _read_one(self) -> bool:
        """Return whether there was a message, be it one that makes no sense."""
        try:
            message = self._reader.read_message()
        except Senseless as error:
            self._bus.warn("a message on the bus makes no sense and is left out: %s", error)
            return True
        if message is not None:
            self._on_message(message)
        return message is not None

    def _create_unmarshaller(self) -> MessageReader:
        self._reader = MessageReader(self._sock)
        return self._reader

    async def ask(self, call: Message) -> Message | None:
        """Send a call and return its reply, None if the connection is lost meanwhile.

        Nobody takes a reply that comes after the caller has given up: its descriptors are closed.
        """
        reply: asyncio.Future[Message | None] = self._loop.create_future()

        def take(message: Message | None, error: Exception | None) -> None:
            if reply.done():
                close_descriptors(message)
            elif error is not None:
                reply.set_exception(error)
            else:
                reply.set_result(message)

        # Not dbus-next's own, which looks at the callback's signature each time: that took longer than all the rest.
        call.serial = call.serial or self.next_serial()
        self._method_return_handlers[call.serial] = take
        self.send(call)
        try:
            return await reply
        except BaseException:
            self._method_return_handlers.pop(call.serial, None)
            if reply.done() and not reply.cancelled() and reply.exception() is None:  # it came just before
                close_descriptors(reply.result())
            raise

    def drained(self) -> None:
        """The queue has room again."""
        if not self._reading and not self._disconnected:
            self._reading = True
            self._loop.add_reader(self._fd, self._message_reader)
            self._read_on = self._loop.call_soon(self._message_reader)
        self._bus.on_drained()

    def _on_message(self, message: Message) -> None:
        try:
            if message.message_type in (MessageType.METHOD_RETURN, MessageType.ERROR):
                handler = self._method_return_handlers.pop(message.reply_serial, None)
                if handler is not None:
                    handler(message, None)
                    return
            if message.message_type is not MessageType.METHOD_RETURN:
                self._bus.hear(message)
            close_descriptors(message)  # nobody has taken them
        except Exception:
            log.exception("a message could not be handled")

    def _finalize(self, err: BaseException | None = None) -> None:
        if self._disconnected:
            return
        super()._finalize(err)
        with contextlib.suppress(asyncio.InvalidStateError):
            self._disconnect_future.exception()
        self._writer.discard()
        with contextlib.suppress(OSError):
            self._stream.close()
        self._sock.close()
        self._reader.close()
        if self._program is not None:
            self._program.end()
        if not self.lost.done():
            self.lost.set_result(err)


#: Those of this process.
_connections: "weakref.WeakSet[Connection]" = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: let go of its parent's connections, whose end the bus would not see while the child lives."""
    held = [fd for connection in list(_connections) if (fd := connection.fileno()) >= 0]
    if not held:
        return
    with open(os.devnull, "rb") as nothing:
        for fd in held:
            # Not closed: the number would be somebody else's by the time that its owner closes it.
            os.dup2(nothing.fileno(), fd, inheritable=False)


os.register_at_fork(after_in_child=_leave_to_parent)


class Bus:
    """A connection that is made again whenever it is lost.

    ``on_call`` gets every method call, its body unread (``read_body``), each of ``on_signal`` every signal, and
    ``on_read`` is called after each turn of reading. Each of ``on_connected`` is awaited after each connecting, in
    order; only then it is ``connected``. ``on_drained`` is called then, too, and ``on_lost``; ``on_room`` when more
    output may be sent. ``warn`` writes what anybody on the bus may cause. ``on_undelivered`` is told of errors that
    answer no call: the serial number of what was sent and not delivered, and the error's name.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.on_call: Callable[[Message], None] = lambda call: None
        self.on_signal: list[Callable[[Message], None]] = []
        self.on_connected: list[Callable[[], Awaitable[None]]] = []
        self.on_lost: Callable[[], None] = lambda: None
        self.on_read: Callable[[], None] = lambda: None
        self.on_drained: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None
        self.warn: Callable[..., None] = log.warning
        self.connected = False
        self.on_undelivered: Callable[[int, str], None] = lambda serial, error: None
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def described(self) -> str:
        """The bus in words, for messages."""
        if bridge.is_program(self.address):
            return f"the message bus behind '{bridge.command_of(self.address)}'"
        return f"the message bus at {self.address}"

    @property
    def passes_descriptors(self) -> bool:
        """Whether descriptors can be passed over it."""
        return not bridge.is_program(self.address)

    def fileno(self) -> int:
        """The connection's descriptor. Raises BusLost while there is none."""
        if self._connection is None:
            raise BusLost(f"{self.described} is not there")
        return self._connection.fileno()

    @property
    def unique_name(self) -> str | None:
        """The name that the bus has given this connection."""
        return self._connection.unique_name if self._connection is not None else None

    @property
    def has_room(self) -> bool:
        """Whether output may be sent now; else on_room or on_drained should be awaited."""
        return self.connected and self._connection is not None and self._connection.writer.queued < BULK_WATER

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that on_drained should be awaited."""
        return not self.connected or self._connection is None or self._connection.writer.queued >= HIGH_WATER

    async def start(self, wait: bool = False) -> None:
        """Connect, and stay connected. Where the bus is not there at first: wait for it, or raise BusLost."""
        try:
            await self._connect()
        except BusLost as error:
            if not wait:
                raise
            log.warning("%s; going on without it until it is there", error)
        self._keeper = asyncio.create_task(self._keep(), name="bus")

    async def _connect(self) -> None:
        connection: Connection | None = None
        try:
            connection = Connection(self.address, self)
            async with asyncio.timeout(bridge.PATIENCE if bridge.is_program(self.address) else CALL_TIMEOUT):
                await connection.connect()
            self._connection = connection
            for hook in self.on_connected:
                await hook()
            self.connected = not connection.lost.done()
            self.on_drained()
        except PapaError:
            self._drop(connection)
            raise
        except Exception as error:
            self._drop(connection)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BusLost(f"{self.described} cannot be reached: {reason or repr(error)}") from error
        except BaseException:  # the caller waits no longer
            self._drop(connection)
            raise

    def hear(self, message: Message) -> None:
        """Take what is not a reply, from the connection."""
        if message.message_type is MessageType.METHOD_CALL:
            self.on_call(message)
            return
        if message.message_type is MessageType.ERROR:
            self.on_undelivered(message.reply_serial, message.error_name)
            return
        for listener in self.on_signal:
            listener(message)

    def _drop(self, connection: Connection | None) -> None:
        self._connection = None
        self.connected = False
        if connection is not None:
            connection._finalize(None)

    async def _keep(self) -> None:
        while True:
            if self._connection is not None:
                error = await self._connection.lost
                self._connection = None
                self.connected = False
                log.warning("the message bus has gone (%s); connecting again", error or "closed")
                self.on_lost()
            await self._reconnect()
            log.info("the message bus is back")

    async def _reconnect(self) -> None:
        tries = 0
        while True:
            await asyncio.sleep(_RECONNECT_SECONDS[min(tries, len(_RECONNECT_SECONDS) - 1)])
            tries += 1
            try:
                await self._connect()
                return
            except PapaError as error:
                if tries == len(_RECONNECT_SECONDS):
                    log.warning("%s; trying again", error)

    def send(
        self,
        message: Message,
        sent: Callable[[], None] | None = None,
        *,
        urgent: bool = True,
        most: int = MAX_MESSAGE,
    ) -> int:
        """Send a message and return its serial number, or let it go if the connection is lost, as its receiver is: 0.

        Sets the message's ``size``, in bytes. Raises Limit if that is more than ``most``.

        One that is not ``urgent`` keeps its place, and goes with the next, or soon.
        """
        if self._connection is None or self._connection.lost.done():
            if sent is not None:
                sent()
            return 0
        message.serial = message.serial or self._connection.next_serial()
        self._connection.writer.put(message, sent, urgent, most)
        return int(message.serial)

    def flush(self) -> None:
        """Send now what was not urgent."""
        if self._connection is not None:
            self._connection.writer.flush_due()

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[Any] = (),
        timeout: float = CALL_TIMEOUT,  # noqa: ASYNC109 (a bound for the caller who has none)
        auto_start: bool = True,
    ) -> Message:
        """Call a method and return its reply, whose descriptors are the caller's.

        Raises the error's class, BusLost if there is no bus, NoReply if it goes or the bus says that the destination
        has gone, Late if ``timeout`` seconds pass, and InvalidArgs for what a message cannot hold.
        Without ``auto_start`` the bus does not start the destination for it.
        """
        if self._connection is None or self._connection.lost.done():
            raise BusLost(f"{self.described} is not there")
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=MessageFlag.NONE if auto_start else MessageFlag.NO_AUTOSTART,
        )
        try:
            async with asyncio.timeout(timeout):
                reply = await self._connection.ask(message)
        except ValueError as error:
            raise InvalidArgs(f"{member}: {error}") from None
        except TimeoutError:
            raise Late(f"{destination} did not answer {member} in {timeout:.3g} s") from None
        except (OSError, EOFError) as error:
            raise NoReply(f"the message bus went away during {member}: {error}") from None
        if reply is None:
            raise NoReply(f"the message bus went away during {member}")
        if reply.message_type is MessageType.ERROR:
            close_descriptors(reply)
            raise from_dbus(reply.error_name, str(reply.body[0]) if reply.body else reply.error_name)
        return reply

    async def close(self) -> None:
        """Send what is queued, as far as the bus takes it now, and disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._connection is not None:
            self._connection.writer.flush()
            self._drop(self._connection)
