"""The options of MakeSocket, MakeProcess and Watch: one table for both front doors.

Each row has the option's name, its D-Bus signature, how it is read from a line of text, and one line of help.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from papa_dbus.errors import InvalidArgs

_MULTIPLES = {"k": 1024, "m": 1024**2, "g": 1024**3}
_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off", ""})


def text_number(text: str) -> int:
    """A whole number, decimal."""
    if not text.isascii() or not text.isdigit():
        raise ValueError("is not a whole number")
    return int(text[:25])


def text_size(text: str) -> int:
    """A number of bytes, with k, m or g for its multiples of 1024."""
    if text and text[-1].lower() in _MULTIPLES:
        return text_number(text[:-1]) * _MULTIPLES[text[-1].lower()]
    return text_number(text)


def text_percent(text: str) -> int:
    """A whole number of per cent, with or without its sign."""
    return text_number(text.removesuffix("%"))


def text_octal(text: str) -> int:
    """A file mode mask, always octal, as a shell's umask takes it."""
    if not text or any(digit not in "01234567" for digit in text):
        raise ValueError("is not an octal number")
    return int(text[:25], 8)


def text_flag(text: str) -> bool:
    """Yes or no."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("is neither 1 nor 0")


def text_id(text: str) -> str | int:
    """A user or group by number or name."""
    return text_number(text) if text.isdigit() else text


def text_names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name for name in text.split(",") if name)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: what it is called, its type on the bus, how a line of text says it, what it does."""

    name: str
    signature: str
    from_text: Callable[[str], object]
    help: str


def _table(rows: Iterable[Option]) -> dict[str, Option]:
    return {row.name: row for row in rows}


SOCKET_OPTIONS = _table(
    [
        Option("family", "s", str, "inet, inet6 or unix (unix where a path is given, else inet)"),
        Option("type", "s", str, "stream, dgram, seqpacket, raw or rdm (stream)"),
        Option("host", "s", str, "address to bind (loopback; every address where an interface is given)"),
        Option("port", "q", text_number, "port to bind; 0 lets Linux choose (0)"),
        Option("path", "s", str, "absolute path of a Unix socket's file"),
        Option("umask", "u", text_octal, "octal mask for the mode of that file"),
        Option("backlog", "u", text_number, "listen backlog (5)"),
        Option("interface", "s", str, "bind to one network interface only"),
        Option("reuseport", "b", text_flag, "each process gets a socket of its own on the same port"),
        Option("token", "s", str, "made up for this request: asked again with it, the answer is the same item"),
    ]
)

PROCESS_OPTIONS = _table(
    [
        Option("env", "a{ss}", str, "the whole environment (a login-like minimum)"),
        Option("working_dir", "s", str, "absolute directory to start in (the user's home)"),
        Option("uid", "v", text_id, "user to run as, by name or number (papad's own)"),
        Option("gid", "v", text_id, "group to run as, by name or number (the user's)"),
        Option("rlimits", "a{st}", text_number, "resource limits by lower-case name, hard and soft"),
        Option("umask", "u", text_octal, "octal file mode mask (022)"),
        Option("stdout", "s", str, "pipe or null (pipe)"),
        Option("stderr", "s", str, "pipe, null or stdout (pipe)"),
        Option("bufsize", "t", text_size, "bytes of output kept until acknowledged; 0 keeps none (2m)"),
        Option("overflow", "s", str, "what a full buffer does: drop the oldest, or block (drop)"),
        Option("sockets", "as", text_names, "hosted sockets handed over by the LISTEN_FDS protocol"),
        Option("memory_max", "t", text_size, "bytes of memory for it and its descendants (no limit)"),
        Option("cpu_quota", "u", text_percent, "per cent of one processor for them; 200 is two (no limit)"),
        Option("tasks_max", "t", text_number, "processes and threads that they may be (no limit)"),
        Option("journal", "b", text_flag, "output goes to the systemd journal, too (0)"),
        Option("token", "s", str, "made up for this request: asked again with it, the answer is the same item"),
    ]
)

WATCH_OPTIONS = _table(
    [
        Option("mode", "s", str, "consume or observe (consume)"),
        Option("window", "t", text_size, "bytes sent ahead of an acknowledgement (1m)"),
        Option("follow", "b", text_flag, "observe processes made later, too"),
    ]
)


def find(table: dict[str, Option], name: str) -> Option:
    """The option of that name, or InvalidArgs with the names that there are."""
    if name not in table:
        raise InvalidArgs(f"unknown option {name[:60]!r}; there are: {', '.join(table)}")
    return table[name]


def parse_text(option: Option, text: str) -> object:
    """An option's value from text, or InvalidArgs that names the option."""
    try:
        return option.from_text(text)
    except ValueError as error:
        raise InvalidArgs(f"option '{option.name}': {text[:60]!r} {error}") from None
