"""Find an option of MakeSocket, MakeProcess and Watch, and read it from text: for both front ends.

What there is is papa_dbus.schema's. No I/O.
"""

from collections.abc import Iterable, Mapping

from papa_dbus.errors import InvalidArgs
from papa_dbus.schema import Option


def find(table: Mapping[str, Option], name: str, typed: Iterable[str] = ()) -> Option:
    """Return the option of that name. Raises InvalidArgs with the names that there are, as they are ``typed``."""
    if name not in table:
        raise InvalidArgs(f"unknown option {name[:60]!r}; there are: {', '.join(typed or table)}")
    return table[name]


def parse_text(option: Option, text: str) -> object:
    """Return an option's value from text. Raises InvalidArgs that names the option."""
    try:
        return option.form.read(text)
    except ValueError as error:
        raise InvalidArgs(f"option '{option.name}': {text[:60]!r} {error}") from None
