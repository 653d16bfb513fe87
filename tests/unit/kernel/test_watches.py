"""Watches of what is made later: bounded, whatever they ask for, and they cost nobody's MakeProcess anything."""

import pytest

from papa_dbus.errors import InvalidArgs, Limit
from papa_dbus.names import MAX_NAME_BYTES
from papa_dbus.service import limits
from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.output.watches import Watch
from tests.support import Reader, end, run

FOLLOW = WatchSpec(mode="observe", follow=True)


def watch(kernel: Kernel, *patterns: str, uid: int = 0, client: str = ":1.1", spec: WatchSpec = FOLLOW) -> Watch:
    with acting(Caller(uid, None, client)):
        return kernel.watch(patterns, spec, lambda: None)


def test_patterns_are_bounded_as_processes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CURSORS_OF_CLIENT", 4)
    kernel = Kernel()
    first = watch(kernel, "a*", "b*", "c*", "c*")
    with pytest.raises(Limit, match="too many processes together"):
        watch(kernel, "a*", "b*", "c*", "d*")
    watch(kernel, "a*", client=":1.2")
    first.close()
    watch(kernel, "a*", "b*", "c*", "d*", "e")
    kernel.close()


def test_a_pattern_is_no_longer_than_a_name_may_be() -> None:
    kernel = Kernel()
    longest = "ä" * (MAX_NAME_BYTES // 2)
    watch(kernel, longest, f"{longest}*")
    with pytest.raises(InvalidArgs, match="longer than a name may be"):
        watch(kernel, f"{longest}**")
    kernel.close()


def test_one_user_leaves_watches_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WATCHES_OF_USER", 4)
    monkeypatch.setattr(limits, "MAX_WATCHES", 8)
    kernel = Kernel()
    watches = [watch(kernel, client=f":1.{number}") for number in range(4)]
    with pytest.raises(Limit, match="your share"):
        watch(kernel, client=":1.9")
    watch(kernel, uid=1000)
    watches[0].close()
    watch(kernel, client=":1.9")
    kernel.close()


async def test_each_one_whose_pattern_stands_for_a_name_follows_it() -> None:
    kernel = Kernel()
    ours = [watch(kernel), watch(kernel, "web.*"), watch(kernel, "db", "web.1", "w*"), watch(kernel, "*")]
    others = [watch(kernel, "web"), watch(kernel, "web.1.*"), watch(kernel, "db*")]
    closed = watch(kernel, "web.*")
    closed.close()
    await run(kernel, "true", name="web.1")
    assert [each.reads("web.1") for each in ours] == [True] * 4
    assert [each.reads("web.1") for each in others] == [False] * 3
    end(kernel)


async def test_a_follower_sees_what_is_made_later(kernel: Kernel) -> None:
    reader = Reader(kernel, ["w.*"], mode="observe", follow=True)
    await run(kernel, "echo", "one", name="w.1")
    await run(kernel, "echo", "no", name="x")
    await run(kernel, "echo", "two", name="w.2")
    await reader.until_exited(2)
    assert (reader.data(name="w.1"), reader.data(name="w.2"), reader.data(name="x")) == (b"one\n", b"two\n", b"")
