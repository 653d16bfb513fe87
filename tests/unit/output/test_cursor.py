"""A cursor's stages: the end of a process is told once, and nothing is finished that was not told of it."""

import pytest

from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.output.cursor import STAGE, Cursor, Stage, StageEvent
from papa_dbus.service.output.watches import Watch
from papa_dbus.state_table import TransitionError
from tests.source import Source
from tests.state_tables import forbidden, reachable


def cursor_of(source: Source) -> Cursor:
    """Return the cursor of a new watch."""
    watch = Watch(1, WatchSpec(), lambda: None, lambda end: None, lambda watch: None)
    watch.attach("p", source.log)
    return watch.cursors[0]


def test_each_stage_is_reached() -> None:
    assert reachable(STAGE, [Stage.READING, Stage.LATE]) == set(Stage) == set(STAGE)


@pytest.mark.parametrize(("stage", "event"), forbidden(STAGE, StageEvent))
def test_a_cursor_does_nothing_that_its_table_does_not_have(source: Source, stage: Stage, event: StageEvent) -> None:
    cursor = cursor_of(source)
    cursor._stage = stage
    with pytest.raises(TransitionError, match=f"^Stage {stage.name}: {event.name} cannot happen$"):
        cursor._happen(event)


def test_an_end_that_would_be_told_twice_is_an_error(source: Source) -> None:
    cursor = cursor_of(source)
    source.log.end(0, 1)
    cursor.take(100, at_least_one=True)
    cursor.next_seq = 1
    with pytest.raises(TransitionError, match="Stage END_SENT: SEND_END"):
        cursor.take(100, at_least_one=True)


@pytest.mark.parametrize("stage", [Stage.READING, Stage.END_SENT, Stage.LATE])
def test_a_stage_goes_to_another_papad_and_comes_back(source: Source, stage: Stage) -> None:
    """The form has two flags, as earlier versions wrote them."""
    cursor, other = cursor_of(source), cursor_of(source)
    cursor._stage = stage
    other.position = cursor.position
    assert other._stage is stage
