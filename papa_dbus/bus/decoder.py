"""D-Bus values from a message's bytes.

dbus-next walks the signature anew for each value. Here it is made into functions once. What is read ends where its
message ends, whatever lengths are in it.

To make a signature into functions takes a hundred times as long as to read a value, and a variant's signature is its
sender's choice. So the variants of a call may have one of a few signatures; what the bus and systemd say has any.

The format is the D-Bus Specification's, "Marshaling (Wire Format)".
"""

import functools
import sys
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final

from dbus_next.signature import Variant

from papa_dbus.bus.signatures import ALIGNMENT, KEPT, LITTLE_ENDIAN, NUMBERS, tree

#: Elements of all arrays of a call together, entries of dictionaries among them: on a slow machine they take some 10 ms
MAX_ELEMENTS: Final = 16_384


class Allowed:
    """What may be in a body: variants of these types, None for any, and so many elements of arrays together."""

    def __init__(self, variants: frozenset[str] | None, elements: int) -> None:
        self.variants = variants
        self.elements = elements
        self.left = elements  # of the body that is being read


#: What the bus and systemd say.
ANYTHING: Final = Allowed(None, sys.maxsize)
#: The variants of a call are of simple types, so that one of the wrong type is told which option it is, or of the
#: options' arrays. A variant in a variant is one of these, too, and not another variant.
IN_CALLS: Final = Allowed(
    frozenset({*NUMBERS, "b", "s", "o", "g", "v", "as", "ao", "ay", "a{ss}", "a{st}", "a{su}"}), MAX_ELEMENTS
)
#: From a message and a place in it to the value there, and the place behind it.
Read = Callable[[bytes | bytearray, int], tuple[Any, int]]


class UnreadVariant(ValueError):
    """A call has a variant of a type that no call takes."""


class TooManyElements(ValueError):
    """A call's arrays have too many elements."""


def decode(
    signature: str, data: bytes | bytearray, at: int, order: str = LITTLE_ENDIAN, allowed: Allowed = ANYTHING
) -> list[Any]:
    """Return the values at a place of a message, in struct's byte order. Raises Exception if they make no sense.

    UnreadVariant and TooManyElements are raised for what is not allowed: nothing of it is kept.
    """
    allowed.left = allowed.elements
    return _each(_readers(signature, order, allowed), data, at)[0]


def _each(readers: Sequence[Read], data: bytes | bytearray, at: int) -> tuple[list[Any], int]:
    values = []
    for reader in readers:
        value, at = reader(data, at)
        values.append(value)
    return values, at


@functools.lru_cache(KEPT)
def _readers(signature: str, order: str, allowed: Allowed) -> list[Read]:
    return [_reader(type_, order, allowed) for type_ in tree(signature).types]


def _reader(type_: Any, order: str, allowed: Allowed) -> Read:
    match type_.token:
        case "a":
            return _array_reader(type_.children[0], order, allowed)
        case "(":
            return _struct_reader([_reader(child, order, allowed) for child in type_.children])
        case "v":
            return _variant_reader(order) if allowed.variants is None else _fixed_variant_reader(order, allowed)
        case plain:
            return _plain_reader(plain, order)


@functools.cache
def _plain_reader(token: str, order: str) -> Read:
    match token:
        case "b":
            return _boolean_reader(order)
        case "s" | "o":
            return _text_reader(order)
        case "g":
            return _read_signature
        case number:
            return _number_reader(Struct(order + NUMBERS[number]))


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


@functools.lru_cache(KEPT)
def _of_variant(signature: str, order: str) -> tuple[Any, Read]:
    [type_] = tree(signature).types
    return type_, _reader(type_, order, ANYTHING)


@functools.cache
def _variant_reader(order: str) -> Read:
    def read_variant(data: bytes | bytearray, at: int) -> tuple[Variant, int]:
        signature, at = _read_signature(data, at)
        return _read_value(signature, *_of_variant(signature, order), data, at)

    return read_variant


@functools.cache
def _fixed_variant_reader(order: str, allowed: Allowed, within: bool = False) -> Read:
    """Return the reader of a variant of one of these types; one within it is not again a variant."""
    known: dict[str, tuple[Any, Read]] = {}
    for signature in allowed.variants or ():
        [type_] = tree(signature).types
        if signature != "v":
            known[signature] = type_, _reader(type_, order, allowed)
        elif not within:
            known[signature] = type_, _fixed_variant_reader(order, allowed, True)

    def read_variant(data: bytes | bytearray, at: int) -> tuple[Variant, int]:
        signature, at = _read_signature(data, at)
        if signature not in known:
            raise UnreadVariant(f"it has type {signature[:60]}, which nothing has")
        return _read_value(signature, *known[signature], data, at)

    return read_variant


def _read_value(signature: str, type_: Any, reader: Read, data: bytes | bytearray, at: int) -> tuple[Variant, int]:
    variant = Variant.__new__(Variant)  # it would look whether what was just read is of its type
    variant.type, variant.signature = type_, signature
    variant.value, at = reader(data, at)
    return variant, at


def _struct_reader(readers: Sequence[Read]) -> Read:
    def read_struct(data: bytes | bytearray, at: int) -> tuple[list[Any], int]:
        return _each(readers, data, at + (-at & 7))

    return read_struct


def _array_reader(element: Any, order: str, allowed: Allowed) -> Read:
    length, mask = Struct(f"{order}I").unpack_from, ALIGNMENT[element.token] - 1

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

    def read_list(data: bytes | bytearray, at: int) -> tuple[list[Any], int]:
        at, end = bounds(data, at)
        found = []
        for _ in range(allowed.left):
            if at >= end:
                break
            one, at = value(data, at)
            found.append(one)
        allowed.left -= len(found)
        return found, _at_its_end(at, end)

    match element.token:
        case "y":
            return read_bytes
        case "{":
            key, value = (_reader(child, order, allowed) for child in element.children)
            return _dictionary_reader(bounds, key, value, allowed)
        case _:
            value = _reader(element, order, allowed)
            return read_list


def _dictionary_reader(
    bounds: Callable[[bytes | bytearray, int], tuple[int, int]], key: Read, value: Read, allowed: Allowed
) -> Read:
    def read_dictionary(data: bytes | bytearray, at: int) -> tuple[dict[Any, Any], int]:
        at, end = bounds(data, at)
        found = {}
        for _ in range(allowed.left):
            if at >= end:
                break
            name, at = key(data, at + (-at & 7))
            try:
                found[name], at = value(data, at)
            except UnreadVariant as error:
                raise UnreadVariant(f"option '{name:.60}': {error}") from None
            allowed.left -= 1
        return found, _at_its_end(at, end)

    return read_dictionary


def _at_its_end(at: int, end: int) -> int:
    if at < end:
        raise TooManyElements
    if at != end:
        raise ValueError("an array ends within an element")
    return at
