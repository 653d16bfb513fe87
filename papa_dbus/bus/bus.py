"""A message bus, for papad and its clients alike: calls, signals, and a connection that is made again when it is lost.

Calls are bounded in time; what waits to be sent is bounded by not reading on. Only this package imports dbus-next:
whoever needs its types takes them from here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dbus_next import Message, MessageFlag, MessageType, SignatureBodyMismatchError, Variant

from papa_dbus.bus import transport, unixexec
from papa_dbus.bus.address import BusLost, address_of
from papa_dbus.bus.connection import Connection
from papa_dbus.bus.driver import DRIVER, match_rule
from papa_dbus.bus.encoder import Entries
from papa_dbus.bus.reader import check_size, close_descriptors, read_body
from papa_dbus.bus.writer import BULK_WATER, HIGH_WATER, MAX_MESSAGE
from papa_dbus.errors import InvalidArgs, Late, NoReply, PapaError, from_dbus
from papa_dbus.names import BUS_NAME

__all__ = [
    "BULK_WATER", "CALL_TIMEOUT", "DRIVER", "HIGH_WATER", "MAX_MESSAGE", "Bus", "BusLost", "Entries", "Message",
    "MessageFlag", "MessageType", "SignatureBodyMismatchError", "Variant", "address_of", "check_size",
    "close_descriptors", "read_body",
]  # fmt: skip

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
CALL_TIMEOUT = 30.0


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
        """Return the bus in words, for messages."""
        if unixexec.is_program(self.address):
            return f"the message bus behind '{unixexec.command_of(self.address)}'"
        return f"the message bus at {self.address}"

    @property
    def passes_descriptors(self) -> bool:
        """Return whether descriptors can be passed over it."""
        return not unixexec.is_program(self.address)

    def fileno(self) -> int:
        """Return the connection's descriptor. Raises BusLost while there is none."""
        if self._connection is None:
            raise BusLost(f"{self.described} is not there")
        return self._connection.fileno()

    @property
    def unique_name(self) -> str | None:
        """Return the name that the bus has given this connection."""
        return self._connection.unique_name if self._connection is not None else None

    @property
    def has_room(self) -> bool:
        """Return whether output may be sent now; if not, wait for on_room or on_drained."""
        return self.connected and self._connection is not None and self._connection.writer.queued < BULK_WATER

    @property
    def congested(self) -> bool:
        """Return whether so much waits to be sent that callers should wait for on_drained."""
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
        seconds = unixexec.CONNECT_TIMEOUT if unixexec.is_program(self.address) else CALL_TIMEOUT
        try:
            async with asyncio.timeout(seconds):
                connection = Connection(*await transport.connect(self.address), self)
                await connection.open()
            self._connection = connection
            for hook in self.on_connected:
                await hook()
            self.connected = not connection.closed
            self.on_drained()
        except PapaError:
            self._drop(connection)
            raise
        except Exception as error:
            self._drop(connection)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if isinstance(error, TimeoutError) and not reason:
                reason = f"it has not answered in {seconds:.3g} s"
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
            if message.sender == DRIVER[0]:
                self.on_undelivered(message.reply_serial, message.error_name)
            return
        for listener in self.on_signal:
            listener(message)

    def _drop(self, connection: Connection | None) -> None:
        self._connection = None
        self.connected = False
        if connection is not None:
            connection.lose()

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
        if self._connection is None or self._connection.closed:
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
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=MessageFlag.NONE if auto_start else MessageFlag.NO_AUTOSTART,
        )
        reply = await self._ask(message, timeout)
        if reply.message_type is MessageType.ERROR:
            close_descriptors(reply)
            text = str(reply.body[0]) if reply.body else reply.error_name
            raise from_dbus(reply.error_name, text, destination == BUS_NAME)
        return reply

    async def _ask(self, call: Message, timeout: float) -> Message:  # noqa: ASYNC109 (likewise)
        if self._connection is None or self._connection.closed:
            raise BusLost(f"{self.described} is not there")
        try:
            async with asyncio.timeout(timeout):
                reply = await self._connection.ask(call)
        except ValueError as error:
            raise InvalidArgs(f"{call.member}: {error}") from None
        except TimeoutError:
            raise Late(f"{call.destination} did not answer {call.member} in {timeout:.3g} s") from None
        except (OSError, EOFError) as error:
            raise NoReply(f"the message bus went away during {call.member}: {error}") from None
        if reply is None:
            raise NoReply(f"the message bus went away during {call.member}")
        return reply

    async def add_match(self, **fields: str) -> None:
        """Have the bus send on the signals with these fields, as match_rule() has them.

        It holds until the connection is lost. Raises as call() does.
        """
        await self.call(*DRIVER, "AddMatch", "s", [match_rule(**fields)])

    async def close(self) -> None:
        """Send what is queued, as far as the bus takes it now, and disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._connection is not None:
            self._connection.writer.flush()
            self._drop(self._connection)
