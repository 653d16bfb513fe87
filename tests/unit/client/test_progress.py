"""How far a reader has come: "no gap, nothing twice" as a table, and what it does not have is an error."""

import re

import pytest

from papa_dbus.client.progress import STAGE, Progress, Stage, StageEvent, mark_of
from papa_dbus.client.records import Dropped, Exited, Record
from papa_dbus.state_table import TransitionError, follow
from tests.state_tables import forbidden, reachable


def record(seq: int) -> Record:
    """Return a record."""
    return Record("p", seq, 1000 + seq, "out", b"x")


def take(progress: Progress, *events: Record | Dropped | Exited, observer: bool) -> list[Record | Dropped | Exited]:
    """Return what of these the reader gets, as Subscription does it."""
    given: list[Record | Dropped | Exited] = []
    for event in events:
        assert progress.follows(event, observer)
        left = progress.undelivered_part(event) if isinstance(event, Dropped) else event
        if left is not None and progress.take(left):
            given.append(left)
    return given


def test_the_table_is_the_docstrings() -> None:
    """Compare what is read with what is run."""
    text = Progress.__doc__ or ""
    _, head, table, _ = re.split(r"(?m)^ *=+ .*\n", text)  # Python 3.13 has no indentation there
    rows = [re.split("  +", line.strip()) for line in table.splitlines()]
    assert [StageEvent[name.upper()] for name in head.split()[1:]] == list(StageEvent)
    told = {
        stage(row[0]): {e: stage(to) for e, to in zip(StageEvent, row[1:], strict=True) if to != "-"} for row in rows
    }
    assert told == STAGE


def stage(name: str) -> Stage:
    """Return the stage that the docstring names."""
    return Stage[name.upper().replace(" ", "_")]


def test_each_stage_of_an_event_is_reached() -> None:
    assert reachable(STAGE, [Stage.DELIVERED]) == set(Stage) == set(STAGE)


@pytest.mark.parametrize(("state", "event"), forbidden(STAGE, StageEvent))
def test_an_event_does_nothing_that_its_table_does_not_have(state: Stage, event: StageEvent) -> None:
    with pytest.raises(TransitionError, match=f"^Stage {state.name}: {event.name} cannot happen$"):
        follow(STAGE, state, event)


def test_what_is_in_hand_does_not_come_again() -> None:
    """Only what was in hand on a watch that was lost does."""
    progress = Progress()
    take(progress, record(1), observer=False)
    progress.lose(observer=False)
    progress.expected_replay[mark_of(record(1))] = Stage.DELIVERED
    with pytest.raises(TransitionError, match="Stage DELIVERED: REPLAY"):
        progress.take(record(1))


def test_a_confirmation_that_comes_twice_confirms_nothing_else() -> None:
    progress = Progress()
    take(progress, record(1), record(2), observer=False)
    assert progress.mark_handled(mark_of(record(1)))
    progress.confirm(1)
    assert progress.mark_handled(mark_of(record(2)))
    progress.confirm(1)
    assert list(progress.handled) == [mark_of(record(2))]
    progress.confirm(2)
    assert not progress.handled


@pytest.mark.parametrize("observer", [False, True])
def test_a_loss_that_was_told_is_not_told_again(observer: bool) -> None:
    """After a restart papad tells again what has left its log, and more of it."""
    progress = Progress()
    first = take(progress, record(1), Dropped("p", 2, 4, 3), record(5), record(6), observer=observer)
    assert first == [record(1), Dropped("p", 2, 4, 3), record(5), record(6)]
    for event in first:
        progress.mark_handled(mark_of(event))
    progress.confirm(6)
    progress.lose(observer)
    assert not take(progress, Dropped("p", 1, 5, 5), record(6), observer=observer)
    assert take(progress, record(7), observer=observer) == [record(7)]


def test_records_that_are_long_gone_are_not_told_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timestamps are remembered of what papad can keep; that the reader has had the rest is remembered as well."""
    monkeypatch.setattr("papa_dbus.client.progress._KEPT", 8)
    progress = Progress()
    take(progress, *map(record, range(1, 31)), observer=True)
    progress.lose(observer=True)
    assert not take(progress, Dropped("p", 1, 25, 25), *map(record, range(26, 31)), observer=True)
