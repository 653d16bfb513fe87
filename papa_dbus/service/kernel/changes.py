"""Changes of what papad holds, and who hears of them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)

Kind = Literal["socket", "value", "process"]
What = Literal["added", "changed", "removed"]
#: What the registries call after a change: kind, what, name.
Tell = Callable[[Kind, What, str], None]


@dataclass(frozen=True, slots=True)
class Change:
    """Something has become another: ``changed`` is a process's end."""

    kind: Kind
    what: What
    name: str


class Changes:
    """Those who hear of changes: front ends, and papad's status."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Change], None]] = []

    def tell(self, kind: Kind, what: What, name: str) -> None:
        """Tell every listener."""
        for listener in self.listeners:
            try:
                listener(Change(kind, what, name))
            except Exception:  # what has changed has changed, and others are still to be told
                log.exception("a change of %s '%s' could not be told", kind, name)
