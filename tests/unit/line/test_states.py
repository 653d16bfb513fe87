"""The states of a connection of the line protocol, and of a watch on it: what a table does not have is an error."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest

from papa_dbus.service.line.session import Session
from papa_dbus.service.line.states import (
    LIFE,
    PEER,
    PHASE,
    Life,
    LifeEvent,
    Peer,
    PeerEvent,
    Phase,
    PhaseEvent,
)
from papa_dbus.service.line.watch import ConnectionWatch
from papa_dbus.state_table import TransitionError
from tests.state_tables import forbidden, reachable

TABLES: list[tuple[Mapping[Any, Mapping[Any, Any]], type[Enum], list[Enum]]] = [
    (LIFE, LifeEvent, [Life.ARRIVING]),
    (PEER, PeerEvent, [Peer.HERE]),
    (PHASE, PhaseEvent, [Phase.SETTLING, Phase.SENT_BEFORE]),
]


@pytest.mark.parametrize(("table", "events", "first"), TABLES, ids=["life", "peer", "phase"])
def test_each_state_of_a_connection_is_reached(table: Any, events: type[Enum], first: list[Enum]) -> None:
    assert reachable(table, first) == set(type(first[0])) == set(table)


@pytest.mark.parametrize(("state", "event"), forbidden(LIFE, LifeEvent))
def test_a_connection_does_nothing_that_its_table_does_not_have(state: Life, event: LifeEvent) -> None:
    session = Session(None, None)  # type: ignore[arg-type]
    session.life = state
    with pytest.raises(TransitionError, match=f"^Life {state.name}: {event.name} cannot happen$"):
        session.happen(event)
    assert session.life is state


def test_a_connection_is_closed_or_left_in_any_state() -> None:
    """papad's end comes whenever it likes."""
    assert all({LifeEvent.CLOSE, LifeEvent.LEAVE} <= set(row) for row in LIFE.values())


def test_a_connection_is_lost_once() -> None:
    session = Session(None, None)  # type: ignore[arg-type]
    assert session.eof_received()
    with pytest.raises(TransitionError, match="Peer SILENT: EOF"):
        session.eof_received()
    session.connection_lost(None)
    with pytest.raises(TransitionError, match="Peer GONE: LOST"):
        session.connection_lost(None)


@pytest.mark.parametrize(("phase", "event"), forbidden(PHASE, PhaseEvent))
def test_a_watch_on_a_connection_does_nothing_that_its_table_does_not_have(phase: Phase, event: PhaseEvent) -> None:
    watch = ConnectionWatch(None, None, None)  # type: ignore[arg-type]
    watch._phase = phase
    with pytest.raises(TransitionError, match=f"^Phase {phase.name}: {event.name} cannot happen$"):
        watch._happen(event)
