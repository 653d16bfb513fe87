"""Who asks: the caller for whom something is done at the moment.

A front end says on whose behalf it calls the kernel (``acting``); whatever is shared fairly or recorded looks it up.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


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


@contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """Do what is done meanwhile for this caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def acting_caller() -> Caller | None:
    """Return the caller for whom something is done now, None if papad does it for itself."""
    return _caller.get()


def acting_user() -> int | None:
    """Return that caller's user."""
    caller = _caller.get()
    return None if caller is None else caller.uid
