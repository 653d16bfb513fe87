"""One message from the bus: its bytes first, what they say then, and a large call's body only when it is asked for.

dbus-next reads a message as it comes, and takes one that it does not understand for the end of the connection. Here a
message is whole before anything in it is looked at, so that such a one can be left out. And since a million strings
take a second to read, whose call it is can be found out before that is done.
"""

import io
import struct
from typing import Any, Final

from dbus_next import Message, MessageFlag, MessageType
from dbus_next._private.unmarshaller import MarshallerStreamEndError, Unmarshaller
from dbus_next.signature import SignatureTree

from papa_dbus import framing
from papa_dbus.errors import InvalidArgs, Limit

#: Bytes of a call: what the largest one takes (arguments and environment), and room. A larger one is never looked into.
MAX_CALL: Final = 4 * 1024 * 1024
#: Bytes of a call whose body is read at once.
_SMALL = 16 * 1024

_LITTLE_ENDIAN, _BIG_ENDIAN = ord("l"), ord("B")
_FIXED = 16  # bytes of a message's head whose places are fixed (D-Bus Specification, Message Format)
_BODY_LENGTH = slice(4, 8)
_MAX_MESSAGE = 128 * 1024 * 1024  # the same


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
            size = self._size()
            self.read(size, prefetch=True)
        except MarshallerStreamEndError:
            return None
        try:
            return self._understand(size)
        except Exception as error:
            raise Senseless(repr(error)) from error

    def _size(self) -> int:
        order = {_LITTLE_ENDIAN: "<", _BIG_ENDIAN: ">"}.get(self.buf[0])
        if order is None:
            raise ValueError("this is no D-Bus message")
        body, _, fields = struct.unpack_from(f"{order}III", self.buf, 4)
        size = _FIXED + fields + (-fields & 7) + int(body)
        if size > _MAX_MESSAGE:
            raise ValueError(f"a message of {size} bytes is none")
        return int(size)

    def _understand(self, size: int) -> Any:
        kind = self.buf[1]
        if kind == MessageType.METHOD_CALL.value and size > _SMALL:
            head = bytearray(self.buf)
            head[_BODY_LENGTH] = bytes(4)
            message = Unmarshaller(io.BytesIO(head)).unmarshall()
            message.unix_fds = self.unix_fds
            message.whole = self.buf
        else:
            message = self._understand_all()
            message.whole = None
        message.size = size
        return message

    def _understand_all(self) -> Any:
        found = framing.read_header(self.buf)
        if found is None:
            return self.unmarshall()
        kind, flags, serial, fields, self.offset = found
        self.endian = self.buf[0]
        fields.pop("unix_fds", None)
        signature = SignatureTree._get(fields.pop("signature", ""))
        return Message(
            message_type=MessageType(kind),
            flags=MessageFlag(flags),
            serial=serial,
            signature=signature,
            body=[self.read_argument(type_) for type_ in signature.types],
            unix_fds=self.unix_fds,
            **fields,
        )


def read_body(call: Message) -> None:
    """Read what has not been read of a call. Raises Limit or InvalidArgs."""
    if call.whole is None:
        return
    if call.size > MAX_CALL:
        raise Limit(f"{call.member} came with {call.size} bytes, and a call may have {MAX_CALL}")
    try:
        call.body = Unmarshaller(io.BytesIO(call.whole)).unmarshall().body
    except Exception as error:
        raise InvalidArgs(f"{call.member} cannot be understood") from error
    call.whole = None
