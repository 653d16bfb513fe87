"""Messages from the bus: whole or in pieces, senseless ones between good ones, large calls of which the body waits."""

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from dbus_next import Message, MessageType

from papa_dbus import bus_reader
from papa_dbus.bus_reader import MessageReader, Senseless, read_body
from papa_dbus.errors import InvalidArgs, Limit


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, papads = socket.socketpair()
    papads.setblocking(False)
    with ours, papads:
        yield ours, papads


def marshalled(signature: str = "s", body: object = "x", **fields: Any) -> bytearray:
    message = Message(path="/a", interface="a.b", member="M", signature=signature, body=[body], serial=7, **fields)
    return bytearray(message._marshall())


def test_a_message_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    data = marshalled()
    reader = MessageReader(None, ends[1])
    for at in range(len(data) - 1):
        ends[0].sendall(data[at : at + 1])
        assert reader.read_message() is None
    ends[0].sendall(data[-1:])
    assert reader.read_message().body == ["x"]


@pytest.mark.parametrize("place", [1, 3], ids=["an unknown type", "another version"])
def test_a_senseless_message_is_left_out(ends: tuple[socket.socket, socket.socket], place: int) -> None:
    bad = marshalled()
    bad[place] = 99
    ends[0].sendall(bad + marshalled(body="next"))
    with pytest.raises(Senseless):
        MessageReader(None, ends[1]).read_message()
    assert MessageReader(None, ends[1]).read_message().body == ["next"]


def test_a_header_that_makes_no_sense(ends: tuple[socket.socket, socket.socket]) -> None:
    mistyped = marshalled()
    mistyped[mistyped.index(b"\3\1s\0") + 2] = ord("o")
    large = Message(path=f"/{'a' * 70_000}", member="M", serial=7)._marshall()
    for bad in (mistyped, large):
        ends[0].sendall(bad + marshalled(body="next"))
        with pytest.raises(Senseless, match=r"the field member is of type o|its header is too large"):
            MessageReader(None, ends[1]).read_message()
        assert MessageReader(None, ends[1]).read_message().body == ["next"]


def test_a_field_that_is_not_known_is_ignored(ends: tuple[socket.socket, socket.socket]) -> None:
    data = marshalled()
    assert data[32] == 2  # the interface, which a call can do without
    data[32] = 99
    ends[0].sendall(data)
    call = MessageReader(None, ends[1]).read_message()
    assert (call.path, call.interface, call.member, call.body) == ("/a", None, "M", ["x"])


@pytest.mark.parametrize("size", [1, 20_000])
def test_a_call_of_the_other_byte_order(ends: tuple[socket.socket, socket.socket], size: int) -> None:
    path, member = struct.pack(">B3sI7sx", 1, b"\1o\0", 6, b"/a/b/c"), struct.pack(">B3sI2s6x", 3, b"\1s\0", 1, b"M")
    fields = path + member + struct.pack(">B3sB2s", 8, b"\1g\0", 1, b"s\0")
    body = struct.pack(">I", size) + b"x" * size + b"\0"
    head = struct.pack(">4B3I", ord("B"), 1, 0, 1, len(body), 7, len(fields))
    ends[0].sendall(head + fields + bytes(-len(fields) % 8) + body)
    call = MessageReader(None, ends[1]).read_message()
    assert (call.path, call.member, call.signature, call.serial) == ("/a/b/c", "M", "s", 7)
    read_body(call)
    assert call.body == ["x" * size]


def test_what_is_no_message_at_all_is_the_connections_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ValueError, match="no D-Bus message"):
        MessageReader(None, ends[1]).read_message()


def test_a_large_calls_body_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(marshalled("as", ["x"] * 5000))
    call = MessageReader(None, ends[1]).read_message()
    assert (call.member, call.signature, call.body) == ("M", "as", [])
    read_body(call)
    assert call.body == [["x"] * 5000]
    read_body(call)  # once is enough
    ends[0].sendall(marshalled("as", ["x"] * 5000, message_type=MessageType.SIGNAL))
    assert MessageReader(None, ends[1]).read_message().body == [["x"] * 5000]


def test_a_body_that_is_too_large_or_senseless(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = marshalled("as", ["x"] * 5000)
    data[-4] = 0xFF  # no UTF-8
    ends[0].sendall(data)
    call = MessageReader(None, ends[1]).read_message()
    with pytest.raises(InvalidArgs, match="M cannot be understood"):
        read_body(call)
    monkeypatch.setattr(bus_reader, "MAX_CALL", 20_000)
    with pytest.raises(Limit, match="a call may have 20000"):
        read_body(call)
