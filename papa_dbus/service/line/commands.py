"""The line protocol's grammar: a line's bytes to a command, with everything about it checked.

Owns how words, quotes and name=value pairs are read: as Papa 1.0.6 reads what its client writes, and spoiling nothing.
No I/O; knows no kernel. What is wrong with a line is InvalidArgs, in words for the one who wrote it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from papa_dbus.errors import InvalidArgs
from papa_dbus.names import name_error
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_OPTIONS
from papa_dbus.service.items.options import find, parse_text
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
from papa_dbus.service.line.help import LINE_OPTIONS, find_command, help_text, option_names
from papa_dbus.service.line.words import Words

_OPTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

_ALIASES: Final = {"output": "bufsize"}
#: The options as they are typed in a line.
_SOCKET_OPTIONS: Final = option_names("make", "sockets")
_PROCESS_OPTIONS: Final = option_names("make", "processes")
#: Options that a line writes as one pair for each of their entries.
_DICTIONARIES: Final = frozenset(name for name, option in PROCESS_OPTIONS.items() if option.signature.startswith("a{"))


@dataclass(frozen=True, slots=True)
class MakeSocket:
    """make socket."""

    spec: SocketSpec


@dataclass(frozen=True, slots=True)
class MakeProcess:
    """make process, and whether to watch it at once."""

    spec: ProcessSpec
    watch: bool


@dataclass(frozen=True, slots=True)
class List:
    """list; ``kind`` is sockets, processes or values."""

    kind: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """remove, as list."""

    kind: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WatchProcesses:
    """watch."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetValue:
    """set; ``value`` None forgets it."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class GetValue:
    """get."""

    name: str


@dataclass(frozen=True, slots=True)
class Help:
    """help, and what it says."""

    text: str


@dataclass(frozen=True, slots=True)
class Quit:
    """quit."""


@dataclass(frozen=True, slots=True)
class ExitIfIdle:
    """exit-if-idle."""


Command = MakeSocket | MakeProcess | List | Remove | WatchProcesses | SetValue | GetValue | Help | Quit | ExitIfIdle


def parse(line: bytes) -> Command | None:
    """Return the command in a line, None if it has no word. Raises UnknownCommand or InvalidArgs."""
    words = Words(line.decode("utf-8", "surrogateescape"))
    if words.peek() is None:
        return None
    typed = [words.take("")]
    command = find_command(typed, partial=True)
    if command in _PARSERS:
        return _PARSERS[command](words)
    if words.peek() is not None:
        typed.append(words.take(""))
    words.from_client = typed == ["m", "s"]
    command = find_command(typed)
    return _PARSERS[command](words)


def _no_more(words: Words, hint: str = "'help' says how the command is written") -> None:
    if (word := words.peek()) is not None:
        raise InvalidArgs(f"{word[:60]!r} is one word too many; {hint}")


def _pair(words: Words) -> tuple[str, str] | None:
    """Take the next word where it is a name=value pair."""
    name, equals, value = (words.peek() or "").partition("=")
    if not equals or not (name.startswith("env.") or _OPTION_NAME.fullmatch(name)):
        return None  # a '=' in a program's path makes it no option
    words.take("")
    return name, value


def _unquoted(value: str, words: Words) -> str:
    """Remove the double quotes around it, which Papa's client adds if a value ends with a backslash."""
    if not words.exact and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def _make_socket(words: Words) -> MakeSocket:
    name = words.take("the name of the socket")
    options: dict[str, Any] = {}
    while (pair := _pair(words)) is not None:
        option = find(SOCKET_OPTIONS, pair[0], _SOCKET_OPTIONS)
        value = _unquoted(pair[1], words)
        if option.name == "umask" and words.from_client:
            value = _client_umask(value)
        _put(options, option.name, parse_text(option, value))
    _no_more(words, "an option is written NAME=VALUE, as port=8080 or path=/run/web.sock")
    return MakeSocket(SocketSpec(name, **options))


def _client_umask(text: str) -> str:
    """Papa's client writes a number as Python does, in decimal: 0o77 as 63. A person writes 077, and so does a string.

    The client always says ``m s``; in a command that is written out, umask=77 is octal like every umask in a text.
    """
    if text.isascii() and text.isdigit() and not text.startswith("0"):
        return f"0{int(text[:25]):o}"
    return text


def _put(options: dict[str, Any], name: str, value: object) -> None:
    if name in options:
        raise InvalidArgs(f"option '{name}' is given twice")
    options[name] = value


@dataclass(slots=True)
class _ProcessOptions:
    fields: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    rlimits: dict[str, Any] = field(default_factory=dict)
    line: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: str, words: Words) -> None:
        """Note one name=value pair."""
        kind, _, entry = name.partition(".")
        if name.startswith("env."):
            # A variable may well have quotes of its own: only those that Papa's client puts there are taken away.
            wrapped = value.endswith('\\"')
            _put(self.env, entry, _unquoted(value, words) if wrapped else value)
            return
        value = _unquoted(value, words)
        if kind == "rlimit" and entry:
            option = replace(PROCESS_OPTIONS["rlimits"], name=f"rlimit.{entry[:60]}")
            _put(self.rlimits, entry.lower(), parse_text(option, value))
        elif name in LINE_OPTIONS:
            self._add_line_option(name, value, words)
        elif name in _DICTIONARIES:
            raise InvalidArgs(f"option '{name}': write {name.rstrip('s')}.NAME=VALUE")
        else:
            option = find(PROCESS_OPTIONS, _ALIASES.get(name, name), _PROCESS_OPTIONS)
            _put(self.fields, option.name, parse_text(option, value))

    def _add_line_option(self, name: str, value: str, words: Words) -> None:
        _put(self.line, name, parse_text(LINE_OPTIONS[name], value))
        if name == "quote":
            words.requote(value)


def _make_process(words: Words) -> MakeProcess:
    name = words.take("the name of the process")
    options = _ProcessOptions()
    while (pair := _pair(words)) is not None:
        options.add(*pair, words)
    shell = options.line.get("shell")
    if shell and (typed := words.as_typed()):
        command: tuple[str, ...] = ("/bin/sh", "-c", typed)
    else:
        command = words.rest()
        if shell and command:
            command = ("/bin/sh", "-c", " ".join(command))
    spec = ProcessSpec(name, command, env=options.env or None, rlimits=options.rlimits, **options.fields)
    return MakeProcess(spec, watch=bool(options.line.get("watch")))


def _set(words: Words) -> SetValue:
    name = words.take("the name of the value")
    if problem := name_error(name):  # without a value it would else be taken for a pattern
        raise InvalidArgs(f"value name {name[:60]!r}: {problem}")
    return SetValue(name, words.text() or None)


def _get(words: Words) -> GetValue:
    name = words.take("the name of the value")
    _no_more(words)
    return GetValue(name)


def _alone(command: Command) -> Callable[[Words], Command]:
    def parse_alone(words: Words) -> Command:
        _no_more(words)
        return command

    return parse_alone


def _selecting(make: Callable[[str, tuple[str, ...]], Command], kind: str) -> Callable[[Words], Command]:
    return lambda words: make(kind, words.rest())


_PARSERS: Final[dict[Sequence[str], Callable[[Words], Command]]] = {
    ("make", "sockets"): _make_socket,
    ("make", "processes"): _make_process,
    **{("list", kind): _selecting(List, kind) for kind in ("sockets", "processes", "values")},
    **{("remove", kind): _selecting(Remove, kind) for kind in ("sockets", "processes", "values")},
    ("watch", "processes"): lambda words: WatchProcesses(words.rest()),
    ("set",): _set,
    ("get",): _get,
    ("quit",): _alone(Quit()),
    ("exit-if-idle",): _alone(ExitIfIdle()),
    ("help",): lambda words: Help(help_text(words.rest())),
}
