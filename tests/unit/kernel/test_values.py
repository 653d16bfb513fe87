"""Values: bounded one by one and together; what is done is stored and told, what is refused changes nothing."""

import pytest

from papa_dbus.errors import InvalidArgs, Limit
from papa_dbus.service import limits
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel.values import Values


def test_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MAX_VALUES", 2), ("MAX_VALUE_BYTES", 100), ("MAX_VALUES_BYTES", 150)):
        monkeypatch.setattr(limits, name, most)
    values = Values(Store(), lambda kind, what, name: None)

    def keep(name: str, size: int) -> None:
        values.set(name, "x" * size)

    keep("a", 99)  # with its name 100
    with pytest.raises(Limit, match="value 'a': a value may have 100 bytes at most"):
        keep("a", 100)
    with pytest.raises(Limit, match="value 'b': all values together may have 150 bytes at most"):
        keep("b", 50)
    keep("b", 49)
    with pytest.raises(Limit, match="value 'c': all values together"):
        keep("c", 0)
    keep("a", 1)
    with pytest.raises(Limit, match="value 'c': there may be 2 values at most"):
        keep("c", 0)
    assert list(values.removing(["b"], missing_ok=False)) == ["b"]
    keep("c", 99)


def test_what_is_done_is_told_and_what_is_refused_changes_nothing() -> None:
    told: list[tuple[str, str, str]] = []
    values = Values(Store(), lambda *change: told.append(change))
    values.set("a", "1")
    values.set("a", "2")
    with pytest.raises(InvalidArgs, match="value 'a': a NUL byte is not possible there"):
        values.set("a", "\0")
    assert dict(values.each([])) == {"a": "2"}
    assert list(values.removing(["a", "none"], missing_ok=True)) == ["a"]
    assert told == [("value", what, "a") for what in ("added", "changed", "removed")]
    assert len(values) == 0
