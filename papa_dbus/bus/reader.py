"""Messages from the bus, one after the other: their headers at once, a call's or signal's body when it is asked for.

dbus-next reads a message as it comes, and takes one that it does not understand for the end of the connection. Here a
message is whole before anything in it is looked at, so that such a one can be left out. And since a million strings
take a second to read, a call's body stays as it came until it is known that its sender may make that call, and a
signal's until somebody looks at it, who has seen whose it is: on a system bus anybody may send one to anybody.

Many small messages come with one system call. Linux ends what it gives at one time behind a message with descriptors,
and nothing is read here beyond a message that is half there: so descriptors are the last message's that has begun.
"""

import array
import functools
import os
import select
import socket
import struct
from typing import Any, Final

from dbus_next import Message, MessageFlag, MessageType

from papa_dbus.bus import header as bus_header
from papa_dbus.bus.decoder import ANYTHING, IN_CALLS, MAX_ELEMENTS, Allowed, TooManyElements, UnreadVariant, decode
from papa_dbus.bus.signatures import tree
from papa_dbus.errors import InvalidArgs, Limit

#: Bytes of a call: what the largest one takes (arguments and environment), and room. A larger one is never looked into.
MAX_CALL: Final = 4 * 1024 * 1024

_ORDERS: Final = {ord("l"): "<", ord("B"): ">"}
_FIXED = 16  # bytes of a message's head whose places are fixed (D-Bus Specification, Message Format)
_MAX_FIELDS = 64 * 1024  # bytes of the fields of a header: a path, and names of 255 each
_MAX_MESSAGE = 128 * 1024 * 1024  # the same specification
#: Bytes asked of the socket at once: many small messages, or a piece of a large one.
_MUCH, _MORE = 32 * 1024, 1024 * 1024
_ROOM_FOR_FDS: Final = socket.CMSG_SPACE(253 * array.array("i").itemsize)  # what Linux passes at once (SCM_MAX_FD)
_KINDS: Final = {kind.value: kind for kind in MessageType}
_FLAGS: Final = {number: MessageFlag(number) for number in range(8)}
#: Types of a header's fields; those that are not known are refused with the message if they have another.
_IN_HEADERS: Final = IN_CALLS
_NO_FIELDS: Final = dict.fromkeys(
    ("path", "interface", "member", "error_name", "reply_serial", "destination", "sender"), None
) | {"signature": ""}
#: Fields that a message must have.
_NEEDED: Final = {
    MessageType.METHOD_CALL: ("path", "member"),
    MessageType.METHOD_RETURN: ("reply_serial",),
    MessageType.ERROR: ("error_name", "reply_serial"),
    MessageType.SIGNAL: ("path", "interface", "member"),
}


class MalformedMessage(Exception):
    """A message came whole, and cannot be understood."""


class Signal(Message):  # type: ignore[misc]
    """A signal, whose body is read when it is looked at."""

    @functools.cached_property
    def body(self) -> list[Any]:
        """Its values. Raises MalformedMessage."""
        try:
            body: list[Any] = self.rest()
        except Exception as error:
            raise MalformedMessage(repr(error)[:200]) from error
        return body


class MessageReader:
    """Reads the messages of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._drained = False  # the socket had less than was asked for
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def read_message(self) -> Any:
        """Return the next message, or None until more has come. Makes one system call at most.

        Raises MalformedMessage if it is left out, OSError, EOFError or ValueError if the connection is lost.
        """
        size, fields = self._first()
        if not size and not self._drained and self._fill():
            size, fields = self._first()
        if not size:
            self._drained = False
            return None
        data = self._take(size)
        fds: list[int] = []
        if not self._buffer:
            fds, self._fds = self._fds, fds
        try:
            if fields > _MAX_FIELDS:
                raise ValueError("its header is too large")
            return _understand(data, fds)
        except Exception as error:
            _close(fds)
            raise MalformedMessage(repr(error)[:200]) from error

    @property
    def has_message(self) -> bool:
        """Return whether a whole message has come that has not been read."""
        return self._first()[0] > 0

    @property
    def is_half_read(self) -> bool:
        """Return whether a part of a message has come. A socket holds only a part of a large one."""
        return len(self._buffer) > 0

    def wait(self, seconds: float) -> bool:
        """Wait for more, holding up everything; return whether more has come."""
        return len(self._poll.poll(seconds * 1000)) > 0

    def close(self) -> None:
        """Close the descriptors of a message that will not come."""
        _close(self._fds)

    def _first(self) -> tuple[int, int]:
        """Return the bytes of the first message, 0 until all have come, and of its header's fields."""
        if len(self._buffer) < _FIXED:
            return 0, 0
        size, fields = _sizes(self._buffer)
        return (size, fields) if size <= len(self._buffer) else (0, 0)

    def _fill(self) -> bool:
        """Read on, but not beyond a message that is half there."""
        have = len(self._buffer)
        wanted = _MUCH
        if have:
            wanted = min(_sizes(self._buffer)[0] - have, _MORE) if have >= _FIXED else _FIXED - have
        try:
            data, ancillary, _, _ = self._socket.recvmsg(wanted, _ROOM_FOR_FDS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        if not data:
            raise EOFError("it closed the connection")
        for level, kind, fds in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds += array.array("i", fds)
        self._buffer += data
        self._drained = len(data) < wanted and not ancillary
        return True

    def _take(self, size: int) -> bytearray:
        """Take the bytes of the first message."""
        if len(self._buffer) == size:
            data, self._buffer = self._buffer, bytearray()
        else:
            data = self._buffer[:size]
            del self._buffer[:size]
        return data


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _sizes(data: bytearray) -> tuple[int, int]:
    """Return the bytes of the whole message, and of the fields of its header."""
    order = _ORDERS.get(data[0])
    if order is None:
        raise ValueError("this is not a D-Bus message")
    body, _, fields = struct.unpack_from(f"{order}III", data, 4)
    size = _FIXED + fields + (-fields & 7) + int(body)
    if size > _MAX_MESSAGE:
        raise ValueError(f"a message of {size} bytes is none")
    return int(size), int(fields)


def _understand(data: bytearray, fds: list[int]) -> Any:
    number, flags, serial, fields, begin = bus_header.read_header(data) or _read_header(data)
    fields.pop("unix_fds", None)
    signature = fields.get("signature", "")
    kind = _KINDS[number]
    for name in _NEEDED[kind]:
        if not fields.get(name):
            raise ValueError(f"it is a {kind.name} without {name}")
    # Not by its constructor, which validates once more what the bus has, and makes functions of any signature.
    is_signal = kind is MessageType.SIGNAL
    message = Message.__new__(Signal if is_signal else Message)
    message.__dict__ = {
        **_NO_FIELDS,
        **fields,
        "message_type": kind,
        "flags": _FLAGS[flags & 7],
        "serial": serial,
        "unix_fds": fds,
        "rest": None,
        "size": len(data),
    }
    if is_signal:
        message.rest = functools.partial(_read_body, data, begin, signature)
    elif kind is MessageType.METHOD_CALL:
        message.body = []
        message.rest = functools.partial(_read_body, data, begin, signature, IN_CALLS)
    else:
        message.signature_tree = tree(signature)
        message.body = _read_body(data, begin, signature)
    return message


def _read_header(data: bytearray) -> tuple[int, int, int, dict[str, Any], int]:
    """Read a header of the other byte order, or with a field that is not known, which is to be ignored."""
    kind, flags, version = data[1:4]
    if version != bus_header.VERSION:
        raise ValueError(f"this is version {version} of the protocol")
    order = _ORDERS[data[0]]
    _, serial, size = struct.unpack_from(f"{order}III", data, 4)
    [given] = decode("a(yv)", data, _FIXED - 4, order, _IN_HEADERS)
    fields = {}
    for code, variant in given:
        if code in bus_header.FIELDS:
            name, type_ = bus_header.FIELDS[code]
            if variant.signature != type_:
                raise ValueError(f"the field {name} is of type {variant.signature}")
            fields[name] = variant.value
    return kind, flags, serial, fields, _FIXED + size + (-size & 7)


def _read_body(data: bytearray, begin: int, signature: str, allowed: Allowed = ANYTHING) -> list[Any]:
    return decode(signature, data, begin, _ORDERS[data[0]], allowed)


def close_descriptors(message: Message | None, beginning: int = 0) -> None:
    """Close the descriptors that a message has brought, from the one with that place on."""
    for fd in message.unix_fds[beginning:] if message is not None else ():
        os.close(fd)


def check_size(call: Message) -> None:
    """Raise Limit for a call that is too large to be looked into."""
    if call.size > MAX_CALL:
        raise Limit(f"{call.member} came with {call.size} bytes, and a call may have {MAX_CALL}")


def read_body(call: Message) -> None:
    """Read what has not been read of a call, whose signature is one that is expected. Raises Limit or InvalidArgs."""
    if call.rest is None:
        return
    check_size(call)
    try:
        call.body = call.rest()
    except UnreadVariant as error:
        raise InvalidArgs(f"{call.member}: {error}") from None
    except TooManyElements:
        raise Limit(f"the arguments of {call.member} may have {MAX_ELEMENTS} elements together") from None
    except Exception as error:
        raise InvalidArgs(f"{call.member} cannot be understood") from error
    call.rest = None
