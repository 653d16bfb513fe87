"""What is told of a socket and of a process: what lists, replies and properties are made of."""

import os
from dataclasses import dataclass, replace

from papa_dbus import schema
from papa_dbus.service import limits


@dataclass(frozen=True, slots=True)
class SocketInfo(schema.SocketResult):
    """A hosted socket as it is."""

    def short(self) -> "SocketInfo":
        """Return what a listing of many says of it."""
        return self


@dataclass(frozen=True, slots=True)
class ProcessInfo(schema.ProcessResult):
    """A hosted process as it is. ``as_user`` and ``as_group`` say whether a uid or gid was asked for."""

    as_user: bool = False
    as_group: bool = False

    def short(self) -> "ProcessInfo":
        """Return what a listing of many says of it: as many arguments as fit, and '…' for the others."""
        room = limits.MAX_LISTED_ARGS
        for number, arg in enumerate(self.args):
            room -= len(os.fsencode(arg))
            if room < 0:
                return replace(self, args=(*self.args[:number], "…"))
        return self
