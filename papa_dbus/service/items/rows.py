"""What is stored of each item, and its form in a row: JSON of its fields."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from papa_dbus.errors import InvalidArgs
from papa_dbus.service.fork.errand import FileIdentity
from papa_dbus.service.items.results import ProcessInfo, SocketInfo
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec

_Stored = TypeVar("_Stored", SocketSpec, ProcessSpec, SocketInfo, ProcessInfo, "ProcessRecord")
Kind = Literal["socket", "process"]
Info = SocketInfo | ProcessInfo
#: What load() and load_info() raise for a row that makes no sense.
CORRUPT_ROW = (ValueError, TypeError, AttributeError, InvalidArgs)


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What was found out about a process when it was started. ``started`` in µs of CLOCK_REALTIME."""

    pid: int
    started: int
    uid: int
    gid: int
    working_dir: str
    unit: str | None = None
    removed: bool = False
    #: Clients that consume its output: each one's name, the last number that it acknowledged, and the offset after it.
    consumers: tuple[tuple[str, int, int], ...] = ()
    #: Lines without an end that have left its log and are not in the journal: stream, sequence number, time, text.
    last_words: tuple[tuple[str, int, int, str], ...] = ()

    def __post_init__(self) -> None:
        """Make of lists, as they were stored, what they were. Raises one of CORRUPT_ROW."""
        consumers = tuple((str(who), int(seq), int(offset)) for who, seq, offset in self.consumers)
        words = tuple((str(stream), int(seq), int(when), str(text)) for stream, seq, when, text in self.last_words)
        object.__setattr__(self, "consumers", consumers)
        object.__setattr__(self, "last_words", words)


@dataclass(frozen=True, slots=True)
class StoredProcess:
    """A process as it was stored. ``pipes``: each stream's pipe by its inode; ``status``: that of its status pipe.

    The latter is None if an older papad has stored it.
    """

    key: int
    spec: ProcessSpec
    facts: ProcessRecord
    pipes: Mapping[str, int]
    state: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class StoredSocket:
    """A socket as it was stored. ``inode``: which one it is; ``file``: what identifies the file that papad made.

    Either is None if an older papad did not note it.
    """

    key: int
    spec: SocketSpec
    inode: int | None = None
    file: FileIdentity | None = None


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request that bore a token, and the key of the item that it asked for.

    After that has gone, ``result`` is the last that was known of it, and ``gone`` when: µs of CLOCK_BOOTTIME.
    """

    token: str
    name: str
    key: int
    result: Info | None
    gone: int | None


@dataclass(frozen=True, slots=True)
class Gone:
    """What is still told of an item that has gone, to whoever asks with one of these tokens."""

    tokens: Sequence[str]
    result: Info
    at: int


def dump(value: Any) -> str:
    return json.dumps(value, default=dict, separators=(",", ":"))


def dump_fields(item: ProcessSpec | ProcessRecord | Info) -> str:
    return dump(fields_of(item))


def fields_of(item: ProcessSpec | SocketSpec | ProcessRecord | Info) -> dict[str, Any]:
    # As dataclasses.asdict() has it, which copies all that is in there first. Tokens have a table of their own.
    return {name: getattr(item, name) for name in item.__dataclass_fields__ if name != "token"}


def load_info(kind: Kind, text: str) -> Info:
    return load(SocketInfo, text) if kind == "socket" else load(ProcessInfo, text)


def load(kind: type[_Stored], text: str) -> _Stored:
    """Return a spec or facts as they were; lists become tuples again. What this version does not know is not asked for.

    Raises one of CORRUPT_ROW.
    """
    known = {field.name for field in fields(kind)}
    stored: dict[str, Any] = {name: value for name, value in json.loads(text).items() if name in known}
    for name, value in stored.items():
        if isinstance(value, list):
            stored[name] = tuple(value)
    return kind(**stored)
