"""The options that org.papa.Kernel takes and the items that it shows: one field for each option and each key.

A field has its type in Python, and in its metadata the D-Bus type, the bounds, its form in text and its help. papad's
checks and conversions, the client's arguments, the line protocol's options and help and papactl's options are derived
from it. tests/unit/test_schema.py holds it against the contract's XML. No I/O.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Final, Literal, get_args, get_origin

from papa_dbus.forms import FLAG, IDENTITY, LIMIT, NAMES, NUMBER, OCTAL, PERCENT, SIZE, STREAM, WORD, Form

#: The most that an option can be: bytes, per cent of one processor, and tasks, of which Linux has no more
#: (PID_MAX_LIMIT). Linux takes more bytes than MAX_MEMORY_MAX for no limit.
MAX_BUFSIZE: Final = 1024 * 1024 * 1024
MAX_MEMORY_MAX: Final = 2**62
MAX_CPU_QUOTA: Final = 1_000_000
MAX_TASKS_MAX: Final = 4_194_304
MAX_WINDOW: Final = 64 * 1024 * 1024
#: The forms of what has another type than a number; of a dictionary it is the form of one entry.
_FORMS: Final = {"s": WORD, "o": WORD, "a{ss}": WORD, "b": FLAG, "v": IDENTITY, "a{st}": LIMIT, "as": NAMES}


# --------------------------------------------------------------------------------------- options


@dataclass(frozen=True, slots=True)
class Option:
    """An option: its D-Bus type ("v": a string or u), how text has it, what it may be, and what it does.

    ``of_scope``: it limits a process's scope.
    """

    name: str
    signature: str
    help: str
    form: Form
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    of_scope: bool = False

    @property
    def described(self) -> str:
        """Return what it does, after the words of which it is one."""
        return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}: {self.help}" if self.choices else self.help

    def problem(self, value: object) -> str:
        """Say what is wrong with a value of the right type; empty if nothing is."""
        if self.choices and value not in (None, *self.choices):
            return f"{value!r} is none of {', '.join(self.choices)}"
        if isinstance(value, int) and self.most is not None and not self.least <= value <= self.most:
            shown = oct if self.form is OCTAL else str
            return f"{shown(value)} is out of range ({self.least} to {shown(self.most)})"
        return "a NUL byte is not possible there" if isinstance(value, str) and "\0" in value else ""


def _option(signature: str, help: str, *, form: Form | None = None, **more: Any) -> Any:  # noqa: A002
    told = {"signature": signature, "help": help, "form": form or _FORMS.get(signature, NUMBER), **more}
    return field(default=None, metadata={"option": told})


@functools.cache
def options(request: Any) -> dict[str, Option]:
    """Return the options of a request, by name, in their order. The words of a Literal are the choices."""
    table = {}
    for each in fields(request):
        if told := each.metadata.get("option"):
            literal = next((kind for kind in get_args(each.type) if get_origin(kind) is Literal), None)
            table[each.name] = Option(each.name, choices=get_args(literal), **told)
    return table


Family = Literal["inet", "inet6", "unix"]
SocketType = Literal["stream", "dgram", "seqpacket", "raw", "rdm"]
Stdout = Literal["pipe", "null"]
Stderr = Literal["pipe", "null", "stdout"]
Overflow = Literal["drop", "block"]
Mode = Literal["consume", "observe"]


@dataclass(frozen=True, slots=True)
class SocketRequest:
    """What MakeSocket takes. An option that is None is left to papad."""

    name: str
    _: KW_ONLY
    family: Family | None = _option("s", "address family (unix with a path, else inet)")
    type: SocketType | None = _option("s", "socket type (stream)")
    host: str | None = _option("s", "address to bind (loopback; every address if an interface is given)")
    port: int | None = _option("q", "port to bind; 0 lets Linux choose (0)", most=65535)
    path: str | None = _option("s", "absolute path of a Unix socket's file")
    umask: int | None = _option("u", "octal mask for the mode of that file", form=OCTAL, most=0o777)
    backlog: int | None = _option("u", "listen backlog (5)", most=2**31 - 1)
    interface: str | None = _option("s", "bind to one network interface only")
    reuseport: bool | None = _option("b", "each process gets a socket of its own on the same port")


@dataclass(frozen=True, slots=True)
class ProcessRequest:
    """What MakeProcess takes. An option that is None is left to papad."""

    name: str
    command: Sequence[str]
    _: KW_ONLY
    env: Mapping[str, str] | None = _option("a{ss}", "the whole environment (a login-like minimum)")
    working_dir: str | None = _option("s", "absolute directory to start in (the user's home)")
    uid: str | int | None = _option("v", "user to run as, by name or number (papad's own)", most=2**32 - 2)
    gid: str | int | None = _option("v", "group to run as, by name or number (the user's)", most=2**32 - 2)
    rlimits: Mapping[str, int] | None = _option("a{st}", "resource limits by lower-case name, hard and soft")
    umask: int | None = _option("u", "octal file mode mask (022)", form=OCTAL, most=0o777)
    stdout: Stdout | None = _option("s", "keep its output, or not (pipe)", form=STREAM)
    stderr: Stderr | None = _option("s", "likewise; stdout: in the same pipe (pipe)", form=STREAM)
    bufsize: int | None = _option(
        "t", "bytes of output kept until acknowledged; 0 keeps none (2m)", form=SIZE, most=MAX_BUFSIZE
    )
    overflow: Overflow | None = _option("s", "if that is full the oldest goes, or the process waits (drop)")
    sockets: Sequence[str] | None = _option("as", "hosted sockets handed over by the LISTEN_FDS protocol")
    memory_max: int | None = _option(
        "t", "bytes of memory for it and its descendants (no limit)",
        form=SIZE, least=1, most=MAX_MEMORY_MAX, of_scope=True,
    )  # fmt: skip
    cpu_quota: int | None = _option(
        "u", "per cent of one processor for them; 200 is two (no limit)",
        form=PERCENT, least=1, most=MAX_CPU_QUOTA, of_scope=True,
    )  # fmt: skip
    tasks_max: int | None = _option(
        "t", "processes and threads that they may be (no limit)", least=1, most=MAX_TASKS_MAX, of_scope=True
    )
    journal: bool | None = _option("b", "output goes to the systemd journal, too")


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What Watch takes. An option that is None is left to papad."""

    _: KW_ONLY
    mode: Mode | None = _option("s", "take what comes, or read along (consume)")
    window: int | None = _option("t", "bytes ahead of an acknowledgement (1m)", form=SIZE, least=1, most=MAX_WINDOW)
    follow: bool | None = _option("b", "observe processes made later, too")


_TOKEN: Final = Option("token", "s", "made up for this request: asked again with it, the answer is the same item", WORD)
SOCKET_OPTIONS: Final = options(SocketRequest) | {"token": _TOKEN}  # the client makes it up itself
PROCESS_OPTIONS: Final = options(ProcessRequest) | {"token": _TOKEN}
WATCH_OPTIONS: Final = options(WatchRequest)


# --------------------------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an item's result: its D-Bus type, its property's name, how text has it, and whether a line does.

    ``absent``: the value of which nothing is said. An object has all properties; it has none that is its own path.
    """

    signature: str
    property: str
    form: Form
    in_line: bool
    absent: object


def _key(
    signature: str, shown_as: str = "", *, in_line: bool = False, form: Form | None = None, absent: object = None
) -> dict[str, Key]:
    return {"key": Key(signature, shown_as, form or _FORMS.get(signature, NUMBER), in_line, absent)}


@dataclass(frozen=True, slots=True)
class SocketResult:
    """A hosted socket as it is. What does not apply is None; ``fileno`` is papad's own descriptor.

    ``unit`` is the socket unit that passed it, empty if systemd does not say which; None: papad has bound it.
    ``object_path`` is the D-Bus object that shows it, None if papad is too old to say.
    """

    name: str = field(metadata=_key("s", "Name"))
    family: str = field(metadata=_key("s", "Family", in_line=True))
    type: str = field(metadata=_key("s", "Type", in_line=True))
    _: KW_ONLY
    backlog: int | None = field(default=None, metadata=_key("u", "Backlog", in_line=True))
    path: str | None = field(default=None, metadata=_key("s", "Path", in_line=True))
    umask: int | None = field(default=None, metadata=_key("u", "UMask", form=OCTAL, in_line=True))
    host: str | None = field(default=None, metadata=_key("s", "Host", in_line=True))
    port: int | None = field(default=None, metadata=_key("q", "Port", in_line=True))
    interface: str | None = field(default=None, metadata=_key("s", "Interface", in_line=True))
    reuseport: bool = field(default=False, metadata=_key("b", "ReusePort", in_line=True))
    fileno: int = field(metadata=_key("u", "FileNumber", in_line=True))
    unit: str | None = field(default=None, metadata=_key("s", "Unit", in_line=True))
    object_path: str | None = field(default=None, metadata=_key("o"))


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """A hosted process as it is: times in µs of CLOCK_REALTIME, the sizes in bytes, ``cpu_quota`` in per cent.

    ``state`` is 'running', 'exited', 'killed' (by a signal) or 'unknown'; ``exit_known`` says whether it has ended and
    ``exit_code`` is what it ended with, negative for a signal; ``exit_timestamp`` is when. ``acknowledged`` is the last
    sequence number that every consumer has acknowledged, None if papad is too old to say. ``unit`` is its systemd
    scope, None if it has none. ``object_path`` is the D-Bus object that shows it, None if papad is too old to say.
    """

    name: str = field(metadata=_key("s", "Name"))
    _: KW_ONLY
    pid: int = field(metadata=_key("u", "PID"))
    running: bool = field(metadata=_key("b", "Running"))
    started: int = field(metadata=_key("t", "Started"))
    args: Sequence[str] = field(metadata=_key("as", "Args"))
    uid: int = field(metadata=_key("u", "UID"))
    gid: int = field(metadata=_key("u", "GID"))
    working_dir: str = field(metadata=_key("s", "WorkingDirectory"))
    bufsize: int = field(metadata=_key("t", "BufferSize"))
    buffered: int = field(metadata=_key("t", "BufferedBytes"))
    dropped: int = field(metadata=_key("t", "DroppedBytes"))
    last_seq: int = field(metadata=_key("t", "LastSequence"))
    written: int = field(default=0, metadata=_key("t", "WrittenBytes"))
    acknowledged: int | None = field(default=None, metadata=_key("t", "AcknowledgedSequence"))
    exit_code: int | None = field(default=None, metadata=_key("i", "ExitCode"))
    unit: str | None = field(default=None, metadata=_key("s", "Unit"))
    memory_max: int | None = field(default=None, metadata=_key("t", "MemoryMax", in_line=True))
    cpu_quota: int | None = field(default=None, metadata=_key("u", "CPUQuota", in_line=True))
    tasks_max: int | None = field(default=None, metadata=_key("t", "TasksMax", in_line=True))
    journal: bool = field(default=False, metadata=_key("b", "Journal", in_line=True))
    state: str = field(default="", metadata=_key("s", "State"))
    exit_known: bool = field(default=False, metadata=_key("b", "ExitKnown"))
    exit_timestamp: int | None = field(default=None, metadata=_key("t", "ExitTimestamp"))
    stdout: str = field(default="pipe", metadata=_key("s", "Stdout", absent="pipe"))
    stderr: str = field(default="pipe", metadata=_key("s", "Stderr", absent="pipe"))
    overflow: str = field(default="drop", metadata=_key("s", "Overflow", absent="drop"))
    object_path: str | None = field(default=None, metadata=_key("o"))

    def __post_init__(self) -> None:
        if not self.state:  # papad itself, or an older papad, does not say it
            ended = "unknown" if self.exit_code is None else "killed" if self.exit_code < 0 else "exited"
            object.__setattr__(self, "state", "running" if self.running else ended)
            object.__setattr__(self, "exit_known", self.exit_code is not None)


SOCKET_KEYS: Final[dict[str, Key]] = {each.name: each.metadata["key"] for each in fields(SocketResult)}
PROCESS_KEYS: Final[dict[str, Key]] = {each.name: each.metadata["key"] for each in fields(ProcessResult)}


def pairs(item: SocketResult | ProcessResult) -> dict[str, object]:
    """Return what a line says of an item: what applies, numbers as they are, a flag if it is set, and ? if unknown."""
    table = SOCKET_KEYS if isinstance(item, SocketResult) else PROCESS_KEYS
    found = {name: (key.form, getattr(item, name)) for name, key in table.items() if key.in_line}
    return {
        name: value if form is NUMBER else form.write(value) or "?"
        for name, (form, value) in found.items()
        if value is not None and value is not False
    }
