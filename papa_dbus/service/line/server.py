"""The line protocol's front end: the listening sockets, and which connections are let in.

Owns how many there may be, and asks ``access`` who is at the other end; what is said on a connection is the session's.
"""

import asyncio
import enum
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from papa_dbus.errors import AccessDenied, Limit, PapaError
from papa_dbus.service.access.policy import Access
from papa_dbus.service.caller import Caller
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.limits import FLIGHT_SHARE
from papa_dbus.service.line.bind import BACKLOG, bind_loopback, bind_path
from papa_dbus.service.line.front_end import TooMuch
from papa_dbus.service.line.handover import Connection
from papa_dbus.service.line.listener import Listener
from papa_dbus.service.line.session import Session
from papa_dbus.service.line.watch import MAX_BATCH
from papa_dbus.service.shares import Share, Shares, range_of
from papa_dbus.service.steps import Chores, Pace, Steps

#: Connections at a time, and those of one user, so that none can shut the others out.
MAX_CONNECTIONS: Final = 2048
MAX_CONNECTIONS_OF_USER: Final = 1024
#: The last of them are kept for users who have few, which is so many, and the very last for root.
FEW_CONNECTIONS: Final = 16
KEPT_FOR_FEW: Final = 512
KEPT_FOR_ROOT: Final = 128
#: Connections of users who are not known to be admitted, while the user database is asked: of all, of the users of one
#: range, and of one user. One leaves as many places to the others as it has.
MAX_ARRIVING: Final = 512
MAX_ARRIVING_OF_RANGE: Final = 256
MAX_ARRIVING_OF_USER: Final = 128
#: Connections at a time that are being told why they are not let in; one more is closed without a word.
MAX_REFUSED: Final = 64
#: Bytes that one user's connections have in papad together: lines without an end, replies that nobody reads.
MAX_MEMORY_OF_USER: Final = 64 * 1024 * 1024

#: Seconds that commands have to end when papad stops.
STOP_TIMEOUT: Final = 5.0


class PortFor(enum.StrEnum):
    """The callers who are served on the port; the Unix socket has ``access``'s own rules."""

    MEMBERS = "members"
    ROOT = "root"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class _Guest:
    """The caller at a connection, and the rules by which it is admitted."""

    caller: Caller
    rules: Access


class LineServer:
    """Serves the kernel to whoever ``access`` lets in."""

    def __init__(self, kernel: Kernel, access: Access, port_for: PortFor = PortFor.MEMBERS) -> None:
        self._kernel = kernel
        self._access = access
        self.steps = Steps()
        self.chores = Chores()
        self.pace = Pace()
        self._listeners: list[Listener] = []
        self._sessions: dict[Session, _Guest] = {}
        self._users: Counter[int] = Counter()
        self._arriving: dict[Session, _Guest] = {}  # strangers, until it is known that they are none
        self._places: dict[Session, Share] = {}  # of those, each user's
        self._shares = Shares(MAX_ARRIVING_OF_USER, MAX_ARRIVING_OF_RANGE, MAX_ARRIVING)
        self._refused: set[Session] = set()
        self._memory: Counter[int] = Counter()  # bytes that a user's connections have in papad, by user
        self._removals: list[Callable[[], None]] = []
        self._of_port = {
            PortFor.MEMBERS: access,
            PortFor.ROOT: access.without_group(" on this port (--port-for root)", "use sudo, or the message bus"),
            PortFor.NONE: None,
        }[port_for]

    @property
    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._sessions)

    # -------------------------------------------------------------------- sockets

    def bind(self, port: int) -> list[socket.socket]:
        """Listen on the loopback addresses; port 0 lets Linux choose one for both. Raises Bind."""
        return bind_loopback(port)

    def bind_unix(self, path: str) -> socket.socket:
        """Listen on a Unix socket, mode 0660 and of the group that may use it. Raises Bind.

        A file that an earlier papad left is replaced, one on which somebody listens never.
        """
        sock, remove = bind_path(path, self._access.group)
        self._removals.append(remove)
        return sock

    # ----------------------------------------------------------------------- life

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound; they are the front end's from now on."""
        for sock in sockets:
            sock.listen(BACKLOG)
            self._listeners.append(Listener(sock, self._session))

    async def adopt(self, connections: Sequence[Connection]) -> None:
        """Go on with the connections of the papad before this one."""
        loop = asyncio.get_running_loop()
        for connection in connections:
            sock = socket.socket(fileno=connection.fd)
            sock.setblocking(False)
            session = Session(self._kernel, self, connection.left)
            if connection.left is None:
                session.end("papad has another version now; please connect again")
            try:
                self._adopt(session, sock, connection.uid)
                await loop.connect_accepted_socket(lambda: session, sock)  # noqa: B023 (called at once)
            except OSError:  # it has gone
                sock.close()
                self.leave(session)

    def _adopt(self, session: Session, sock: socket.socket, uid: int) -> None:
        try:
            rules = self._rules(sock)
        except AccessDenied as error:  # this papad was told to serve nobody there
            rules = self._access
            session.end(str(error))
        self._let_in(session, _Guest(rules.caller_of(sock, uid), rules))

    async def hand_over(self) -> tuple[list[int], list[Connection]]:
        """Return what the next papad needs: descriptors of the listening sockets, whose files stay; connections.

        A command that runs has ``STOP_TIMEOUT`` to end; after it only stop() is left to be called.
        """
        self._removals.clear()
        listening = [os.dup(listener.sock.fileno()) for listener in self._listeners]
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        guests = {**self._sessions, **self._arriving}
        for session in guests:
            session.leave()
        if tasks := [session.task for session in guests if session.task is not None]:
            await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        left = [(session.left, guest.caller.uid) for session, guest in guests.items() if session.left is not None]
        return listening, [Connection(fd, uid, where) for (fd, where), uid in left]

    async def stop(self) -> None:
        """Close the sockets, and the connections with a line that says why, once their commands have ended."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for remove in self._removals:
            remove()
        self._removals.clear()
        sessions = [*self._sessions, *self._arriving, *self._refused]
        for session in sessions:
            session.end("papad is stopping")
        tasks = [session.task for session in sessions if session.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    # ---------------------------------------------------------------- connections

    def _session(self) -> Session:
        return Session(self._kernel, self)

    async def admit(self, session: Session, sock: socket.socket) -> Caller:
        """Let a connection in, and say whose it is. Raises AccessDenied or Limit."""
        guest = self._sessions.get(session)  # of one that was handed over it is known
        try:
            if guest is None:
                rules = self._rules(sock)
                # Telnet's marks come as urgent data, half of a command: out of line, the next byte would be that half.
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
                guest = _Guest(rules.caller_of(sock), rules)
                self._receive(session, guest)
            await guest.rules.check(guest.caller)
            if session in self._arriving:
                self._check_limits(guest.caller.uid)
                self._forget_arriving(session)
                self._let_in(session, guest)
        except PapaError as error:
            if guest is not None:
                guest.rules.note_refusal(guest.caller, error)
            self._refuse(session, str(error))
            raise
        return guest.caller

    def _rules(self, sock: socket.socket) -> Access:
        rules = self._access if sock.family == socket.AF_UNIX else self._of_port
        if rules is None:
            raise AccessDenied("papad serves nobody on this port (--port-for none): use the message bus")
        return rules

    def _receive(self, session: Session, guest: _Guest) -> None:
        """Give a connection a place: among those that are served, or where strangers wait. Raises Limit."""
        if guest.rules.expects(guest.caller):
            self._check_limits(guest.caller.uid)
            self._let_in(session, guest)
            return
        uid = guest.caller.uid
        share = self._shares.of(range_of(uid), str(uid))
        if not share.has_room():
            raise Limit("too many connections wait for papad to find out who may use it; try again later")
        share.take()
        self._arriving[session], self._places[session] = guest, share

    def _let_in(self, session: Session, guest: _Guest) -> None:
        self._sessions[session] = guest
        self._users[guest.caller.uid] += 1

    def _forget_arriving(self, session: Session) -> None:
        if self._arriving.pop(session, None) is not None:
            self._places.pop(session).give()

    async def check(self, session: Session) -> None:
        """Ask again whether a connection that was let in may go on. Raises AccessDenied."""
        guest = self._sessions[session]
        try:
            await guest.rules.check(guest.caller)
        except PapaError as error:
            guest.rules.note_refusal(guest.caller, error)
            raise

    def _refuse(self, session: Session, why: str) -> None:
        self.leave(session)
        if len(self._refused) >= MAX_REFUSED:
            session.end(why)  # at once, without waiting for it to be read
        self._refused.add(session)

    def _check_limits(self, uid: int) -> None:
        """Raise Limit unless there is room for one more connection of a user."""
        if self._users[uid] >= MAX_CONNECTIONS_OF_USER:
            raise Limit(f"papad serves {MAX_CONNECTIONS_OF_USER} connections of a user: close one of yours first")
        kept = 0 if uid == 0 else KEPT_FOR_ROOT if self._users[uid] < FEW_CONNECTIONS else KEPT_FOR_FEW
        if len(self._sessions) >= MAX_CONNECTIONS - kept:
            raise Limit(f"papad serves {MAX_CONNECTIONS} connections, and none further of yours now: try again later")

    def batch_room(self, session: Session) -> int:
        """Return the bytes that a watch's next batch may have: little, once the user's connections hold much unread.

        Linux has room for that little, so that one that reads continues.
        """
        guest = self._sessions.get(session)
        held = self._memory[guest.caller.uid] if guest is not None else 0
        return MAX_BATCH if held < MAX_MEMORY_OF_USER // 2 else FLIGHT_SHARE

    def charge(self, session: Session, more: int, *, always: bool = False) -> None:
        """Note that a connection has so many more bytes in papad's memory, or fewer. Raises TooMuch, and notes nothing.

        What a connection holds alone is bounded elsewhere, so the first is always possible; and what batch_room() gave,
        which is charged ``always``.
        """
        guest = self._sessions.get(session)
        if guest is None:
            return
        uid = guest.caller.uid
        held = self._memory[uid]
        if more > 0 and held and held + more > MAX_MEMORY_OF_USER and not always:
            raise TooMuch(
                f"what your connections have sent and not ended, or not read, would have more than {MAX_MEMORY_OF_USER}"
                " bytes; output that was not acknowledged stays in its log"
            )
        self._memory[uid] += more

    def leave(self, session: Session) -> None:
        """Forget a connection that has ended."""
        self._refused.discard(session)
        self.charge(session, -session.charged)
        self._forget_arriving(session)
        guest = self._sessions.pop(session, None)
        if guest is not None and not _count_down(self._users, guest.caller.uid):
            del self._memory[guest.caller.uid]


def _count_down(counter: Counter[int], uid: int) -> int:
    counter[uid] -= 1
    left = counter[uid]
    if not left:
        del counter[uid]
    return left
