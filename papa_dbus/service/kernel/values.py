"""The values that clients leave with papad: text by name, with bounds."""

from collections.abc import Iterator, Sequence

from papa_dbus.errors import InvalidArgs, Limit
from papa_dbus.service import audit, limits
from papa_dbus.service.items.registry import Registry
from papa_dbus.service.items.specs import check_name
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel.changes import Tell
from papa_dbus.service.kernel.selection import all_found, check_some, not_there


class Values:
    """The values by name. What is done is stored, recorded and told."""

    def __init__(self, store: Store, tell: Tell) -> None:
        self._store = store
        self._tell = tell
        self._items: Registry[str] = Registry()
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    def recover(self) -> None:
        """Read what an earlier papad has stored."""
        for name, value in self._store.values().items():
            self._keep(name, value)

    def set(self, name: str, value: str) -> None:
        """Keep a value. Raises InvalidArgs or Limit if it cannot be kept."""
        new = name not in self._items
        self._check(name, value)
        self._store.set_value(name, value)
        self._keep(name, value)
        if new:  # a new text for it is none that is made or removed: managers write some every second
            audit.record("made", "value", name)
        self._tell("value", "added" if new else "changed", name)

    def _check(self, name: str, value: str) -> None:
        check_name("value", name)
        size = _size(name, value)
        if "\0" in value:  # the message bus would end the connection over it (D-Bus Specification, strings)
            raise InvalidArgs(f"value '{name}': a NUL byte is not possible there")
        if size > limits.MAX_VALUE_BYTES:
            raise Limit(
                f"value '{name}': a value may have {limits.MAX_VALUE_BYTES} bytes at most; store less, or a file's name"
            )
        if self._size - self._size_of(name) + size > limits.MAX_VALUES_BYTES:
            raise Limit(
                f"value '{name}': all values together may have {limits.MAX_VALUES_BYTES} bytes at most;"
                " remove some first"
            )
        if name not in self._items and len(self._items) >= limits.MAX_VALUES:
            raise Limit(f"value '{name}': there may be {limits.MAX_VALUES} values at most; remove some first")

    def _size_of(self, name: str) -> int:
        return _size(name, self._items[name]) if name in self._items else 0

    def _keep(self, name: str, value: str) -> None:
        self._size += _size(name, value) - self._size_of(name)
        self._items[name] = value

    def get(self, name: str) -> str:
        """Return the value. Raises NotFound."""
        if name not in self._items:
            raise not_there("value", name)
        return self._items[name]

    def each(self, patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Give those that match, one by one, all without a pattern: what goes meanwhile is left out."""
        found, _ = self._items.select(patterns)
        return ((name, self._items[name]) for name in found if name in self._items)

    def removing(self, patterns: Sequence[str], missing_ok: bool) -> Iterator[str]:
        """Forget values, one by one; give their names. Raises InvalidArgs for all at once, and NotFound."""
        if "*" in check_some(patterns, "value"):
            raise InvalidArgs(
                "values cannot be removed all at once: '*' alone is refused; give names, or beginnings of names"
            )
        found, missing = self._items.select(patterns)
        if not missing_ok:
            all_found(found, missing, "value")
        return self._remove(found)

    def _remove(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if name in self._items:
                self._store.remove_value(name)
                self._size -= _size(name, self._items.pop(name))
                audit.record("removed", "value", name)
                self._tell("value", "removed", name)
                yield name


def _size(name: str, value: str) -> int:
    try:
        return len(name.encode()) + len(value.encode())
    except UnicodeEncodeError:
        raise InvalidArgs(f"value {name!r}: it is not UTF-8") from None
