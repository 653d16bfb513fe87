"""Items by name, and their names in order: a pattern costs what it finds, not what there is."""

from bisect import bisect_left, insort
from collections import UserDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from papa_dbus import names
from papa_dbus.errors import Limit
from papa_dbus.service import limits

_Item = TypeVar("_Item")
_Holder = TypeVar("_Holder", bound=Hashable)
#: It comes after all characters that a name may have.
_LAST = "\U0010ffff"


class Registry(UserDict[str, _Item]):
    """A dictionary that also keeps its names sorted."""

    def __init__(self) -> None:
        self._sorted: list[str] = []
        super().__init__()

    def __setitem__(self, name: str, item: _Item) -> None:
        if name not in self.data:
            insort(self._sorted, name)
        self.data[name] = item

    def __delitem__(self, name: str) -> None:
        del self.data[name]
        del self._sorted[bisect_left(self._sorted, name)]

    def beginning(self, prefix: str) -> list[str]:
        """Return the names that begin so, in order."""
        first = bisect_left(self._sorted, prefix)
        return self._sorted[first : bisect_left(self._sorted, prefix + _LAST, first)]

    def select(
        self, patterns: Sequence[str], by_number: Callable[[int], str | None] = lambda number: None
    ) -> tuple[list[str], list[str]]:
        """Return the names that patterns stand for, and the patterns that are missing. Without a pattern it is all.

        A pattern is a name, a prefix with a final '*', or a number that ``by_number`` has a name for.
        """
        if not patterns:
            return self._sorted.copy(), []
        if len(patterns) > limits.MAX_PATTERNS:
            raise Limit(f"there may be {limits.MAX_PATTERNS} names or patterns in one request at most; make several")
        found: dict[str, None] = {}
        missing: list[str] = []
        covered = _covered(patterns)
        for pattern in dict.fromkeys(patterns):
            if pattern in self.data:
                found[pattern] = None
            elif names.is_prefix(pattern):
                if pattern not in covered:
                    found |= dict.fromkeys(self.beginning(pattern[:-1]))
            elif is_number(pattern) and (name := by_number(int(pattern))) is not None:
                found[name] = None
            else:
                missing.append(pattern)
        return list(found), missing


class Patterns(Generic[_Holder]):
    """Holders of patterns. Finding those of a name costs what the name is long, not how many patterns there are."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[_Holder, None]] = {}  # by pattern
        self._patterns: dict[_Holder, tuple[str, ...]] = {}

    def add(self, holder: _Holder, patterns: Sequence[str]) -> None:
        """Note what a holder holds; no pattern means all names."""
        self._patterns[holder] = tuple(dict.fromkeys(patterns)) or ("*",)
        for pattern in self._patterns[holder]:
            self._holders.setdefault(pattern, {})[holder] = None

    def remove(self, holder: _Holder) -> int:
        """Forget a holder; returns how many patterns it held."""
        patterns = self._patterns.pop(holder, ())
        for pattern in patterns:
            holders = self._holders[pattern]
            del holders[holder]
            if not holders:
                del self._holders[pattern]
        return len(patterns)

    def holders_of(self, name: str) -> list[_Holder]:
        """Return those of which a pattern stands for this name."""
        found = dict(self._holders.get(name, {}))
        for end in range(len(name) + 1):
            found |= self._holders.get(f"{name[:end]}*", {})
        return list(found)


def is_number(pattern: str) -> bool:
    """Return whether a pattern can be a PID or a file number."""
    return pattern.isascii() and pattern.isdigit() and len(pattern) < 20


def _covered(patterns: Sequence[str]) -> set[str]:
    """Return the prefixes that stand for nothing which a shorter one does not find: each would cost as much as that."""
    covered = set()
    shortest = None
    for prefix in sorted({pattern[:-1] for pattern in patterns if names.is_prefix(pattern)}):
        if shortest is not None and prefix.startswith(shortest):
            covered.add(f"{prefix}*")
        else:
            shortest = prefix
    return covered
