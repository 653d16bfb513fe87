"""Values as text, in the forms in which people and Papa 1.0.6's client write them. Imports nothing of ours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

#: A resource limit that is none: RLIM_INFINITY (getrlimit(2)).
NO_LIMIT: Final = 2**64 - 1
_MULTIPLES: Final = {"k": 1024, "m": 1024**2, "g": 1024**3}
_STREAMS: Final = {"0": "null", "1": "pipe"}
_TRUE: Final = frozenset({"1", "yes", "true", "on"})
_FALSE: Final = frozenset({"0", "no", "false", "off", ""})


def _number(text: str, what: str = "is not a whole number") -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(what)
    return int(text[:25])


def _size(text: str) -> int:
    factor = _MULTIPLES.get(text[-1:].lower(), 0)
    return _number(text[:-1] if factor else text, "is not a number of bytes, such as 65536, 64k or 2m") * (factor or 1)


def _percent(text: str) -> int:
    return _number(text.removesuffix("%"), "is not a whole number of per cent, such as 50% or 200%")


def _octal(text: str) -> int:
    if not text or any(digit not in "01234567" for digit in text):
        raise ValueError("is not an octal number")
    return int(text[:25], 8)


def _flag(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("is neither 1 nor 0")
    return text.lower() in _TRUE


def _identity(text: str) -> str | int:
    return _number(text) if text.isdigit() else text


def _limit(text: str) -> int:
    return NO_LIMIT if text.lower() in ("infinity", "-1") else _number(text)  # Python's RLIM_INFINITY is -1


@dataclass(frozen=True, slots=True)
class Form:
    """How text has a value. ``read`` raises ValueError that says what a text is not; ``write`` is its opposite."""

    metavar: str
    read: Callable[[str], object]
    write: Callable[[Any], str] = str


WORD: Final = Form("TEXT", str)
NUMBER: Final = Form("NUMBER", _number)
SIZE: Final = Form("SIZE", _size)  # bytes, with k, m or g for their multiples of 1024
PERCENT: Final = Form("PERCENT", _percent)  # with or without its sign
OCTAL: Final = Form("OCTAL", _octal, "{:04o}".format)  # as umask(1) takes it
FLAG: Final = Form("FLAG", _flag, lambda value: str(int(value)))
IDENTITY: Final = Form("ID", _identity)  # a user or group, by number or name
LIMIT: Final = Form("LIMIT", _limit)
NAMES: Final = Form("NAMES", lambda text: tuple(name for name in text.split(",") if name), ",".join)
STREAM: Final = Form(  # Papa 1.0.6 has numbers for it
    "STREAM", lambda text: _STREAMS.get(text, text), lambda value: {"null": "0", "pipe": "1"}.get(value, value)
)
