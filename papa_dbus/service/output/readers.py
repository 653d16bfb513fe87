"""Who reads a log: what a log asks of its readers, and who stands for one that is away."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from papa_dbus.service.output.log import OutputLog


class Reader(Protocol):
    """Who reads a log, and how far it has come; ``consumes`` where records wait for its acknowledgement."""

    acknowledged: int
    acknowledged_offset: int

    @property
    def who(self) -> str:
        """The client for which it reads, "" if that cannot be known again."""

    @property
    def present(self) -> bool:
        """Return whether that client is there; else it is waited for."""

    @property
    def consumes(self) -> bool:
        """Return whether records stay until this one has acknowledged them."""

    def wake(self) -> None:
        """There is something new."""


@dataclass(slots=True, eq=False)
class Absent:
    """Stand for a consumer whose watch ended because papad or the bus went away: keep what it has not acknowledged."""

    who: str
    acknowledged: int
    acknowledged_offset: int

    @property
    def present(self) -> bool:
        """Return that it is waited for."""
        return False

    @property
    def consumes(self) -> bool:
        """Records stay until it has come back, or is given up."""
        return True

    def wake(self) -> None:
        """Do nothing: there is nobody yet to be told."""


#: Stands for the clients of all consumers that have acknowledged no more than has left the log. It is nobody's name.
OTHERS = "*"


def consumers_of(log_: "OutputLog", superseded: bool) -> tuple[tuple[str, int, int], ...]:
    """Return what another papad has to know of a log's consumers: client, last number acknowledged, offset after it.

    Of one alone the log itself knows it. Those who have come no further than the log has are one: they come and go,
    and their acknowledgements change nothing. But of a ``superseded`` process each is told with its client's name: they
    alone are to get the rest of it. Else a client's watches begin anew where the one is that has come least far.
    """
    consumers = log_.consumers
    if superseded:
        return tuple((reader.who, reader.acknowledged, reader.acknowledged_offset) for reader in consumers)
    if len(consumers) < 2:
        return ()
    ahead = [reader for reader in consumers if reader.acknowledged > log_.acknowledged]
    if len(ahead) == len(consumers):
        others: set[str] = set()
        noted = []
    else:
        others = {reader.who for reader in consumers if reader.acknowledged <= log_.acknowledged}
        noted = [(OTHERS, 0, 0)]
    least: dict[str, tuple[int, int]] = {}
    for reader in ahead:
        place = reader.acknowledged, reader.acknowledged_offset
        if not reader.who:  # each is another's
            noted.append(("", *place))
        elif reader.who not in others:
            least[reader.who] = min(least.get(reader.who, place), place)
    return (*noted, *((who, *place) for who, place in least.items()))
