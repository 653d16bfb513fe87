"""Registries and their patterns: a pattern costs what it finds, not what there is."""

import pytest

from papa_dbus.errors import Limit
from papa_dbus.service.items.registry import Patterns, Registry


class Names(Registry[int]):
    """A registry that counts the names which are looked at."""

    looked_at = 0

    def beginning(self, prefix: str) -> list[str]:
        found = super().beginning(prefix)
        self.looked_at += len(found)
        return found


def test_07_a_prefix_costs_what_it_finds() -> None:
    """1,024 prefixes over 65,536 names look at the names that they find, each once, and at no other."""
    items = Names()
    for number in range(65_536):
        items[f"value-{number:05}"] = number
    assert items.select([f"nothing-{number}*" for number in range(1024)]) == ([], [])
    assert items.looked_at == 0
    found, _ = items.select([*(f"value-0000{'0' * number}*" for number in range(1000)), "value-0*"])
    assert (len(found), items.looked_at) == (10_000, 10_000)


def test_07_a_registry_finds_what_a_dictionary_finds() -> None:
    items: Registry[int] = Registry()
    for number, name in enumerate(["b", "ab", "a", "abc", "ä", "b2"]):
        items[name] = number
    items["a"] = 7
    assert items.beginning("a") == ["a", "ab", "abc"]
    assert items.select(["ab*", "7", "a*", "none", "b", "b"], {7: "b2"}.get) == (
        ["b2", "a", "ab", "abc", "b"],
        ["none"],
    )
    assert items.select([]) == (["a", "ab", "abc", "b", "b2", "ä"], [])
    del items["ab"]
    assert items.pop("abc") == 3
    assert items.select(["*"]) == (["a", "b", "b2", "ä"], [])
    with pytest.raises(Limit, match="1024 names or patterns"):
        items.select(["a"] * 1025)


def test_holders_of_patterns_that_have_gone_leave_nothing() -> None:
    patterns: Patterns[str] = Patterns()
    patterns.add("one", ["a*", "b", "b"])
    patterns.add("other", ["a*"])
    assert patterns.holders_of("abc") == ["one", "other"]
    assert patterns.remove("one") == 2
    assert (patterns.holders_of("abc"), patterns.holders_of("b")) == (["other"], [])
    assert patterns.remove("other") == 1
    assert patterns.remove("other") == 0
    assert not patterns._holders
