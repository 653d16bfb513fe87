"""Connections of the line protocol on their way to papad's new version, which executes in the old one's place.

Owns the form in which they go: the descriptors themselves, and one memory file that says where each of them stands.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from papa_dbus.service.output.cursor import Position

#: Of the form below. One that a papad does not know it does not take over: it says so on each connection.
VERSION = 1


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """Where a connection stands: what was read of it and not run, what it has not taken yet, and its watch.

    ``watch`` is each process's key in the store with the position in its output; ``sent`` whether a batch waits for
    its acknowledgement.
    """

    reader: Mapping[str, Any]
    unsent: bytes = b""
    watch: Sequence[tuple[int, Position]] | None = None
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection, whose it is, and where it stands; ``left`` None: it is not known in what form that came."""

    fd: int
    uid: int
    left: ConnectionState | None


def pack(connections: Sequence[Connection]) -> int:
    """Return a memory file that says where these stand, in their order."""
    rows = [(of.uid, asdict(of.left)) for of in connections if of.left is not None]
    text = json.dumps({"version": VERSION, "connections": rows}, default=lambda data: data.decode("latin-1"))
    fd = os.memfd_create("papa-connections", os.MFD_CLOEXEC)
    with open(fd, "w", encoding="utf-8", closefd=False) as file:
        file.write(text)
    return fd


def unpack(fds: Sequence[int], packed: int) -> list[Connection]:
    """Return the connections that come with these descriptors."""
    os.lseek(packed, 0, os.SEEK_SET)
    with open(packed, encoding="utf-8") as file:
        text = json.load(file)
    if text["version"] != VERSION:
        return [Connection(fd, os.geteuid(), None) for fd in fds]
    return [Connection(fd, uid, _left(**row)) for fd, (uid, row) in zip(fds, text["connections"], strict=True)]


def _left(
    reader: Mapping[str, Any], unsent: str, watch: list[tuple[int, list[Any]]] | None, sent: bool
) -> ConnectionState:
    positions = None if watch is None else [(key, Position(*position)) for key, position in watch]
    return ConnectionState(reader, unsent.encode("latin-1"), positions, sent)
