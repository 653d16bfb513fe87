"""What may follow what: states and events are Enums, and a table has the state that follows.

What a table does not have cannot happen. If it does, that is a defect, and it is an error at once.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

_State = TypeVar("_State", bound=Enum)
_Event = TypeVar("_Event", bound=Enum)


class TransitionError(RuntimeError):
    """An event for which the table has nothing in this state."""


def follow(table: Mapping[_State, Mapping[_Event, _State]], state: _State, event: _Event) -> _State:
    """Return the state after an event. Raises TransitionError if the table does not have it."""
    try:
        return table[state][event]
    except KeyError:
        raise TransitionError(f"{type(state).__name__} {state.name}: {event.name} cannot happen") from None
