"""The states of a connection of the line protocol, and of a watch on it; no I/O.

A connection has two, which know nothing of each other: ``Life`` says what papad does with it, ``Peer`` what is left of
the client's end. While it is in SERVING it may have a watch, with a ``Phase`` of its own.
"""

from enum import Enum, auto
from typing import Final


class Life(Enum):
    """What papad does with a connection."""

    ARRIVING = auto()  # the front end has not let it in yet
    UNWANTED = auto()  # so it is, and papad ends it as soon as that is decided
    SERVING = auto()  # its commands are run
    CLOSING = auto()  # papad ends it, for a reason that the client is told
    LEAVING = auto()  # it is for the next papad, after the command that runs
    LINGERING = auto()  # the last words have time to arrive
    LETTING_GO = auto()  # the last words have none
    LEFT = auto()  # where it stands is noted, and nothing more happens on it


class LifeEvent(Enum):
    """What happens to a connection from papad's side."""

    ADMIT = auto()  # the front end lets it in
    GOODBYE = auto()  # the last words are known
    CLOSE = auto()  # papad has a reason to end it
    LEAVE = auto()  # papad is being replaced
    REST = auto()  # the command has ended, and nothing is left to be done here


_L, _LE = Life, LifeEvent
LIFE: Final = {
    # A connection that is not admitted is left where it came in: the next papad asks anew.
    _L.ARRIVING: {_LE.ADMIT: _L.SERVING, _LE.GOODBYE: _L.LINGERING, _LE.CLOSE: _L.UNWANTED, _LE.LEAVE: _L.LEFT},
    _L.UNWANTED: {_LE.ADMIT: _L.CLOSING, _LE.GOODBYE: _L.CLOSING, _LE.CLOSE: _L.UNWANTED, _LE.LEAVE: _L.LEFT},
    _L.SERVING: {_LE.GOODBYE: _L.LINGERING, _LE.CLOSE: _L.CLOSING, _LE.LEAVE: _L.LEAVING},
    _L.CLOSING: {_LE.GOODBYE: _L.CLOSING, _LE.CLOSE: _L.CLOSING, _LE.LEAVE: _L.CLOSING},  # the last reason is told
    _L.LEAVING: {_LE.GOODBYE: _L.LETTING_GO, _LE.CLOSE: _L.CLOSING, _LE.LEAVE: _L.LEAVING, _LE.REST: _L.LEFT},
    _L.LINGERING: {_LE.CLOSE: _L.CLOSING, _LE.LEAVE: _L.LETTING_GO},
    _L.LETTING_GO: {_LE.CLOSE: _L.CLOSING, _LE.LEAVE: _L.LETTING_GO},
    _L.LEFT: {_LE.CLOSE: _L.LEFT, _LE.LEAVE: _L.LEFT},
}
UNADMITTED: Final = (Life.ARRIVING, Life.UNWANTED)
ENDING: Final = (Life.UNWANTED, Life.CLOSING)
#: Nothing waits for the client any more.
GOING: Final = (Life.LEAVING, Life.LETTING_GO, Life.LEFT)


class Peer(Enum):
    """What is left of the client's end."""

    HERE = auto()
    SILENT = auto()  # nothing more will come; the replies are still wanted
    GONE = auto()  # nothing can be written either


class PeerEvent(Enum):
    """What happens to the client's end."""

    EOF = auto()
    LOST = auto()


PEER: Final = {
    Peer.HERE: {PeerEvent.EOF: Peer.SILENT, PeerEvent.LOST: Peer.GONE},
    Peer.SILENT: {PeerEvent.LOST: Peer.GONE},
    Peer.GONE: {},
}


class Phase(Enum):
    """How far a watch on a connection is: one batch at a time, and the next one after its acknowledgement."""

    SETTLING = auto()  # it has begun, and its client may not look for a batch yet
    READY = auto()  # nothing waits for an acknowledgement: a batch is collected, and sent when it is due
    SENT = auto()  # a batch waits for its acknowledgement
    SENT_BEFORE = auto()  # so does one that the papad before this one sent
    LEFT = auto()  # it is for the next papad
    LEFT_SENT = auto()  # so it is, with a batch that waits for its acknowledgement
    OVER = auto()


class PhaseEvent(Enum):
    """What happens to a watch on a connection."""

    SEND = auto()  # a batch goes
    ACKNOWLEDGE = auto()  # the client has dealt with it
    LEAVE = auto()  # the next papad continues
    END = auto()  # the client, papad or the end of all that is watched ends it


_P, _PE = Phase, PhaseEvent
PHASE: Final = {
    _P.SETTLING: {_PE.SEND: _P.SENT, _PE.LEAVE: _P.LEFT, _PE.END: _P.OVER},
    _P.READY: {_PE.SEND: _P.SENT, _PE.LEAVE: _P.LEFT, _PE.END: _P.OVER},
    _P.SENT: {_PE.ACKNOWLEDGE: _P.READY, _PE.LEAVE: _P.LEFT_SENT, _PE.END: _P.OVER},
    _P.SENT_BEFORE: {_PE.ACKNOWLEDGE: _P.SETTLING, _PE.LEAVE: _P.LEFT_SENT, _PE.END: _P.OVER},
    _P.LEFT: {},
    _P.LEFT_SENT: {},
    _P.OVER: {},
}
UNACKNOWLEDGED: Final = (Phase.SENT, Phase.SENT_BEFORE)
