"""The values that clients leave with the kernel: text by name."""

from papa_dbus.errors import InvalidArgs, Limit, NotFound
from papa_dbus.service import limits
from papa_dbus.service.items.registry import Registry
from papa_dbus.service.items.specs import check_name


class Values:
    """A dictionary with bounds."""

    def __init__(self) -> None:
        self.items: Registry[str] = Registry()
        self._size = 0

    def check(self, name: str, value: str) -> None:
        """Raise InvalidArgs or Limit where a value cannot be kept."""
        check_name("value", name)
        size = _size(name, value)
        if "\0" in value:  # the message bus would end the connection over it (D-Bus Specification, strings)
            raise InvalidArgs(f"value '{name}': a NUL byte is not possible there")
        if size > limits.MAX_VALUE_BYTES:
            raise Limit(f"value '{name}': a value may have {limits.MAX_VALUE_BYTES} bytes at most")
        if self._size - self._size_of(name) + size > limits.MAX_VALUES_BYTES:
            raise Limit(f"value '{name}': all values together may have {limits.MAX_VALUES_BYTES} bytes at most")
        if name not in self.items and len(self.items) >= limits.MAX_VALUES:
            raise Limit(f"value '{name}': there may be {limits.MAX_VALUES} values at most")

    def _size_of(self, name: str) -> int:
        return _size(name, self.items[name]) if name in self.items else 0

    def set(self, name: str, value: str) -> None:
        """Keep a value, which has been checked."""
        self._size += _size(name, value) - self._size_of(name)
        self.items[name] = value

    def get(self, name: str) -> str:
        """The value. Raises NotFound."""
        if name not in self.items:
            raise NotFound(f"value '{name}' is not there")
        return self.items[name]

    def remove(self, name: str) -> None:
        """Forget a value that is there."""
        self._size -= _size(name, self.items.pop(name))


def _size(name: str, value: str) -> int:
    try:
        return len(name.encode()) + len(value.encode())
    except UnicodeEncodeError:
        raise InvalidArgs(f"value {name!r}: it is not UTF-8") from None
