"""D-Bus values: the same bytes as dbus-next's, and whatever is in a message, nothing is read that is not of it."""

import contextlib
import gc
import socket
import struct
from typing import Any

import pytest
from dbus_next import Message, MessageType, SignatureBodyMismatchError, Variant
from dbus_next.signature import SignatureTree
from hypothesis import given
from hypothesis import strategies as st

from papa_dbus.bus import decoder, signatures
from papa_dbus.bus import header as bus_header
from papa_dbus.bus.decoder import decode
from papa_dbus.bus.encoder import encode
from papa_dbus.bus.reader import MalformedMessage, MessageReader, read_body
from papa_dbus.errors import InvalidArgs
from tests.dbus_messages import DbusNextSender, as_bytes
from tests.support import PATIENCE

FIELDS: dict[str, Any] = {"path": "/a", "interface": "a.b", "member": "M", "serial": 7}
SIGNED = {"n": 16, "i": 32, "x": 64}
UNSIGNED = {"y": 8, "q": 16, "u": 32, "t": 64, "h": 32}
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "d": st.floats(allow_nan=False),
    "b": st.booleans(),
    "s": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    "o": st.sampled_from(["/", "/a", "/org/papa/Kernel"]),
    "g": st.sampled_from(["", "s", "a{sv}"]),
    **{type_: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for type_, bits in SIGNED.items()},
    **{type_: st.integers(0, 2**bits - 1) for type_, bits in UNSIGNED.items()},
}


def array_or_struct(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        inner.map("a{}".format),
        st.lists(inner, min_size=1, max_size=3).map(lambda types: f"({''.join(types)})"),
        st.tuples(st.sampled_from("ynqiuxtdbsog"), inner).map(lambda entry: f"a{{{''.join(entry)}}}"),
    )


SIGNATURES = st.recursive(st.sampled_from("ynqiuxthdbsogv"), array_or_struct, max_leaves=5)


def values_of(type_: Any) -> st.SearchStrategy[Any]:
    match type_.token:
        case "a" if type_.children[0].token == "y":
            return st.binary(max_size=9)
        case "a" if type_.children[0].token == "{":
            name, value = type_.children[0].children
            return st.dictionaries(values_of(name), values_of(value), max_size=3)
        case "a":
            return st.lists(values_of(type_.children[0]), max_size=3)
        case "(":
            return st.tuples(*map(values_of, type_.children)).map(list)
        case "v":
            return st.sampled_from(["y", "t", "s", "as", "(yt)", "a{sv}"]).flatmap(variants_of)
        case plain:
            return PLAIN[plain]


def variants_of(signature: str) -> st.SearchStrategy[Variant]:
    return values_of(SignatureTree(signature).types[0]).map(lambda value: Variant(signature, value))


def body_of(types: list[str]) -> st.SearchStrategy[tuple[str, list[Any]]]:
    signature = "".join(types)
    values = st.tuples(*map(values_of, SignatureTree(signature).types)).map(list)
    return values.map(lambda body: (signature, body))


def kept_trees() -> int:
    gc.collect()
    return sum(type(each) is SignatureTree for each in gc.get_objects())


BODIES = st.lists(SIGNATURES, max_size=4).flatmap(body_of)


@given(BODIES)
def test_the_bytes_are_dbus_nexts(dbus_next: DbusNextSender, given_body: tuple[str, list[Any]]) -> None:
    signature, body = given_body
    data = encode(signature, body)
    message = Message(**FIELDS, message_type=MessageType.SIGNAL, signature=signature, body=body)
    sent = dbus_next.sent(message)
    header = bus_header.read_header(sent)
    assert header is not None
    assert data == sent[header[-1] :]
    assert decode(signature, data, 0) == body


@given(BODIES, st.data())
def test_a_part_is_never_taken_for_the_whole(given_body: tuple[str, list[Any]], data: st.DataObject) -> None:
    signature, body = given_body
    written = encode(signature, body)
    if not written:
        return
    with pytest.raises((ValueError, IndexError, struct.error)):
        decode(signature, written[: data.draw(st.integers(0, len(written) - 1))], 0)


@given(st.integers(16, 200), st.integers(0, 255))
def test_whatever_a_message_says_the_next_one_is_read(place: int, byte: int) -> None:
    body = [{"a": Variant("as", ["b"]), "c": Variant("(tay)", [1, b"d"])}]
    bad = as_bytes(Message(**FIELDS, signature="a{sv}", body=body))
    bad[min(place, len(bad) - 1)] = byte
    ours, papads = socket.socketpair()
    with ours, papads:
        papads.setblocking(False)
        ours.sendall(bad + as_bytes(Message(**FIELDS, signature="s", body=["next"])))
        reader = MessageReader(papads)
        with contextlib.suppress(MalformedMessage, InvalidArgs):
            call = reader.read_message()
            assert call is not None
            read_body(call)
        call = reader.read_message()
        read_body(call)
        assert call.body == ["next"]


def test_the_rest_of_a_large_message_is_waited_for() -> None:
    large = as_bytes(Message(**FIELDS, signature="s", body=["x" * 1000]))
    ours, papads = socket.socketpair()
    with ours, papads:
        papads.setblocking(False)
        reader = MessageReader(papads)
        assert not reader.is_half_read
        ours.sendall(large[:500])
        assert reader.read_message() is None
        assert reader.is_half_read
        assert not reader.wait(0.001)
        ours.sendall(large[500:])
        assert reader.wait(PATIENCE)
        assert reader.read_message().size == len(large)
        assert not reader.is_half_read
        ours.sendall(large[:500])
        assert reader.read_message() is None
        ours.close()
        assert reader.wait(PATIENCE), "the end of the connection is read as well"
        with pytest.raises(EOFError):
            reader.read_message()


def test_the_other_byte_order() -> None:
    body = struct.pack(">I3sxI", 2, b"ab", 7) + struct.pack(">IQ", 8, 9) + struct.pack(">I", 1)
    assert decode("suatb", body, 0, ">") == ["ab", 7, [9], True]
    variant = b"\1q\0" + b"\0" + struct.pack(">H", 5)
    assert decode("v", variant, 0, ">") == [Variant("q", 5)]


@pytest.mark.parametrize(
    ("signature", "data"),
    [
        ("ay", struct.pack("<I", 2) + b"a"),
        ("as", struct.pack("<II", 4, 3) + b"abc\0"),
        ("s", struct.pack("<I", 3) + b"abc"),
        ("s", struct.pack("<I", 1) + b"\xff\0"),
        ("g", b"\2s"),
        ("v", b"\2ss\0"),
        ("v", b"\1(\0\0"),
    ],
    ids=["bytes", "an element", "a text", "no UTF-8", "a signature", "two types", "half a type"],
)
def test_lengths_that_lie(signature: str, data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever it is: the message makes no sense)
        decode(signature, data, 0)


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        *(("s", 5), ("s", None), ("u", "5"), ("y", 256), ("b", 1), ("o", "no path"), ("g", 1)),
        *(("as", "text"), ("ay", "text"), ("as", ["a", 1]), ("(ss)", ["a"]), ("(ss)", ("a", "b")), ("a{sv}", {"a": 1})),
        *(("a{ss}", {"a": 1}), ("a{ss}", []), ("v", "a")),
    ],
)
def test_a_value_of_another_type(signature: str, value: object) -> None:
    with pytest.raises(SignatureBodyMismatchError) as ours:
        encode(signature, [value])
    with pytest.raises(SignatureBodyMismatchError) as theirs:
        SignatureTree(signature).verify([value])
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_cannot_be_sent(text: str) -> None:
    for signature, value in (("s", text), ("as", [text]), ("a{ss}", {text: "a"}), ("v", Variant("s", text))):
        with pytest.raises(ValueError, match="NUL byte|surrogate"):
            encode(signature, [value])


def test_too_few_values_and_too_many() -> None:
    for body in ([], ["a"], ["a", "b", "c"]):
        with pytest.raises(SignatureBodyMismatchError, match="wrong number"):
            encode("ss", body)


def test_signatures_that_clients_make_up_are_not_kept() -> None:
    before = kept_trees()
    ours, papads = socket.socketpair()
    with ours, papads:
        papads.setblocking(False)
        reader = MessageReader(papads)
        for n in range(1000):
            made_up = f"({'y' * (n % 50 + 1)}{'s' * (n // 50 + 1)})"
            values = [[0] * (n % 50 + 1) + ["x"] * (n // 50 + 1)]
            variant = Variant(SignatureTree(made_up), *values)
            message = Message(
                **FIELDS,
                message_type=MessageType.SIGNAL,
                signature=SignatureTree(f"v{made_up}"),
                body=[variant, *values],
            )
            ours.sendall(as_bytes(message))
            while (read := reader.read_message()) is None:
                pass
            assert read.body == message.body
    assert kept_trees() < before + 2 * signatures.KEPT
    for cache in (signatures.tree, decoder._readers, decoder._of_variant):
        assert cache.cache_info().currsize == signatures.KEPT
