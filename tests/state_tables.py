"""What the tests of a state table ask of it."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeVar

_State = TypeVar("_State", bound=Enum)
_Event = TypeVar("_Event", bound=Enum)


def forbidden(table: Mapping[_State, Mapping[_Event, _State]], events: type[_Event]) -> list[tuple[_State, _Event]]:
    """Return each state with each event that cannot happen in it."""
    return [(state, event) for state, row in table.items() for event in events if event not in row]


def reachable(table: Mapping[_State, Mapping[_Event, _State]], first: Iterable[_State]) -> set[_State]:
    """Return the states that can follow, one way or another, and the first ones."""
    found: set[_State] = set()
    to_look_at = set(first)
    while to_look_at:
        state = to_look_at.pop()
        found.add(state)
        to_look_at |= set(table[state].values()) - found
    return found
