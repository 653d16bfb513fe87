"""A line's words, quoted as the line asks for: by backslashes, as in a shell, or as JSON. No I/O."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Final

from papa_dbus.errors import InvalidArgs

# A backslash before a space keeps the space in the word, which is how Papa's client writes one; any other is itself.
# Possessive, since a word may have two million of them.
_WORD = re.compile(r"(?:[^ \\]++|\\ ?+)++")

#: shlex takes a microsecond for each character, and nobody else has a turn meanwhile.
_MAX_SHELL_TEXT: Final = 32 * 1024
#: Words of a command, as many as a call on the bus may have elements. The text of a value may have any number.
MAX_WORDS: Final = 16_384
#: Stands for a space that belongs to a word. No line has it: what is not UTF-8 is decoded to others.
_ESCAPED_SPACE: Final = "\ud800"


class Words:
    """A line's words, taken one by one; what has not been taken may still be read by other rules."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._begin = 0  # of the word that was looked at last
        self._next: str | None = None
        self._words = self._split()
        self.exact = False  # quoted by other rules: a word is what it says
        self.from_client = False  # written as Papa's client writes it

    def _split(self) -> Iterator[str]:
        for count, match in enumerate(_WORD.finditer(self._text)):
            if count >= MAX_WORDS:
                raise InvalidArgs(f"a command may have {MAX_WORDS} words at most")
            self._begin, self._at = match.span()
            yield match[0].replace("\\ ", " ")

    def peek(self) -> str | None:
        """Return the next word, None at the end."""
        if self._next is None:
            self._next = next(self._words, None)
        return self._next

    def take(self, what: str) -> str:
        """Return the next word, which must be there."""
        word = self.peek()
        if word is None:
            raise InvalidArgs(f"{what} is missing")
        self._next = None
        return word

    def rest(self) -> tuple[str, ...]:
        """Return all words that are left."""
        first = [] if self._next is None else [self._next]
        self._next = None
        return (*first, *self._words)

    def text(self) -> str:
        """Return all words that are left, with one space between two."""
        if self.peek() is None:
            return ""
        words = self._text[self._begin :].replace("\\ ", _ESCAPED_SPACE).split(" ")
        return " ".join(filter(None, words)).replace(_ESCAPED_SPACE, " ")

    def as_typed(self) -> str:
        """Return all that is left, with every space and backslash; nothing if no word is, or other rules quote them."""
        return "" if self.exact or self.peek() is None else self._text[self._begin :]

    def requote(self, how: str) -> None:
        """Read what follows the last word that was taken by a shell's rules, or as JSON."""
        rest = self._text[self._at :]
        if how == "shell":
            self._words = iter(_shell_words(rest))
        elif how == "json":
            self._words = iter(_json_words(rest))
        else:
            raise InvalidArgs(f"option 'quote': {how[:60]!r} is none of shell, json")
        self.exact = True


def _shell_words(text: str) -> list[str]:
    if len(text) > _MAX_SHELL_TEXT:
        raise InvalidArgs(f"option 'quote': {_MAX_SHELL_TEXT} characters may be left to shell; json takes all")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidArgs(f"option 'quote': {error}") from None


def _json_words(text: str) -> list[str]:
    try:
        words = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgs(f"option 'quote': what follows is not JSON: {error}") from None
    if isinstance(words, list) and len(words) > MAX_WORDS:
        raise InvalidArgs(f"a command may have {MAX_WORDS} words at most")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidArgs("option 'quote': what follows is not a JSON array of strings")
    for word in words:
        try:
            word.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InvalidArgs("option 'quote': there is half of a surrogate pair in what follows") from None
    return words
