"""Words of the line protocol, as a client writes them and as it reads what papad answers."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from papa_dbus.errors import NoReply, PapaError
from papa_dbus.forms import NUMBER
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_KEYS, SOCKET_OPTIONS

_OPTIONS = SOCKET_OPTIONS | PROCESS_OPTIONS  # what both have, both write alike
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|([nrt\\]))")
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
#: How the numbers of a socket and of a process are read; all else is text.
SOCKET_NUMBERS = {name: int for name, key in SOCKET_KEYS.items() if key.form is NUMBER}
PROCESS_NUMBERS: dict[str, Callable[[str], Any]] = {
    "pid": int,
    "started": float,
    "running": lambda text: text == "True",
}


def word(text: str) -> str:
    """A word as the protocol has it. Raises PapaError for what a line cannot hold."""
    if "\n" in text or "\r" in text:
        raise PapaError(
            f"{text[:60]!r} has a line's end in it, which the line protocol cannot carry: use a message bus"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PapaError(f"{text[:60]!r} is no text that can be sent") from None
    return text.replace(" ", "\\ ")


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Options as Papa 1.0.6 writes them. One that is not known papad refuses by its name."""
    words = []
    for name, value in options.items():
        option = _OPTIONS.get(name)
        write = option.form.write if option is not None else str
        if isinstance(value, Mapping):
            words += [_pair(f"{name.removesuffix('s')}.{key}", write(of)) for key, of in value.items()]
        else:
            words.append(_pair(name, write(value)))
    return words


def _pair(name: str, text: str) -> str:
    if text.endswith("\\"):  # it would join this word and the next
        text = f'"{text}"'
    return f"{name}={word(text)}"


def pairs_of(line: str, types: Mapping[str, Callable[[str], Any]]) -> tuple[str, dict[str, Any]]:
    """An item's name and its pairs; ``args`` comes last and takes the rest of the line."""
    name, _, rest = line.partition(" ")
    rest, _, arguments = rest.partition(" args=")
    words = [word.partition("=") for word in rest.split(" ")]
    try:
        pairs = {key: types.get(key, _plain)(value) for key, _, value in words}
    except ValueError:
        raise NoReply(f"papad answered what is not understood: {line[:200]!r}") from None
    if arguments:
        pairs["args"] = " ".join("" if word == '""' else _plain(word) for word in arguments.split(" "))
    return name_of(name), pairs


def name_of(text: str) -> str:
    """A name at the beginning of a line: one that looks like the prompt is written otherwise, no other."""
    return ">" if text == "\\x3e" else text


def _plain(text: str) -> str:
    """A word that the server has escaped; a value it gives as it is, but for what cannot stand in a line."""
    return _ESCAPE.sub(lambda match: _NAMED[match[3]] if match[3] else chr(int(match[1] or match[2], 16)), text)
