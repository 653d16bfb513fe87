"""What a method of the bus answers: at once, or in steps if it is long; or that it refuses."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from papa_dbus import errors
from papa_dbus.bus import Message
from papa_dbus.bus.bus import MAX_MESSAGE, Entries
from papa_dbus.errors import PapaError
from papa_dbus.service.dbus import conversion
from papa_dbus.service.steps import Steps

log = logging.getLogger(__name__)

_ERROR = "org.freedesktop.DBus.Error."

Result = tuple[Any, ...]
Handler = Callable[[Message], "Result | Awaitable[Result]"]


class Refused(Exception):
    """An answer of the bus's own kind: its error name and text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = _ERROR + name


def error_of(what: str, error: Exception) -> tuple[str, str]:
    """Return an error's name on the bus, and its text. One that is nobody's but papad's own is logged."""
    if isinstance(error, Refused):
        return error.name, conversion.replace_invalid_utf8(str(error))
    if isinstance(error, PapaError):
        return errors.dbus_name(error), conversion.replace_invalid_utf8(str(error))
    log.error("%s failed", what, exc_info=error)
    return errors.dbus_name(PapaError("")), "internal error; the journal of papad has the details"


def after(done: Awaitable[None] | None, answer: Callable[[], Result | Awaitable[Result]]) -> Result | Awaitable[Result]:
    """Answer once something is done, None: at once."""
    return answer() if done is None else _after(done, answer)


async def _after(done: Awaitable[None], answer: Callable[[], Result | Awaitable[Result]]) -> Result:
    await done
    result = answer()
    return result if isinstance(result, tuple) else await result


class Answers:
    """Answers that may be long. Those that take several steps are put together one after the other."""

    def __init__(self) -> None:
        self._steps = Steps()

    def dictionary(self, signature: str, entries: Iterator[tuple[str, Any]]) -> Result | Awaitable[Result]:
        """Answer with a dictionary, however large."""
        encoded = Entries(signature)

        def add(some: list[tuple[str, Any]]) -> None:
            encoded.add(dict(some))
            if len(encoded.data) > MAX_MESSAGE:
                raise errors.Limit(f"the answer has more than {MAX_MESSAGE} bytes: ask for less, with patterns")

        return self._steps.take(entries, add, lambda: (encoded,))

    def structs(self, signature: str, items: Iterator[Any]) -> Result | Awaitable[Result]:
        """Answer with an array of structs, however long it takes."""
        encoded = Entries(signature)
        return self._steps.take(items, encoded.add, lambda: (encoded,))

    def names(self, items: Iterator[str]) -> Result | Awaitable[Result]:
        """Answer with names, however long each takes."""
        found: list[str] = []
        return self._steps.take(items, found.extend, lambda: (found,))

    def text(self, pieces: Iterator[str]) -> Result | Awaitable[Result]:
        """Answer with one text."""
        found: list[str] = []
        return self._steps.take(pieces, found.extend, lambda: ("".join(found),))
