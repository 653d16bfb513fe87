"""Tokens of requests: how many are kept, and for how long, whatever becomes of their items."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from papa_dbus.errors import InvalidArgs, Limit
from papa_dbus.service import limits
from papa_dbus.service.items.results import SocketInfo
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel import tokens
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.kernel.tokens import Tokens
from tests.support import Reader, end, run

OTHER = "other_one-2"


class Item:
    """Something that is hosted, by its key."""

    def __init__(self, key: int) -> None:
        self.key = key

    def info(self) -> SocketInfo:
        return SocketInfo(f"s{self.key}", "inet", "stream", backlog=5, fileno=self.key)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000_000
        monkeypatch.setattr(tokens, "since_boot", lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give a clock."""
    return Clock(monkeypatch)


def asked(token: str, key: int) -> SocketSpec:
    return SocketSpec(f"s{key}", token=token)


def fresh(store: Store, *items: Item) -> "Tokens[SocketInfo]":
    """Return what a papad that starts now knows."""
    again: Tokens[SocketInfo] = Tokens("socket", store)
    again.recover({item.key: item.info for item in items})
    return again


def known(store: Store) -> list[str]:
    return sorted(request.token for request in store.requests("socket"))


def make(registry: "Tokens[SocketInfo]", store: Store, token: str, key: int) -> Item:
    """Have an item made, as the kernel and the store do it together."""
    item = Item(key)
    store.add_request("socket", token, f"s{key}", key)
    registry.made(asked(token, key), item)
    return item


def remove(registry: "Tokens[SocketInfo]", store: Store, item: Item) -> None:
    last = registry.last_of(item)
    store.remove_socket(item.key, last)
    registry.gone(item, last)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a file."""
    return Store(tmp_path / "state.sqlite")


def test_what_has_gone_is_told_for_a_minute(store: Store, clock: Clock) -> None:
    registry = fresh(store)
    item = make(registry, store, "a", 1)
    remove(registry, store, item)
    clock.wait(limits.TOKEN_SECONDS - 1)
    assert registry.find(asked("a", 1)) == item.info()
    assert fresh(store).find(asked("a", 1)) == item.info()
    clock.wait(1)
    assert registry.find(asked("a", 1)) is None
    assert known(store) == []
    assert fresh(store).find(asked("a", 1)) is None
    store.close()


def test_what_a_papad_finds_too_old_is_forgotten(store: Store, clock: Clock) -> None:
    registry = fresh(store)
    remove(registry, store, make(registry, store, "a", 1))
    clock.wait(limits.TOKEN_SECONDS)
    assert fresh(store).find(asked("a", 1)) is None
    assert known(store) == []
    store.close()


def test_what_was_not_made_or_did_not_come_back_is_forgotten(store: Store) -> None:
    registry = fresh(store)
    there = make(registry, store, "a", 1)
    make(registry, store, "b", 2)
    assert fresh(store, there).find(asked("b", 2)) is None
    assert known(store) == ["a"]
    store.close()


def test_the_tokens_of_one_item_are_bounded_and_its_makers_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TOKENS_OF_ITEM", 2)
    registry = fresh(store)
    item = make(registry, store, "maker", 1)
    for token in ("a", "b", "c"):
        registry.given(asked(token, 1), item)
    assert known(store) == ["b", "c", "maker"]
    assert registry.find(asked("a", 1)) is None
    again = fresh(store, item)
    again.given(asked("d", 1), item)
    assert known(store) == ["c", "d", "maker"]
    remove(again, store, item)
    assert again.find(asked("maker", 1)) == again.find(asked("d", 1)) == item.info()
    store.close()


def test_all_tokens_are_bounded(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of what has gone goes first, then the oldest that is not a maker's; a maker's never."""
    monkeypatch.setattr(limits, "MAX_TOKENS", 4)
    registry = fresh(store)
    item = make(registry, store, "m1", 1)
    registry.given(asked("other", 1), item)
    for key in (2, 3, 4):
        remove(registry, store, make(registry, store, f"gone{key}", key))
        clock.wait(1)
    assert known(store) == ["gone3", "gone4", "m1", "other"]
    for key in (5, 6, 7, 8):
        make(registry, store, f"m{key}", key)
    assert known(store) == ["m1", "m5", "m6", "m7", "m8"]
    store.close()


@pytest.mark.parametrize("token", ["", "a" * 65, "a b", "ü", "a\n", "a.b"])
def test_what_is_not_a_token(token: str) -> None:
    with pytest.raises(InvalidArgs, match="option 'token'"):
        ProcessSpec("p", ("true",), token=token)
    with pytest.raises(InvalidArgs, match="option 'token'"):
        SocketSpec("s", token=token)


class Full:
    """An fd store that has no room at first, and says so at the one step or at the other."""

    def __init__(self, step: str) -> None:
        self.refuses = step

    def store(self, name: str, fds: Sequence[int], more: bool = False) -> None:
        self._refuse("store")

    def remove(self, name: str) -> None:
        pass

    async def kept(self) -> None:
        self._refuse("kept")

    def _refuse(self, step: str) -> None:
        if self.refuses == step:
            self.refuses = ""
            raise Limit("there is no room")


@pytest.mark.parametrize("step", ["store", "kept"])
async def test_a_request_that_was_refused_may_be_made_again(tmp_path: Path, step: str) -> None:
    fd_store = Full(step)
    kernel = Kernel(store=Store(tmp_path / "state.sqlite", fd_store))
    with pytest.raises(Limit, match="there is no room"):
        await kernel.make_socket(SocketSpec("s", token=OTHER))
    made = await kernel.make_socket(SocketSpec("s", token=OTHER))
    assert await kernel.make_socket(SocketSpec("s", token=OTHER)) == made
    fd_store.refuses = step
    with pytest.raises(Limit, match="there is no room"):
        await run(kernel, "sleep", "60", token=OTHER)
    process = await run(kernel, "sleep", "60", token=OTHER)
    assert (await run(kernel, "sleep", "60", token=OTHER)).pid == process.pid
    end(kernel)


async def test_a_token_that_could_not_be_forgotten_may_be_used_again(store: Store) -> None:
    store.add_request("socket", OTHER, "s1", 1)
    store.add_request("socket", OTHER, "s2", 2)
    assert [(each.token, each.key) for each in store.requests("socket")] == [(OTHER, 2)]
    store.close()


async def test_a_token_is_not_compared(kernel: Kernel) -> None:
    first = await run(kernel, "sleep", "60", token="a" * 64)
    assert (await run(kernel, "sleep", "60", token=OTHER)).pid == first.pid
    assert (await run(kernel, "sleep", "60")).pid == first.pid
    with pytest.raises(InvalidArgs, match="was used for process 'p'; make up another one"):
        await run(kernel, "sleep", "60", name="q", token=OTHER)
    kernel.remove_processes(["p"])


async def test_a_process_is_told_of_without_arguments_that_are_large(kernel: Kernel) -> None:
    made = await run(kernel, "true", "x" * 5000, token=OTHER)
    assert made.args == ("true", "x" * 5000)
    reader = Reader(kernel, ["p"])
    await reader.until_exited()
    assert (await run(kernel, "false", token=OTHER)).args == ("true", "…")
