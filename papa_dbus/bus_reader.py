"""One message from the bus: its bytes first, what they say then, and a large call's body only when it is asked for.

dbus-next reads a message as it comes, and takes one that it does not understand for the end of the connection. Here a
message is whole before anything in it is looked at, so that such a one can be left out. And since a million strings
take a second to read, whose call it is can be found out before that is done.
"""

import functools
import struct
from typing import Any, Final

from dbus_next import Message, MessageFlag, MessageType
from dbus_next._private.unmarshaller import MarshallerStreamEndError, Unmarshaller

from papa_dbus import framing
from papa_dbus.bus_decoder import decode
from papa_dbus.bus_types import tree
from papa_dbus.errors import InvalidArgs, Limit

#: Bytes of a call: what the largest one takes (arguments and environment), and room. A larger one is never looked into.
MAX_CALL: Final = 4 * 1024 * 1024
#: Bytes of a call whose body is read at once.
_SMALL = 16 * 1024

_ORDERS: Final = {ord("l"): "<", ord("B"): ">"}
_FIXED = 16  # bytes of a message's head whose places are fixed (D-Bus Specification, Message Format)
_MAX_FIELDS = 64 * 1024  # bytes of the fields of a header: a path, and names of 255 each
_MAX_MESSAGE = 128 * 1024 * 1024  # the same specification


class Senseless(Exception):
    """A message came whole, and cannot be understood."""


class MessageReader(Unmarshaller):  # type: ignore[misc]  # dbus-next has no types
    """Reads one message."""

    def read_message(self) -> Any:
        """The message, or None until more has come.

        Raises Senseless where it is to be left out, OSError, EOFError or ValueError where the connection is lost.
        """
        try:
            self.offset = 0
            self.read(_FIXED, prefetch=True)
            size, fields = self._sizes()
            self.read(size, prefetch=True)
        except MarshallerStreamEndError:
            return None
        try:
            if fields > _MAX_FIELDS:
                raise ValueError("its header is too large")
            return self._understand(size)
        except Exception as error:
            raise Senseless(repr(error)[:200]) from error

    def _sizes(self) -> tuple[int, int]:
        """Bytes of the whole message, and of the fields of its header."""
        order = _ORDERS.get(self.buf[0])
        if order is None:
            raise ValueError("this is no D-Bus message")
        body, _, fields = struct.unpack_from(f"{order}III", self.buf, 4)
        size = _FIXED + fields + (-fields & 7) + int(body)
        if size > _MAX_MESSAGE:
            raise ValueError(f"a message of {size} bytes is none")
        return int(size), int(fields)

    def _understand(self, size: int) -> Any:
        kind, flags, serial, fields, begin = framing.read_header(self.buf) or _read_header(self.buf)
        fields.pop("unix_fds", None)
        signature = fields.pop("signature", "")
        waits = kind == MessageType.METHOD_CALL.value and size > _SMALL
        message = Message(
            message_type=MessageType(kind),
            flags=MessageFlag(flags),
            serial=serial,
            signature=tree(signature),
            body=[] if waits else _read_body(self.buf, begin, signature),
            unix_fds=self.unix_fds,
            **fields,
        )
        message.rest = functools.partial(_read_body, self.buf, begin, signature) if waits else None
        message.size = size
        return message


def _read_header(data: bytearray) -> tuple[int, int, int, dict[str, Any], int]:
    """One of the other byte order, or with a field that is not known, which the specification wants ignored."""
    kind, flags, version = data[1:4]
    if version != framing.VERSION:
        raise ValueError(f"this is version {version} of the protocol")
    order = _ORDERS[data[0]]
    _, serial, size = struct.unpack_from(f"{order}III", data, 4)
    [given] = decode("a(yv)", data, _FIXED - 4, order)
    fields = {}
    for code, variant in given:
        if code in framing.FIELDS:
            name, type_ = framing.FIELDS[code]
            if variant.signature != type_:
                raise ValueError(f"the field {name} is of type {variant.signature}")
            fields[name] = variant.value
    return kind, flags, serial, fields, _FIXED + size + (-size & 7)


def _read_body(data: bytearray, begin: int, signature: str) -> list[Any]:
    return decode(signature, data, begin, _ORDERS[data[0]])


def read_body(call: Message) -> None:
    """Read what has not been read of a call. Raises Limit or InvalidArgs."""
    if call.rest is None:
        return
    if call.size > MAX_CALL:
        raise Limit(f"{call.member} came with {call.size} bytes, and a call may have {MAX_CALL}")
    try:
        call.body = call.rest()
    except Exception as error:
        raise InvalidArgs(f"{call.member} cannot be understood") from error
    call.rest = None
