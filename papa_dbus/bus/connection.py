"""One connection to a message bus, from its making to its loss.

It has a socket that the bus has let in, a reader and a writer of messages, and the calls that wait for a reply. Of
dbus-next it uses the messages and their types alone: dbus-next's own connection reads on for as long as one peer sends,
and a call on it never returns if it is lost.
"""

import asyncio
import logging
import os
import socket
import weakref
from collections.abc import Callable
from typing import Protocol

from dbus_next import Message, MessageType
from dbus_next.errors import AuthError

from papa_dbus.bus import transport, unixexec
from papa_dbus.bus.driver import DRIVER
from papa_dbus.bus.reader import MalformedMessage, MessageReader, close_descriptors
from papa_dbus.bus.replies import Replies
from papa_dbus.bus.writer import HIGH_WATER, Writer

log = logging.getLogger(__name__)

#: Seconds of reading before others have their turn. A call's body is not read meanwhile.
READING_TURN = 0.01
#: Seconds of it to wait for the bus to go on with a large message, of which a socket holds a part.
_REST_OF_MESSAGE = 0.002
#: Messages that make it likely that the bus has more, and seconds of it to wait for those. A socket holds some 70 small
#: ones, and dbus-broker sends 16 at a time: with that much in each turn of a busy loop, a call waits for many turns
#: behind what others have sent before it.
_MANY, _FURTHER_MESSAGES = 32, 0.001  # poll(2) counts in milliseconds
#: Messages that make it worth to wait once more: fewer come from a bus that is slower than papad, as dbus-daemon is.
_WORTH_WAITING = 4
_MAX_SERIAL = 0xFFFF_FFFF
_REPLIES = (MessageType.METHOD_RETURN, MessageType.ERROR)


class Owner(Protocol):
    """The object that a connection belongs to, as far as the connection calls it."""

    on_read: Callable[[], None]  # after each turn of reading
    on_drained: Callable[[], None]  # what waits to be sent is little enough that calls are read again
    on_room: Callable[[], None]  # it is little enough for more output
    warn: Callable[..., None]  # writes to the log what anybody on the bus may cause

    def hear(self, message: Message) -> None:
        """Take a call, a signal, or an error that answers no call."""


class Connection:
    """A connection to the bus at the other end of a socket, with the program that is there, as connect() gives them.

    ``lost`` is done once the connection is, with the error that ended it, None if ``lose`` was called without one.
    """

    def __init__(self, sock: socket.socket, program: unixexec.Program | None, owner: Owner) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[BaseException | None] = self._loop.create_future()
        self.closed = False
        self.unique_name: str | None = None  # until open() has returned
        self.socket, self._program = sock, program
        self._fd = sock.fileno()
        self._owner = owner
        self._serial = 0
        self._reader = MessageReader(self.socket)
        self._replies = Replies()
        self.writer = Writer(self.socket, self._resume, self._tell_room, self.lose)
        self._reading = True  # else it waits until less is queued
        self._read_on: asyncio.Handle | None = None  # messages have come that wait for the next turn
        _connections.add(self)

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once it is closed."""
        return self.socket.fileno()

    async def open(self) -> None:
        """Authenticate, and have the bus give a unique name.

        Raises AuthError if the bus refuses, OSError or EOFError if it goes.
        """
        await transport.authenticate(self.socket, passes_descriptors=self._program is None)
        self._loop.add_reader(self._fd, self.read)
        destination, path, interface = DRIVER
        reply = await self.ask(Message(destination=destination, path=path, interface=interface, member="Hello"))
        if reply is None:
            raise EOFError("the connection was closed")
        if reply.message_type is MessageType.ERROR:
            raise AuthError(f"{reply.error_name}: {reply.body[0] if reply.body else 'no reason given'}")
        self.unique_name = reply.body[0]

    def next_serial(self) -> int:
        """Return a serial number for a message: from 1 on, 32 bits."""
        self._serial = self._serial % _MAX_SERIAL + 1
        return self._serial

    async def ask(self, call: Message) -> Message | None:
        """Send a call and return its reply, None if the connection is closed meanwhile.

        Raises what the connection is lost by, and as Writer.put() does.
        """
        call.serial = call.serial or self.next_serial()
        reply = self._replies.expect(call.serial, call.destination)
        try:
            self.writer.put(call)
            return await reply
        except BaseException:
            self._replies.give_up(call.serial, reply)
            raise

    def read(self) -> None:
        """Read for a moment, so that others have their turn; nothing while the bus takes nothing of ours."""
        if self._read_on is not None:
            self._read_on.cancel()
            self._read_on = None
        try:
            end = self._loop.time() + READING_TURN
            messages, many = 0, _MANY
            while self._may_read():
                if self._read_one():
                    messages += 1
                elif self._reader.is_half_read:
                    if not self._reader.wait(_REST_OF_MESSAGE):
                        break
                elif messages >= many and self._reader.wait(_FURTHER_MESSAGES):
                    messages, many = 0, _WORTH_WAITING
                else:
                    break
                if self._loop.time() >= end:
                    break
            if self._reading and self._reader.has_message:
                self._read_on = self._loop.call_soon(self.read)
        except Exception as error:  # noqa: BLE001 (whatever it is, the stream cannot be trusted any more)
            self.lose(error)
        self._owner.on_read()

    def _may_read(self) -> bool:
        if self.writer.queued >= HIGH_WATER:
            self._reading = False
            self._loop.remove_reader(self._fd)
        return self._reading

    def _read_one(self) -> bool:
        """Return whether there was a message, be it one that makes no sense."""
        try:
            message = self._reader.read_message()
            if message is not None:
                self._dispatch(message)
        except MalformedMessage as error:
            self._owner.warn("a message on the bus makes no sense and is left out: %s", error)
            return True
        return message is not None

    def _dispatch(self, message: Message) -> None:
        try:
            if message.message_type in _REPLIES and self._replies.deliver(message):
                return
            if message.message_type is not MessageType.METHOD_RETURN:
                self._owner.hear(message)
        except MalformedMessage:
            close_descriptors(message)
            raise
        except Exception:
            log.exception("a message could not be handled")
        close_descriptors(message)  # nobody has taken them

    def _resume(self) -> None:
        """Read on: the queue has room again."""
        if not self._reading and not self.closed:
            self._reading = True
            self._loop.add_reader(self._fd, self.read)
            self._read_on = self._loop.call_soon(self.read)
        self._owner.on_drained()

    def _tell_room(self) -> None:
        self._owner.on_room()

    def lose(self, error: BaseException | None = None) -> None:
        """Close it, if it is not closed yet. The calls that wait raise the error, or return None without one."""
        if self.closed:
            return
        self.closed = True
        if not self.lost.done():  # it is cancelled with the task that awaits it
            self.lost.set_result(error)
        self._reading = False
        if self._read_on is not None:
            self._read_on.cancel()
            self._read_on = None
        self._loop.remove_reader(self._fd)
        self._replies.fail(error)
        self.writer.close()
        self.socket.close()
        self._reader.close()
        if self._program is not None:
            self._program.end()


#: Those of this process.
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Let go, in a forked child, of its parent's connections: the bus would not see their end while the child lives."""
    held = [fd for connection in list(_connections) if (fd := connection.fileno()) >= 0]
    if not held:
        return
    with open(os.devnull, "rb") as nothing:
        for fd in held:
            # Not closed: the number would be somebody else's by the time that its owner closes it.
            os.dup2(nothing.fileno(), fd, inheritable=False)


os.register_at_fork(after_in_child=_leave_to_parent)
