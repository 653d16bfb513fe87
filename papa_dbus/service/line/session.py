"""One connection of the line protocol: its bytes, its states, and how much of it is kept in memory.

What is said on it is the conversation's. Who may connect, and whether who has may still go on, the front end says.

Everything that may happen while a command runs (input, the end of the connection, room to write, output to pass on,
papad's own end) sets one event, on which the connection sleeps; so nothing here polls. What may follow what is in
``LIFE`` and ``PEER`` (states.py).
"""

import asyncio
import logging
import os
import socket
from typing import Final, cast

from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line import replies as line_replies
from papa_dbus.service.line.conversation import Conversation
from papa_dbus.service.line.front_end import Server, StuckError, TooMuch
from papa_dbus.service.line.handover import ConnectionState
from papa_dbus.service.line.reader import Answer, Input, LineReader
from papa_dbus.service.line.states import ENDING, GOING, LIFE, PEER, UNADMITTED, Life, LifeEvent, Peer, PeerEvent
from papa_dbus.service.line.watch import ConnectionWatch
from papa_dbus.state_table import follow

log = logging.getLogger(__name__)

#: Bytes that are read ahead of what has been worked on.
MAX_READ_AHEAD: Final = 64 * 1024
#: Seconds in which a client must make room for the reply to a command.
WRITE_TIMEOUT: Final = 60.0
#: Seconds from a line's first byte to its end. Between two lines, and in a watch, a client may take its time.
LINE_TIMEOUT: Final = 300.0
#: Seconds for the last line to arrive before the connection goes; what comes meanwhile is thrown away.
LINGER: Final = 2.0

#: What a connection has received, until it is looked at, at once: one for all, so that no read has to ask for memory.
_received_bytes = memoryview(bytearray(MAX_READ_AHEAD))


class Session(asyncio.BufferedProtocol):
    """A connection. ``charged``: the bytes that its front end has noted for it.

    ``resumed`` is where it stood in the papad before this one, of which the client is to notice nothing.
    """

    def __init__(self, kernel: Kernel, server: Server, resumed: ConnectionState | None = None) -> None:
        self._kernel = kernel
        self._server = server
        self._resumed = resumed
        self._reader = LineReader() if resumed is None else LineReader.resume(resumed.reader)
        self._line_due: float | None = None  # the loop's time by which a line that has begun must have its end
        self.life = Life.ARRIVING
        self._peer = Peer.HERE
        self.close_reason = b""  # the last words where papad ends it
        self.charged = 0
        self.wakeup = asyncio.Event()
        self._unsent = b""  # with what may have been sent of it since
        self.left: tuple[int, ConnectionState] | None = None
        self._transport: asyncio.Transport
        self.task: asyncio.Task[None] | None = None

    def happen(self, event: LifeEvent) -> None:
        """Go to the state that follows. Raises TransitionError if the event cannot happen now."""
        self.life = follow(LIFE, self.life, event)

    # ------------------------------------------------------- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # send() is to return when all is with Linux
        self.task = asyncio.get_running_loop().create_task(self._live(transport.get_extra_info("socket")))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where to put what comes."""
        return _received_bytes

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what came, and no more of it than is worked on soon."""
        self._reader.receive(bytes(_received_bytes[:nbytes]))
        if self._reader.waiting > MAX_READ_AHEAD or self.wakeup.is_set():  # it has not had its turn since the last
            self._transport.pause_reading()
        try:
            self._account()
        except TooMuch as error:
            self.end(str(error))
        self.wakeup.set()

    def _account(self, more: int = 0, always: bool = False) -> None:
        """Tell the front end what is held here, and so many bytes more. Raises TooMuch."""
        buffered = self._reader.buffered + self._transport.get_write_buffer_size() + len(self._unsent) + more
        if self.life not in UNADMITTED and buffered != self.charged:
            self._server.charge(self, buffered - self.charged, always=always)
            self.charged = buffered

    def eof_received(self) -> bool:
        """Go on with what has come: the replies are still wanted."""
        self._peer = follow(PEER, self._peer, PeerEvent.EOF)
        self.wakeup.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nobody is there any more."""
        self._peer = follow(PEER, self._peer, PeerEvent.LOST)
        self.wakeup.set()

    def resume_writing(self) -> None:
        """All has been given to Linux."""
        self.wakeup.set()

    # ------------------------------------------------------- what papad wants

    def end(self, text: str) -> None:
        """End the connection for papad's own reasons, after the command that runs; the text says why."""
        self.close(line_replies.error(text))

    def close(self, last_words: bytes) -> None:
        """Do so with these last words."""
        self.close_reason = last_words
        self.happen(LifeEvent.CLOSE)
        self.wakeup.set()

    def leave(self) -> None:
        """Come to rest after the command that runs; then ``left`` is a descriptor and where the connection stands.

        One that is not admitted yet stands where it came in: the next papad asks anew.
        """
        unadmitted = self.life in UNADMITTED
        self.happen(LifeEvent.LEAVE)
        self.wakeup.set()
        if unadmitted and self.task is not None:
            self.left = self._duplicate(), self._resumed or ConnectionState(self._reader.state(), line_replies.WELCOME)
            self.task.cancel()

    def _leave_behind(self, watch: ConnectionWatch | None) -> None:
        """Note where the connection stands. It must end before anything else can happen on it."""
        self.happen(LifeEvent.REST)
        positions, sent = (None, False) if watch is None else watch.position()
        self.left = self._duplicate(), ConnectionState(self._reader.state(), self._still_unsent(), positions, sent)

    def _duplicate(self) -> int:
        return os.dup(self._transport.get_extra_info("socket").fileno())

    # ------------------------------------------------------- where it stands

    @property
    def at_end(self) -> bool:
        """Return whether nothing more will come."""
        return self._peer is not Peer.HERE

    @property
    def all_said(self) -> bool:
        """Return whether nothing more will come, and nothing waits that has come."""
        return self.at_end and not self._reader.waiting

    @property
    def ended(self) -> bool:
        """Return whether nothing more can be said to the client but why papad ends the connection."""
        return self._peer is Peer.GONE or self.life in ENDING

    @property
    def at_rest(self) -> bool:
        """Return whether the next papad is to go on."""
        return self.life in GOING and self._peer is not Peer.GONE

    @property
    def _writable(self) -> bool:
        return not self._transport.get_write_buffer_size()

    # ------------------------------------------------------- one connection

    async def _live(self, sock: socket.socket) -> None:
        self._transport.pause_reading()  # what strangers send stays with Linux
        conversation = Conversation(self, self._kernel, self._server)
        try:
            last_words = await conversation.hold(sock, self._resumed)
            if last_words is None:
                self._leave_behind(conversation.left_watch)
                return
            self.happen(LifeEvent.GOODBYE)
            if self._writable:  # else it does not read
                await self.send(last_words)
                await self._linger()
        except asyncio.CancelledError:
            if self.left is None:
                raise
        except StuckError:
            log.info("a client that read no reply for %d seconds was disconnected", WRITE_TIMEOUT)
        except TooMuch as error:
            log.info("a client could not be told: %s", error)
        except Exception:
            log.exception("a connection of the line protocol failed")
        finally:
            self._transport.abort()
            self._server.leave(self)

    async def next_event(self) -> Input | None:
        """The next thing that the client says; None at the end."""
        while self.life is Life.SERVING and not self.ended:
            event = await self.received()
            if event is not None:
                self._line_due = None
                return event
            if self.at_end:
                return None
            await self._sleep_in_time()
        return None

    async def _sleep_in_time(self) -> None:
        """Sleep until something has happened; end the connection if a line that has begun takes too long."""
        if not self._reader.in_line:
            self._line_due = None
        elif self._line_due is None:
            self._line_due = asyncio.get_running_loop().time() + LINE_TIMEOUT
        try:
            async with asyncio.timeout_at(self._line_due):
                await self.wait_for_wakeup()
        except TimeoutError:
            self.end(f"a line was begun {LINE_TIMEOUT:.0f} s ago and has no end (LF, CR LF or CR NUL)")

    async def received(self) -> Input | None:
        """The next thing that has come already. Telnet's own questions are answered on the way."""
        while isinstance(event := self._reader.next_event(), Answer):
            await self.send(event.data)
            await self._server.pace.turn()
        if event is not None:
            if self._reader.waiting:
                await self._server.pace.turn()  # others have theirs between two lines of one piece
        elif not self.at_end:
            self._transport.resume_reading()
        return event

    async def wait_for_wakeup(self) -> None:
        """Sleep until something has happened, and it is this one's turn. The caller has just looked at all that may."""
        await self.wakeup.wait()
        await self._server.pace.turn()
        self.wakeup.clear()

    async def send(self, data: bytes, *, patiently: bool = False) -> None:
        """Write, and wait until the client has made room: ``WRITE_TIMEOUT`` long, then StuckError is raised.

        What is sent ``patiently`` may wait for ever, but for the end of papad; then it is not all sent. Nor is it where
        the next papad goes on with it.
        """
        if self._peer is Peer.GONE:
            return
        self._account(len(data), patiently)
        self._unsent = self._still_unsent() + data
        self._transport.write(data)
        if self._is_blocked(patiently):
            await self._wait_for_room(patiently)
            self.wakeup.set()  # what else has happened meanwhile is still to be looked at
        self._unsent = self._still_unsent()
        self._account()

    async def _wait_for_room(self, patiently: bool) -> None:
        try:
            async with asyncio.timeout(None if patiently else WRITE_TIMEOUT):
                while self._is_blocked(patiently):
                    await self.wait_for_wakeup()
        except TimeoutError:
            raise StuckError from None

    def _still_unsent(self) -> bytes:
        left = self._transport.get_write_buffer_size()
        return self._unsent[-left:] if left else b""

    def _is_blocked(self, patiently: bool) -> bool:
        if self.at_rest or (patiently and self.life is Life.CLOSING):
            return False
        return not (self._writable or self._peer is Peer.GONE)

    async def _linger(self) -> None:
        """Let the last words arrive: a close with unread input may destroy them (RFC 1122, 4.2.2.13)."""
        self._reader.close()
        if self.at_end or self.ended:
            return
        try:
            self._transport.write_eof()
        except OSError:  # it has gone, and asyncio has not noticed yet
            return
        try:
            async with asyncio.timeout(LINGER):
                while self.life is Life.LINGERING and not self.at_end:
                    self._transport.resume_reading()
                    await self.wait_for_wakeup()
        except TimeoutError:
            pass
