"""What a client gets from the kernel, as Python has it: items with attributes, and the three events of a watch."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self


class Record(NamedTuple):
    """One piece of a process's output: ``timestamp`` in µs of CLOCK_REALTIME, ``stream`` is 'out' or 'err'."""

    process: str
    seq: int
    timestamp: int
    stream: str
    data: bytes


class Dropped(NamedTuple):
    """These records fell out of a full buffer before they could be read; ``bytes`` is how much they held.

    After a restart of the kernel that may be an observer's overestimate: it may have read the first of them.
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


class _Item:
    """Made of a result of the kernel's; what a newer kernel says over and above is left out."""

    @classmethod
    def of(cls, result: dict[str, Any]) -> Self:
        """The item that a result describes."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: variant.value for key, variant in result.items() if key in known})


@dataclass(frozen=True, slots=True)
class Socket(_Item):
    """A hosted socket. ``fileno`` is its number in the kernel.

    ``unit`` is the socket unit that passed it, empty where systemd does not say which; None: the kernel has bound it.
    """

    name: str
    family: str
    type: str
    fileno: int
    backlog: int | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    umask: int | None = None
    interface: str | None = None
    reuseport: bool = False
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Process(_Item):
    """A hosted process: ``started`` in µs of CLOCK_REALTIME; the sizes are bytes, ``cpu_quota`` per cent of one CPU.

    ``state`` is 'running', 'exited', 'killed' (by a signal) or 'unknown'; ``exit_known`` says whether it has ended and
    ``exit_code`` is what it ended with.
    ``acknowledged`` is the last sequence number that its consumers have acknowledged, None if papad is too old to say.
    """

    name: str
    pid: int
    running: bool
    started: int
    args: list[str]
    uid: int
    gid: int
    working_dir: str
    bufsize: int
    buffered: int
    dropped: int
    last_seq: int
    written: int = 0
    acknowledged: int | None = None
    exit_code: int | None = None
    unit: str | None = None
    memory_max: int | None = None
    cpu_quota: int | None = None
    tasks_max: int | None = None
    journal: bool = False
    state: str = ""
    exit_known: bool = False

    def __post_init__(self) -> None:
        if not self.state:  # an older papad does not say it
            ended = "unknown" if self.exit_code is None else "killed" if self.exit_code < 0 else "exited"
            object.__setattr__(self, "state", "running" if self.running else ended)
            object.__setattr__(self, "exit_known", self.exit_code is not None)


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """The kernel's own properties: ``started`` in µs of CLOCK_REALTIME."""

    version: str
    started: int
    sockets: int
    values: int
    processes: int
    buffered_bytes: int
