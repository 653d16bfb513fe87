"""D-Bus values to a message's bytes.

dbus-next walks the signature anew for each value. Here it is made into functions once.

The format is the D-Bus Specification's, "Marshaling (Wire Format)".
"""

import functools
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any

from dbus_next.validators import is_object_path_valid

from papa_dbus.bus.signatures import ALIGNMENT, KEPT, LITTLE_ENDIAN, NUMBERS, tree

#: Appends a value.
Write = Callable[[bytearray, Any], None]


class Entries:
    """A large dictionary, or array of structs, encoded some entries at a time.

    It is taken for one where a value is encoded.
    """

    def __init__(self, signature: str) -> None:
        self._signature = signature
        self.data = bytearray()

    def add(self, entries: dict[Any, Any] | list[Any]) -> None:
        """Encode some. Raises as encode() does."""
        if not entries:
            return
        self.data += bytes(-len(self.data) & 7)  # each begins at a multiple of 8 bytes, as the first does
        self.data += encode(self._signature, [entries])[8:]


def encode(signature: str, values: Sequence[Any]) -> bytearray:
    """The values as bytes.

    Raises SignatureBodyMismatchError where they are not of the signature's types, ValueError for a text that cannot be
    sent: one with a NUL byte, or with half of a surrogate pair.
    """
    out = bytearray()
    try:
        for writer, value in zip(_writers(signature), values, strict=True):
            writer(out, value)
    except Exception:
        tree(signature).verify(list(values))  # says what is wrong with them
        raise
    return out


@functools.lru_cache(KEPT)
def _writers(signature: str) -> list[Write]:
    return [_writer(type_) for type_ in tree(signature).types]


def _writer(type_: Any) -> Write:
    match type_.token:
        case "a":
            return _array_writer(type_.children[0])
        case "(":
            return _struct_writer([_writer(child) for child in type_.children])
        case plain:
            return _plain_writer(plain)


@functools.cache
def _plain_writer(token: str) -> Write:
    match token:
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
            return _number_writer(Struct(LITTLE_ENDIAN + NUMBERS[number]))


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
    if "\0" in value:  # the bus would end the connection over it
        raise ValueError("a NUL byte is not possible in a text")
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


@functools.lru_cache(KEPT)
def _of_variant(signature: str) -> tuple[bytes, Write]:
    """Return what comes before a variant's value, and what writes the value."""
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
    match element.token:
        case "y":
            return _write_bytes
        case "{":
            return _dictionary_writer(*(_writer(child) for child in element.children))
        case token:
            return _list_writer(_writer(element), ALIGNMENT[token] - 1)


def _write_bytes(out: bytearray, value: Any) -> None:
    _of(bytes, value)
    _write_uint32(out, len(value))
    out += value


def _begin_array(out: bytearray, mask: int) -> tuple[int, int]:
    """Return where the array's length is, still 0, and where its elements begin."""
    _write_uint32(out, 0)
    at = len(out) - 4
    out += bytes(-len(out) & mask)
    return at, len(out)


def _write_entries(out: bytearray, entries: Entries) -> None:
    at, first = _begin_array(out, 7)
    out += entries.data
    _LENGTH.pack_into(out, at, len(out) - first)


def _list_writer(write_value: Write, mask: int) -> Write:
    def write_list(out: bytearray, values: Any) -> None:
        if isinstance(values, Entries):
            _write_entries(out, values)
            return
        _of(list, values)
        at, first = _begin_array(out, mask)
        for value in values:
            write_value(out, value)
        _LENGTH.pack_into(out, at, len(out) - first)

    return write_list


def _dictionary_writer(write_key: Write, write_value: Write) -> Write:
    def write_dictionary(out: bytearray, entries: Any) -> None:
        if isinstance(entries, Entries):
            _write_entries(out, entries)
            return
        _of(dict, entries)
        at, first = _begin_array(out, 7)
        for name, value in entries.items():
            out += bytes(-len(out) & 7)
            write_key(out, name)
            write_value(out, value)
        _LENGTH.pack_into(out, at, len(out) - first)

    return write_dictionary


def _of(type_: type, value: object) -> None:
    if not isinstance(value, type_):
        raise TypeError(f"{value!r} is no {type_.__name__}")
