"""The audit trail: who had what made or removed, one record in the journal for each.

A front end says on whose behalf it calls the kernel (``acting``), the kernel says what it did (``record``). Never
recorded: values, environments and arguments, any of which may be a secret; of a command there is the program's path
alone.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``pid`` is None where Linux does not tell it; ``at`` is a bus name, an address or a socket's path."""

    uid: int
    pid: int | None
    at: str

    def __str__(self) -> str:
        process = "" if self.pid is None else f"PID {self.pid}, "
        return f"uid {self.uid} ({process}{self.at})"


#: Tasks that a front end starts for a caller have it, too: each task runs in a copy of its maker's context.
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
_FIELDS: Final = {"socket": "PAPA_SOCKET", "value": "PAPA_VALUE", "process": "PAPA_PROCESS", "kernel": "PAPA_KERNEL"}


@contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """What is done meanwhile is done for this caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def acting_caller() -> Caller | None:
    """Return the caller for whom something is done now, None if papad does it for itself."""
    return _caller.get()


def user() -> int | None:
    """Return that caller's user."""
    caller = _caller.get()
    return None if caller is None else caller.uid


def record(action: str, kind: str, name: str, detail: str = "") -> None:
    """Record that an item was ``made`` or ``removed``, or the kernel ended."""
    caller = _caller.get()
    log.info(
        "%s '%s' %s%s%s",
        kind,
        name,
        action,
        "" if caller is None else f" by {caller}",
        f": {detail}" if detail else "",
        extra={"PAPA_ACTION": action, _FIELDS[kind]: name, **_fields(caller)},
    )


def _fields(caller: Caller | None) -> dict[str, str]:
    if caller is None:
        return {}
    fields = {"PAPA_CALLER": caller.at, "PAPA_CALLER_UID": str(caller.uid)}
    return fields if caller.pid is None else {**fields, "PAPA_CALLER_PID": str(caller.pid)}
