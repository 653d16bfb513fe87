"""The line protocol's commands, in one table, and what `help` says about them.

Owns the words of a command and the help's text; the options' part of it comes from the one table of options. No I/O.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from papa_dbus.errors import InvalidArgs
from papa_dbus.forms import FLAG, WORD
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_OPTIONS, Option


class UnknownCommand(InvalidArgs):
    """A line's first word is no command."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One command: how it is written, what it does in a line, and what else there is to say."""

    usage: str
    summary: str
    text: str = ""


_PLAIN = "A NAME is a whole name, or a beginning and a final *."
_PATTERNS = "A NAME is a whole name, a beginning and a final *, or {number}."
_FILE_NUMBER = _PATTERNS.format(number="a socket's file number")
_PID = _PATTERNS.format(number="a process's PID")
_WORDS = "A space that belongs to a word is written with a backslash before it."

#: By the words of a command, the second one in the plural; a command's kinds are those with the same first word.
COMMANDS: Final[dict[tuple[str, ...], Topic]] = {
    ("make", "sockets"): Topic(
        "make socket NAME [OPTION=VALUE ...]",
        "create a socket that processes can use",
        """\
Asking again with the same options shows the socket that is there.
A process gets it by $(socket.NAME.fileno) or $(socket.NAME.port) in its arguments.

  make socket web port=8080
  make socket app path=/run/app.sock umask=007""",
    ),
    ("list", "sockets"): Topic(
        "list sockets [NAME ...]", "show sockets", f"unit is the socket unit that passed it to papad.\n{_FILE_NUMBER}"
    ),
    ("remove", "sockets"): Topic(
        "remove sockets NAME ...",
        "close sockets and forget them",
        f"""\
Processes that have one keep it.
One that has a unit is there again when papad starts anew: the unit passes it.
{_FILE_NUMBER}""",
    ),
    ("make", "processes"): Topic(
        "make process NAME [OPTION=VALUE ...] PROGRAM [ARGUMENT ...]",
        "start a program",
        f"""\
The options end where the program begins.
{_WORDS}
What cannot be written so can be after quote=: the rest of the line is then
split as a shell does it, or is a JSON array. With shell=1 a shell gets the
rest of the line as it was typed.

  make process web working_dir=/srv/web uid=www-data /usr/bin/web --fd $(socket.web.fileno)
  make process hi env.WHO=you rlimit.nofile=1024 shell=1 echo hello $WHO
  make process odd quote=shell /usr/bin/printf '%s|' 'two words' ''
  make process odd quote=json ["/usr/bin/printf", "%s|", "two\\nlines", ""]""",
    ),
    ("list", "processes"): Topic(
        "list processes [NAME ...]",
        "show processes",
        f"""\
exit_code is there once a process has ended (below 0: the signal that ended it),
dropped where output fell out of a full buffer.
In args a space is written \\x20 and = is written \\x3d.
{_PID}""",
    ),
    ("watch", "processes"): Topic(
        "watch processes [NAME ...]",
        "receive output and exit codes as they come",
        f"""\
A piece comes as out:NAME:SECONDS:LENGTH or err:NAME:SECONDS:LENGTH and LENGTH
bytes, an end as closed:NAME:SECONDS:CODE. After "] " Papa waits: an empty line
acknowledges what came and asks for more, q acknowledges it and ends the watch.
What is not acknowledged is kept, and comes again. Once all has ended and was
acknowledged the answer is "Nothing left to watch"; with ": removed" behind it
if the last process was removed.
CODE is below 0 if a signal ended it, and 256 if nobody saw how it ended.
{_PID}""",
    ),
    ("remove", "processes"): Topic(
        "remove processes NAME ...",
        "forget the output of processes",
        f"The processes themselves go on, and leave the list when they end.\n{_PID}",
    ),
    ("set",): Topic(
        "set NAME [VALUE]",
        "keep a value; without one, forget it",
        f"{_WORDS}\n\n  set count 5\n  set count",
    ),
    ("get",): Topic("get NAME", "show a value", "The answer is empty where there is none."),
    ("list", "values"): Topic("list values [NAME ...]", "show values", _PLAIN),
    ("remove", "values"): Topic("remove values NAME ...", "forget values", f"{_PLAIN} All at once (*) is refused."),
    ("quit",): Topic("quit", "end this connection"),
    ("exit-if-idle",): Topic("exit-if-idle", "end papad if it holds no socket, value or process"),
    ("help",): Topic("help [COMMAND]", "say more about a command"),
}

_OVERVIEW_FOOT = """
The words of a command may be shortened (l p is list processes), but for
exit-if-idle."""

#: Options of make process that are the line protocol's own.
LINE_OPTIONS: Final = {
    "watch": Option("watch", "b", "1: watch it at once", FLAG),
    "shell": Option("shell", "b", "1: run what follows with /bin/sh -c", FLAG),
    "quote": Option("quote", "s", "shell or json: how the rest of the line is written", WORD),
}
_PAIRS = (
    ("env.NAME", "one variable of the environment; the first one replaces the whole"),
    ("rlimit.NAME", "a resource limit: nofile, core, ...; a number or infinity"),
    ("output", "another name for bufsize"),
)

_NOT_STOPPED = "Papa does not stop or restart processes; type papactl kill NAME in a shell, or ask their manager"
#: What people type from habit, and what to type instead.
_INSTEAD: Final = {
    **dict.fromkeys(("exit", "bye", "logout", "close", "logoff"), "type quit to end this connection"),
    **dict.fromkeys(("stop", "kill", "restart", "reload", "signal"), _NOT_STOPPED),
    **dict.fromkeys(("start", "run", "add"), "type make process NAME PROGRAM"),
    **dict.fromkeys(("ps", "ls", "status", "show"), "type list processes, list sockets or list values"),
    **dict.fromkeys(("tail", "logs", "log"), "type watch processes NAME"),
    **dict.fromkeys(("rm", "delete", "del"), "type remove processes NAME"),
    "unset": "type set NAME without a value",
}


def first_words() -> list[str]:
    """Return the first words of the commands, sorted."""
    return sorted({words[0] for words in COMMANDS})


def second_words(first: str) -> list[str]:
    """Return what may follow that first word, sorted; nothing if it stands alone."""
    return sorted(words[1] for words in COMMANDS if words[0] == first and len(words) > 1)


def find_command(words: Sequence[str], partial: bool = False) -> tuple[str, ...]:
    """Return the command that the (perhaps shortened) words begin with.

    Raises UnknownCommand, or InvalidArgs where the second word is missing (unless ``partial``) or wrong.
    """
    first = _first_word(words[0].lower())
    seconds = second_words(first)
    if not seconds or (partial and len(words) < 2):
        return (first,)
    choices = ", ".join(seconds)
    if len(words) < 2:
        raise InvalidArgs(f'"{first}" must be followed by one of: {choices}')
    for second in seconds:
        if second.startswith(words[1].lower()):
            return (first, second)
    raise InvalidArgs(f'Bad "{first}" command. The following word must be one of: {choices}')


def _first_word(word: str) -> str:
    if word == "?":
        return "help"
    for first in first_words():
        if first.startswith(word):
            if first == "exit-if-idle" != word:
                if word in _INSTEAD:
                    raise UnknownCommand(f'Unknown command "{word}": {_INSTEAD[word]}')
                raise UnknownCommand('You cannot abbreviate "exit-if-idle"')
            return first
    if word in _INSTEAD:
        raise UnknownCommand(f'Unknown command "{word}": {_INSTEAD[word]}')
    raise UnknownCommand(f'Unknown command "{word[:60]}"; type help')


def help_text(words: Sequence[str]) -> str:
    """Return what there is to say about a command, about all with one first word, or about all."""
    if not words:
        return _overview()
    command = find_command(words, partial=True)
    chosen = [key for key in COMMANDS if key[: len(command)] == command]
    if len(chosen) == 1:
        return _details(chosen[0])
    topics = [COMMANDS[key] for key in chosen]
    more = ["help " + " ".join(topic.usage.split()[:2]) + " says more" for topic in topics]
    return "\n".join([*_table((topic.usage, topic.summary) for topic in topics), "", *more])


def _overview() -> str:
    rows = _table((topic.usage.partition(" [OPTION")[0], topic.summary) for topic in COMMANDS.values())
    return "\n".join(["Commands:", *rows, _OVERVIEW_FOOT, "help COMMAND says more about one, as in: help make process"])


def _details(command: tuple[str, ...]) -> str:
    topic = COMMANDS[command]
    parts = [f"{topic.usage}\n    {topic.summary}"]
    if rows := _option_rows(command):
        parts.append("\n".join(["Options:", *_table(rows)]))
    if topic.text:
        parts.append(topic.text)
    return "\n\n".join(parts)


def option_names(*command: str) -> list[str]:
    """Return the options of a command, as they are typed."""
    return [name for name, _ in _option_rows(command)]


def _option_rows(command: tuple[str, ...]) -> list[tuple[str, str]]:
    if command == ("make", "sockets"):
        return _told(SOCKET_OPTIONS.values())
    if command != ("make", "processes"):
        return []
    plain = (option for option in PROCESS_OPTIONS.values() if not option.signature.startswith("a{"))
    return [*_told(plain), *_PAIRS, *_told(LINE_OPTIONS.values())]


def _told(options: Iterable[Option]) -> list[tuple[str, str]]:
    return [(option.name, option.described) for option in options]


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    return [f"  {left:{width}}  {right}" for left, right in rows]
