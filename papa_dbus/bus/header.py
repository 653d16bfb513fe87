"""The frame of a D-Bus message: its header to bytes and back.

dbus-next walks the header's signature value by value; that took longer than all else that is done with a small message.
Here it is packed and read at once. No I/O, and no knowledge of the library.

The format is the D-Bus Specification's, "Message Protocol".
"""

import functools
from struct import Struct
from typing import Any, Final

_FIXED = Struct("<4B3I")  # byte order, type, flags, version; bytes of the body, serial, bytes of the fields
_UINT32 = Struct("<I")
_LITTLE_ENDIAN: Final = ord("l")
VERSION: Final = 1  # of the protocol
#: The header's fields by their codes: name as dbus-next's Message has it, type.
FIELDS: Final = {
    1: ("path", "o"),
    2: ("interface", "s"),
    3: ("member", "s"),
    4: ("error_name", "s"),
    5: ("reply_serial", "u"),
    6: ("destination", "s"),
    7: ("sender", "s"),
    8: ("signature", "g"),
    9: ("unix_fds", "u"),
}
_BY_CODE: Final = {code: (name, ord(type_)) for code, (name, type_) in FIELDS.items()}
_BY_NAME: Final = {name: (code, type_) for code, (name, type_) in FIELDS.items()}
_TEXTS: Final = ("path", "interface", "member", "error_name", "destination", "signature")
_O, _S, _G, _U = b"osgu"


@functools.lru_cache(maxsize=1024)
def _text_field(name: str, value: str) -> tuple[bytes, int]:
    """Return a field, filled up to the next one's place, and its length without that."""
    code, type_ = _BY_NAME[name]
    data = value.encode()
    length = bytes((len(data),)) if type_ == "g" else _UINT32.pack(len(data))
    field = b"".join((bytes((code, 1, ord(type_), 0)), length, data, b"\0"))
    return field + bytes(-len(field) % 8), len(field)


def _number_field(name: str, value: int) -> bytes:
    code, type_ = _BY_NAME[name]
    return bytes((code, 1, ord(type_), 0)) + _UINT32.pack(value)  # eight bytes: nothing is to be filled up


def header(kind: int, flags: int, body_bytes: int, serial: int, message: Any) -> bytes:
    """Return the header of a message whose attributes are the fields."""
    parts = [b""]
    if message.reply_serial:
        parts.append(_number_field("reply_serial", message.reply_serial))
    if message.unix_fds:
        parts.append(_number_field("unix_fds", len(message.unix_fds)))
    size = 8 * (len(parts) - 1)
    unfilled = 0
    for name in _TEXTS:
        if value := getattr(message, name):
            part, length = _text_field(name, value)
            parts.append(part)
            size += len(part)
            unfilled = len(part) - length
    # What the last field is filled up with belongs to the header, but not to its fields.
    parts[0] = _FIXED.pack(_LITTLE_ENDIAN, kind, flags, VERSION, body_bytes, serial, size - unfilled)
    return b"".join(parts)


def read_header(data: bytes | bytearray) -> tuple[int, int, int, dict[str, Any], int] | None:
    """Return type, flags, serial, the fields by name, and where the body begins; None for one that is not as usual."""
    endian, kind, flags, version, _, serial, fields_bytes = _FIXED.unpack_from(data)
    if endian != _LITTLE_ENDIAN or version != VERSION:
        return None
    fields: dict[str, Any] = {}
    at, end = _FIXED.size, _FIXED.size + fields_bytes
    while at < end:
        name, type_ = _BY_CODE.get(data[at], ("", 0))
        if data[at + 1] != 1 or data[at + 2] != type_:
            return None
        at += 4
        if type_ == _U:
            fields[name] = _UINT32.unpack_from(data, at)[0]
            at += 4
        else:
            if type_ == _G:
                size, begin = data[at], at + 1
            else:
                size, begin = _UINT32.unpack_from(data, at)[0], at + 4
            at = begin + size + 1
            fields[name] = data[begin : at - 1].decode()
        at = (at + 7) & ~7
    return kind, flags, serial, fields, (end + 7) & ~7
