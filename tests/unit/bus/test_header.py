"""The header of a D-Bus message, held against dbus-next's own marshaller."""

from typing import Any

import pytest
from dbus_next import Message, MessageFlag, MessageType

from papa_dbus.bus import header as bus_header
from papa_dbus.bus.encoder import encode
from tests.dbus_messages import DbusNextSender, as_bytes

CALL: dict[str, Any] = {"path": "/a/b", "interface": "a.b", "member": "Do", "destination": "org.papa.Kernel"}
MESSAGES: list[dict[str, Any]] = [
    {**CALL, "signature": "ss", "body": ["name", "ü"]},
    {**CALL, "flags": MessageFlag.NO_REPLY_EXPECTED},
    {"message_type": MessageType.METHOD_RETURN, "reply_serial": 9, "destination": ":1.7"},
    {"message_type": MessageType.METHOD_RETURN, "reply_serial": 9, "destination": ":1.77", "unix_fds": [1, 2]},
    {"message_type": MessageType.ERROR, "error_name": "a.b.C", "reply_serial": 2**32 - 1, "destination": ":1.7"},
    {"message_type": MessageType.SIGNAL, "path": "/", "interface": "a.b", "member": "Seen"},
]


@pytest.mark.parametrize("fields", MESSAGES)
def test_a_header_says_what_dbus_next_would_say(dbus_next: DbusNextSender, fields: dict[str, Any]) -> None:
    message = Message(**{"serial": 7, "flags": MessageFlag.NONE, **fields})
    body = bytes(encode(message.signature, message.body))
    own = bytes(as_bytes(message))
    other = dbus_next.sent(message)
    assert len(own) == len(other)
    read, expected = bus_header.read_header(own), bus_header.read_header(other)
    assert read is not None
    assert read == expected
    kind, flags, serial, found, begin = read
    assert (MessageType(kind), MessageFlag(flags), serial) == (message.message_type, message.flags, 7)
    assert own[begin:] == body
    names = ("path", "interface", "member", "error_name", "reply_serial", "destination", "signature")
    assert found == {
        **{name: value for name in names if (value := getattr(message, name))},
        **({"unix_fds": 2} if message.unix_fds else {}),
    }


def test_an_unusual_header_is_read_field_by_field(dbus_next: DbusNextSender) -> None:
    usual = dbus_next.sent(Message(**CALL, serial=1))
    assert bus_header.read_header(usual) is not None
    assert bus_header.read_header(b"B" + usual[1:]) is None
    assert bus_header.read_header(usual[:16] + b"\x63" + usual[17:]) is None  # a field that is not known yet
