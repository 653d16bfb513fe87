"""D-Bus values to bytes and back.

dbus-next walks a signature anew for each value, and keeps every signature that it has ever seen: a client that makes
them up fills the machine. Here a signature is made into functions once, and only the last of them are kept. What is
read ends where its message ends, whatever lengths are in it.

The format is the D-Bus Specification's, "Marshaling (Wire Format)".
"""

import functools
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final

from dbus_next.signature import SignatureTree, Variant
from dbus_next.validators import is_object_path_valid

#: From a message and a place in it to the value there, and the place behind it.
Read = Callable[[bytes | bytearray, int], tuple[Any, int]]
#: Appends a value.
Write = Callable[[bytearray, Any], None]

LITTLE_ENDIAN: Final = "<"
#: Types of numbers, and how struct calls them. A descriptor is its number in the message's array of them.
_NUMBERS: Final = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
_ALIGNMENT: Final = {
    **dict.fromkeys("ygv", 1),
    **dict.fromkeys("nq", 2),
    **dict.fromkeys("iubsoah", 4),
    **dict.fromkeys("xtd({", 8),
}
#: Signatures that are kept. Any client may make up its own.
_KEPT: Final = 256


def read(signature: str, data: bytes | bytearray, at: int, order: str = LITTLE_ENDIAN) -> list[Any]:
    """The values at a place of a message, in struct's byte order. Raises Exception where they are none."""
    values = []
    for reader in _readers(signature, order):
        value, at = reader(data, at)
        values.append(value)
    return values


def write(signature: str, values: Sequence[Any]) -> bytearray:
    """The values as bytes. Raises SignatureBodyMismatchError where they are not of the signature's types."""
    out = bytearray()
    try:
        for writer, value in zip(_writers(signature), values, strict=True):
            writer(out, value)
    except Exception:
        tree(signature).verify(list(values))  # says what is wrong with them
        raise
    return out


@functools.lru_cache(_KEPT)
def tree(signature: str) -> SignatureTree:
    """A signature as dbus-next has it. Raises InvalidSignatureError."""
    return SignatureTree(signature)


# --------------------------------------------------------------------- reading


@functools.lru_cache(_KEPT)
def _readers(signature: str, order: str) -> list[Read]:
    return [_reader(type_, order) for type_ in tree(signature).types]


def _reader(type_: Any, order: str) -> Read:
    match type_.token:
        case "a":
            return _array_reader(type_.children[0], order)
        case "(":
            return _struct_reader([_reader(child, order) for child in type_.children])
        case "b":
            return _boolean_reader(order)
        case "s" | "o":
            return _text_reader(order)
        case "g":
            return _read_signature
        case "v":
            return _variant_reader(order)
        case number:
            return _number_reader(Struct(order + _NUMBERS[number]))


def _number_reader(number: Struct) -> Read:
    size, unpack = number.size, number.unpack_from

    def read_number(data: bytes | bytearray, at: int) -> tuple[Any, int]:
        at += -at & (size - 1)
        return unpack(data, at)[0], at + size

    return read_number


def _boolean_reader(order: str) -> Read:
    read_number = _number_reader(Struct(f"{order}I"))

    def read_boolean(data: bytes | bytearray, at: int) -> tuple[bool, int]:
        value, at = read_number(data, at)
        return bool(value), at

    return read_boolean


def _text_reader(order: str) -> Read:
    length = Struct(f"{order}I").unpack_from

    def read_text(data: bytes | bytearray, at: int) -> tuple[str, int]:
        begin = at + (-at & 3) + 4
        end = begin + length(data, begin - 4)[0]
        return _text(data, begin, end), end + 1

    return read_text


def _read_signature(data: bytes | bytearray, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return _text(data, at + 1, end), end + 1


def _text(data: bytes | bytearray, begin: int, end: int) -> str:
    if end >= len(data):
        raise ValueError("a text is longer than its message")
    return data[begin:end].decode()


@functools.lru_cache(_KEPT)
def _of_read_variant(signature: str, order: str) -> tuple[Any, Read]:
    [type_] = tree(signature).types
    return type_, _reader(type_, order)


def _variant_reader(order: str) -> Read:
    def read_variant(data: bytes | bytearray, at: int) -> tuple[Variant, int]:
        signature, at = _read_signature(data, at)
        type_, reader = _of_read_variant(signature, order)
        variant = Variant.__new__(Variant)  # it would look whether what was just read is of its type
        variant.type, variant.signature = type_, signature
        variant.value, at = reader(data, at)
        return variant, at

    return read_variant


def _struct_reader(readers: Sequence[Read]) -> Read:
    def read_struct(data: bytes | bytearray, at: int) -> tuple[list[Any], int]:
        at += -at & 7
        values = []
        for reader in readers:
            value, at = reader(data, at)
            values.append(value)
        return values, at

    return read_struct


def _array_reader(element: Any, order: str) -> Read:
    length, mask = Struct(f"{order}I").unpack_from, _ALIGNMENT[element.token] - 1

    def bounds(data: bytes | bytearray, at: int) -> tuple[int, int]:
        at += -at & 3
        begin = at + 4
        begin += -begin & mask
        end = begin + length(data, at)[0]
        if end > len(data):
            raise ValueError("an array is longer than its message")
        return begin, end

    def read_bytes(data: bytes | bytearray, at: int) -> tuple[bytes, int]:
        begin, end = bounds(data, at)
        return memoryview(data)[begin:end].tobytes(), end  # one copy: it may be large

    def read_dictionary(data: bytes | bytearray, at: int) -> tuple[dict[Any, Any], int]:
        at, end = bounds(data, at)
        found = {}
        while at < end:
            name, at = key(data, at + (-at & 7))
            found[name], at = value(data, at)
        return found, _at_its_end(at, end)

    def read_list(data: bytes | bytearray, at: int) -> tuple[list[Any], int]:
        at, end = bounds(data, at)
        found = []
        while at < end:
            one, at = value(data, at)
            found.append(one)
        return found, _at_its_end(at, end)

    match element.token:
        case "y":
            return read_bytes
        case "{":
            key, value = (_reader(child, order) for child in element.children)
            return read_dictionary
        case _:
            value = _reader(element, order)
            return read_list


def _at_its_end(at: int, end: int) -> int:
    if at != end:
        raise ValueError("an array ends within an element")
    return at


# --------------------------------------------------------------------- writing


@functools.lru_cache(_KEPT)
def _writers(signature: str) -> list[Write]:
    return [_writer(type_) for type_ in tree(signature).types]


def _writer(type_: Any) -> Write:
    match type_.token:
        case "a":
            return _array_writer(type_.children[0])
        case "(":
            return _struct_writer([_writer(child) for child in type_.children])
        case "b":
            return _write_boolean
        case "s":
            return _write_text
        case "o":
            return _write_path
        case "g":
            return _write_signature
        case "v":
            return _write_variant
        case number:
            return _number_writer(Struct(LITTLE_ENDIAN + _NUMBERS[number]))


def _number_writer(number: Struct) -> Write:
    mask, pack = number.size - 1, number.pack

    def write_number(out: bytearray, value: Any) -> None:
        out += bytes(-len(out) & mask)
        out += pack(value)

    return write_number


_LENGTH = Struct("<I")
_write_uint32 = _number_writer(_LENGTH)


def _write_boolean(out: bytearray, value: Any) -> None:
    _of(bool, value)
    _write_uint32(out, value)


def _write_text(out: bytearray, value: Any) -> None:
    data = value.encode()
    out += bytes(-len(out) & 3)
    out += _LENGTH.pack(len(data))
    out += data
    out += b"\0"


def _write_path(out: bytearray, value: Any) -> None:
    if not is_object_path_valid(value):
        raise ValueError(f"{value!r} is no object path")
    _write_text(out, value)


def _write_signature(out: bytearray, value: Any) -> None:
    data = value.encode()
    out += b"%c%b\0" % (len(data), data)


@functools.lru_cache(_KEPT)
def _of_variant(signature: str) -> tuple[bytes, Write]:
    """What comes before a variant's value, and what writes that."""
    out = bytearray()
    _write_signature(out, signature)
    [writer] = _writers(signature)
    return bytes(out), writer


def _write_variant(out: bytearray, value: Any) -> None:
    signature, writer = _of_variant(value.signature)
    out += signature
    writer(out, value.value)


def _struct_writer(writers: Sequence[Write]) -> Write:
    def write_struct(out: bytearray, values: Any) -> None:
        _of(list, values)
        out += bytes(-len(out) & 7)
        for writer, value in zip(writers, values, strict=True):
            writer(out, value)

    return write_struct


def _array_writer(element: Any) -> Write:
    mask = _ALIGNMENT[element.token] - 1

    def begin(out: bytearray) -> tuple[int, int]:
        """Where the array's length is, still 0, and where its elements begin."""
        _write_uint32(out, 0)
        at = len(out) - 4
        out += bytes(-len(out) & mask)
        return at, len(out)

    def write_bytes(out: bytearray, value: Any) -> None:
        _of(bytes, value)
        _write_uint32(out, len(value))
        out += value

    def write_dictionary(out: bytearray, entries: Any) -> None:
        _of(dict, entries)
        at, first = begin(out)
        for name, value in entries.items():
            out += bytes(-len(out) & 7)
            write_key(out, name)
            write_value(out, value)
        _LENGTH.pack_into(out, at, len(out) - first)

    def write_list(out: bytearray, values: Any) -> None:
        _of(list, values)
        at, first = begin(out)
        for value in values:
            write_value(out, value)
        _LENGTH.pack_into(out, at, len(out) - first)

    match element.token:
        case "y":
            return write_bytes
        case "{":
            write_key, write_value = (_writer(child) for child in element.children)
            return write_dictionary
        case _:
            write_value = _writer(element)
            return write_list


def _of(type_: type, value: object) -> None:
    if not isinstance(value, type_):
        raise TypeError(f"{value!r} is no {type_.__name__}")
