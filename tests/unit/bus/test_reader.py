"""Messages from the bus: whole or in pieces, malformed ones between good ones, calls of which the body waits."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dbus_next import Message, MessageType, Variant

from papa_dbus.bus import decoder
from papa_dbus.bus import reader as bus_reader
from papa_dbus.bus.reader import MalformedMessage, MessageReader, read_body
from papa_dbus.errors import InvalidArgs, Limit
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_OPTIONS, WATCH_OPTIONS, Option
from tests.dbus_messages import as_bytes


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, papads = socket.socketpair()
    papads.setblocking(False)
    with ours, papads:
        yield ours, papads


def marshalled(signature: str = "s", body: object = "x", **fields: Any) -> bytearray:
    message = Message(path="/a", interface="a.b", member="M", signature=signature, body=[body], serial=7, **fields)
    return as_bytes(message)


def read_whole(reader: MessageReader) -> Any:
    """Read on until a message is whole; all of it has been sent."""
    while (message := reader.read_message()) is None:
        pass
    return message


def body_of(call: Any) -> Any:
    read_body(call)
    return call.body


def test_a_message_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    data = marshalled()
    reader = MessageReader(ends[1])
    for at in range(len(data) - 1):
        ends[0].sendall(data[at : at + 1])
        assert reader.read_message() is None
    ends[0].sendall(data[-1:])
    assert body_of(reader.read_message()) == ["x"]


@pytest.mark.parametrize("place", [1, 3], ids=["an unknown type", "another version"])
def test_a_malformed_message_is_left_out(ends: tuple[socket.socket, socket.socket], place: int) -> None:
    bad = marshalled()
    bad[place] = 99
    ends[0].sendall(bad + marshalled(body="next"))
    reader = MessageReader(ends[1])
    with pytest.raises(MalformedMessage):
        reader.read_message()
    assert body_of(reader.read_message()) == ["next"]


def test_a_header_that_makes_no_sense(ends: tuple[socket.socket, socket.socket]) -> None:
    mistyped = marshalled()
    mistyped[mistyped.index(b"\3\1s\0") + 2] = ord("o")
    large = as_bytes(Message(path=f"/{'a' * 70_000}", member="M", serial=7))
    reader = MessageReader(ends[1])
    for bad in (mistyped, large):
        ends[0].sendall(bad + marshalled(body="next"))
        with pytest.raises(MalformedMessage, match=r"the field member is of type o|its header is too large"):
            read_whole(reader)
        assert body_of(read_whole(reader)) == ["next"]


def test_a_field_that_is_not_known_is_ignored(ends: tuple[socket.socket, socket.socket]) -> None:
    data = marshalled()
    assert data[32] == 2  # the interface, which a call can do without
    data[32] = 99
    ends[0].sendall(data)
    call = read_whole(MessageReader(ends[1]))
    assert (call.path, call.interface, call.member, body_of(call)) == ("/a", None, "M", ["x"])


@pytest.mark.parametrize("size", [1, 20_000])
def test_a_call_of_the_other_byte_order(ends: tuple[socket.socket, socket.socket], size: int) -> None:
    path, member = struct.pack(">B3sI7sx", 1, b"\1o\0", 6, b"/a/b/c"), struct.pack(">B3sI2s6x", 3, b"\1s\0", 1, b"M")
    fields = path + member + struct.pack(">B3sB2s", 8, b"\1g\0", 1, b"s\0")
    body = struct.pack(">I", size) + b"x" * size + b"\0"
    head = struct.pack(">4B3I", ord("B"), 1, 0, 1, len(body), 7, len(fields))
    ends[0].sendall(head + fields + bytes(-len(fields) % 8) + body)
    call = read_whole(MessageReader(ends[1]))
    assert (call.path, call.member, call.signature, call.serial) == ("/a/b/c", "M", "s", 7)
    read_body(call)
    assert call.body == ["x" * size]


def test_what_is_no_message_at_all_is_the_connections_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ValueError, match="not a D-Bus message"):
        MessageReader(ends[1]).read_message()


def test_a_calls_body_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(marshalled("as", ["x"] * 5000))
    reader = MessageReader(ends[1])
    call = read_whole(reader)
    assert (call.member, call.signature, call.body) == ("M", "as", [])
    read_body(call)
    assert call.body == [["x"] * 5000]
    read_body(call)  # once is enough


def test_a_signals_body_waits_until_it_is_looked_at(ends: tuple[socket.socket, socket.socket]) -> None:
    """Anybody on the bus may send millions of strings to anybody."""
    reader = MessageReader(ends[1])
    data = marshalled("as", ["x"] * 5000, message_type=MessageType.SIGNAL)
    ends[0].sendall(data)
    signal = read_whole(reader)
    assert "body" not in vars(signal)
    assert signal.body == [["x"] * 5000]
    data[-4] = 0xFF  # no UTF-8
    ends[0].sendall(data)
    signal = read_whole(reader)
    with pytest.raises(MalformedMessage):
        assert signal.body


def test_a_body_that_is_too_large_or_malformed(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = marshalled("as", ["x"] * 5000)
    data[-4] = 0xFF  # no UTF-8
    ends[0].sendall(data)
    call = read_whole(MessageReader(ends[1]))
    with pytest.raises(InvalidArgs, match="M cannot be understood"):
        read_body(call)
    monkeypatch.setattr(bus_reader, "MAX_CALL", 20_000)
    with pytest.raises(Limit, match="a call may have 20000"):
        read_body(call)


def test_descriptors_are_those_of_the_message_that_they_came_with(ends: tuple[socket.socket, socket.socket]) -> None:
    reader = MessageReader(ends[1])
    malformed = marshalled()
    malformed[3] = 99
    with open(os.devnull) as one, open(os.devnull) as two:
        ends[0].sendall(marshalled())
        socket.send_fds(ends[0], [malformed], [one.fileno()])
        socket.send_fds(ends[0], [marshalled(body="x" * 100_000)], [one.fileno(), two.fileno()])
        ends[0].sendall(marshalled())
    assert read_whole(reader).unix_fds == []
    with pytest.raises(MalformedMessage):
        read_whole(reader)
    fds = read_whole(reader).unix_fds
    assert len(fds) == 2
    assert not any(map(os.get_inheritable, fds))
    assert read_whole(reader).unix_fds == []
    for fd in fds:
        os.close(fd)


def test_a_variant_that_no_call_takes_is_not_read(ends: tuple[socket.socket, socket.socket]) -> None:
    reader = MessageReader(ends[1])
    for type_, value in (("a(ii)", [[1, 2]]), ("v", Variant("v", Variant("u", 1)))):
        ends[0].sendall(marshalled("a{sv}", {"env": Variant(type_, value)}))
        with pytest.raises(InvalidArgs, match=r"M: option 'env': it has type (a\(ii\)|v), which nothing has"):
            read_body(read_whole(reader))
    ends[0].sendall(marshalled("a{sv}", {"uid": Variant("v", Variant("u", 1))}))
    assert body_of(read_whole(reader)) == [{"uid": Variant("v", Variant("u", 1))}]


def test_a_call_of_too_many_elements_is_not_read(ends: tuple[socket.socket, socket.socket]) -> None:
    reader = MessageReader(ends[1])
    half = decoder.MAX_ELEMENTS // 2
    for body, error in (
        ({"sockets": [""] * half, "env": [""] * (half - 2)}, None),
        ({"a": [""] * (2 * half + 1)}, Limit),
    ):
        data = marshalled("a{sv}", {name: Variant("as", values) for name, values in body.items()})
        threading.Thread(target=ends[0].sendall, args=(data,)).start()
        call = read_whole(reader)
        if error is None:
            assert list(body_of(call)[0]) == list(body)
        else:
            with pytest.raises(error, match="16384 elements"):
                read_body(call)


@pytest.mark.parametrize("table", [SOCKET_OPTIONS, PROCESS_OPTIONS, WATCH_OPTIONS])
def test_every_option_can_be_read(table: dict[str, Option]) -> None:
    assert {option.signature for option in table.values()} <= (decoder.IN_CALLS.variants or set())
