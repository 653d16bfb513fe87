"""What a client gets from papad and sends it, as Python has it: items, the three events of a watch, options."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

from papa_dbus.bus import SignatureBodyMismatchError, Variant
from papa_dbus.errors import InvalidArgs
from papa_dbus.schema import (
    Option,
    ProcessRequest,
    ProcessResult,
    SocketRequest,
    SocketResult,
    WatchRequest,
    options,
)


class Record(NamedTuple):
    """One piece of a process's output: ``timestamp`` in µs of CLOCK_REALTIME, ``stream`` is 'out' or 'err'."""

    process: str
    seq: int
    timestamp: int
    stream: str
    data: bytes


class Dropped(NamedTuple):
    """These records fell out of a full buffer before they could be read; ``bytes`` is how much they held.

    After a restart of papad that may be an observer's overestimate: it may have read the first of them.
    """

    process: str
    first_seq: int
    last_seq: int
    bytes: int


class Exited(NamedTuple):
    """A process's end, after all of its output. ``exit_code`` is negative for a signal, None where nobody saw it."""

    process: str
    seq: int
    timestamp: int
    exit_code: int | None


Event = Record | Dropped | Exited


def events_of(member: str, body: list[Any]) -> Sequence[Event]:
    """Return what one signal of a watch says; nothing if a newer papad says it."""
    match member:
        case "Output":
            return [Record(body[0], *record) for record in body[1]]
        case "Dropped":
            return [Dropped(*body)]
        case "Exited":
            name, seq, timestamp, code, known = body
            return [Exited(name, seq, timestamp, code if known else None)]
    return ()


class _Item:
    """Made of one of papad's results; what a newer papad says in addition is left out."""

    __slots__ = ()

    @classmethod
    def of(cls, result: dict[str, Any]) -> Self:
        """The item that a result describes."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: variant.value for key, variant in result.items() if key in known})


@dataclass(frozen=True, slots=True)
class Socket(SocketResult, _Item):
    __doc__ = SocketResult.__doc__


@dataclass(frozen=True, slots=True)
class Process(ProcessResult, _Item):
    __doc__ = ProcessResult.__doc__

    args: list[str]


def variants(request: SocketRequest | ProcessRequest | WatchRequest) -> dict[str, Variant]:
    """Return those options of a request that are given, as D-Bus has them. Raises InvalidArgs for a wrong type."""
    kind: Any = type(request)
    given = ((option, getattr(request, name)) for name, option in options(kind).items())
    return {option.name: _variant(option, value) for option, value in given if value is not None}


def _variant(option: Option, value: Any) -> Variant:
    signature = option.signature
    if signature == "v":
        signature = "u" if isinstance(value, int) else "s"
    elif signature.startswith("a"):  # of any kind of mapping or sequence
        value = dict(value) if signature.startswith("a{") else list(value)
    try:
        return Variant(signature, value)
    except SignatureBodyMismatchError as error:
        raise InvalidArgs(f"option '{option.name}': {value!r} cannot be sent: {error}") from None


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """papad's own properties: ``started`` in µs of CLOCK_REALTIME.

    ``api_version`` is the contract's, 0 if papad is too old to say; ``features`` are the additions that it has.
    """

    version: str
    started: int
    sockets: int
    values: int
    processes: int
    buffered_bytes: int
    api_version: int = 0
    features: tuple[str, ...] = ()
