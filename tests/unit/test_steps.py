"""What takes long is done in steps, and the loop has its turn after each."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papa_dbus.bus import Variant
from papa_dbus.bus.encoder import Entries, encode
from papa_dbus.service import steps
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.steps import Steps, take_all

VALUES = st.one_of(
    st.text(alphabet="aü€").map(lambda text: Variant("s", text)),
    st.integers(0, 2**63).map(lambda number: Variant("t", number)),
    st.booleans().map(lambda flag: Variant("b", flag)),
)


@given(
    st.dictionaries(st.text(alphabet="abcü"), st.dictionaries(st.text(alphabet="ab"), VALUES, max_size=3), max_size=12),
    st.integers(1, 5),
)
def test_a_dictionary_is_the_same_in_pieces(entries: dict[str, dict[str, Variant]], size: int) -> None:
    """Encoded some entries at a time it is what it is encoded at once, wherever it stands in a message."""
    pieces = Entries("a{sa{sv}}")
    items = list(entries.items())
    for first in range(0, len(items), size):
        pieces.add(dict(items[first : first + size]))
        pieces.add({})
    for signature, before in (("", []), ("s", ["x"]), ("ub", [1, True])):
        whole = [*before, entries, "after"]
        assert encode(f"{signature}a{{sa{{sv}}}}s", [*before, pieces, "after"]) == encode(
            f"{signature}a{{sa{{sv}}}}s", whole
        )


@given(st.lists(st.lists(st.text(alphabet="abcü"), min_size=2, max_size=2), max_size=12), st.integers(1, 5))
def test_structs_are_the_same_in_pieces(items: list[list[str]], size: int) -> None:
    pieces = Entries("a(ss)")
    for first in range(0, len(items), size):
        pieces.add(items[first : first + size])
        pieces.add([])
    for signature, before in (("", []), ("s", ["x"]), ("ub", [1, True])):
        whole = [*before, items, "after"]
        assert encode(f"{signature}a(ss)s", [*before, pieces, "after"]) == encode(f"{signature}a(ss)s", whole)


@pytest.fixture
def tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each step as short as it can be."""
    monkeypatch.setattr(steps, "STEP", 0.0)


async def turns_during(work: "asyncio.Future[str]") -> int:
    """Return how many turns the loop has while something is done."""
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    return turns


@pytest.mark.usefixtures("tiny_steps")
async def test_the_loop_has_its_turn_after_each_step() -> None:
    found: list[int] = []
    answer = Steps().take(iter(range(1000)), found.extend, lambda: "done")
    assert not isinstance(answer, str)
    work = asyncio.ensure_future(answer)
    assert await turns_during(work) > 100
    assert await work == "done"
    assert found == list(range(1000))


async def test_what_takes_one_step_is_answered_at_once() -> None:
    found: list[int] = []
    assert Steps().take(iter(range(3)), found.extend, lambda: found) == [0, 1, 2]


@pytest.mark.usefixtures("tiny_steps")
async def test_one_after_the_other_has_its_answer_in_memory() -> None:
    """As many large answers as are asked for would be, else."""
    work = Steps()
    under_way: set[int] = set()
    most = 0

    async def answer(number: int) -> None:
        def use(some: list[int]) -> None:
            nonlocal most
            if some and some[0] > 4:  # past the first step, which is taken at once
                under_way.add(number)
            most = max(most, len(under_way))

        result = work.take(iter(range(100)), use, lambda: under_way.discard(number))
        assert result is not None
        await result

    await asyncio.gather(*(answer(number) for number in range(5)))
    assert most == 1


@pytest.mark.usefixtures("tiny_steps")
async def test_what_goes_meanwhile_is_left_out(kernel: Kernel) -> None:
    for number in range(50):
        kernel.set_value(f"v{number:02}", "x")
        await kernel.make_socket(SocketSpec(f"s{number:02}"))
    removed: list[str] = []
    listed: list[str] = []
    first = asyncio.ensure_future(take_all(kernel.removing_values(["v*"]), removed.extend))
    second = asyncio.ensure_future(take_all(kernel.removing_sockets(["s*"]), removed.extend))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(removed) < 100
    each = kernel.each_value([]), kernel.each_socket([])
    kernel.remove_values(["v49"])
    kernel.remove_sockets(["s49"])
    await asyncio.gather(first, second)
    assert len(removed) == 98
    listed += [name for name, _ in each[0]] + [info.name for info in each[1]]
    assert listed == []
