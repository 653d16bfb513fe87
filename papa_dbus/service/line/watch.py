"""A watch on a connection of the line protocol: one batch of output for each acknowledgement.

Owns when a batch goes, and what a line means meanwhile; ``PHASE`` (states.py) says what follows what.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from papa_dbus.service.items.specs import WatchSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line import replies as line_replies
from papa_dbus.service.line.front_end import Server
from papa_dbus.service.line.reader import Foreign, Input, Interrupt, Line
from papa_dbus.service.line.states import PHASE, UNACKNOWLEDGED, Life, Phase, PhaseEvent
from papa_dbus.service.output.cursor import Position
from papa_dbus.service.output.events import Event, size_of
from papa_dbus.service.output.watches import End, Watch
from papa_dbus.service.pacing import COALESCE_BYTES, COALESCE_DELAY
from papa_dbus.state_table import follow

if TYPE_CHECKING:
    from papa_dbus.service.line.session import Session

#: Bytes of output in one batch; the next one waits for the acknowledgement.
MAX_BATCH: Final = 1024 * 1024
#: Papa's client reads the answer to `watch` with one recv() of so many bytes, and hides from select() what comes along:
#: a first batch of no more than that waits so many seconds, of a larger one something is left to be seen.
FIRST_READ: Final = 1024
SETTLE: Final = 0.05


class ConnectionWatch:
    """Pass output on to a client that acknowledges each batch with a line, and ends the watch with another."""

    def __init__(self, session: "Session", kernel: Kernel, server: Server) -> None:
        self._session = session
        self._kernel = kernel
        self._server = server
        self._phase = Phase.SETTLING
        self._watch: Watch
        self._first_line: str | None = ""  # None: how many are watched; "": the papad before this one has said it
        self._batch: list[Event] = []
        self._last_reply = b""  # if it ends by itself
        self._due = 0.0  # the loop's time at which the next batch may go
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self, patterns: Sequence[str], first_line: str | None) -> None:
        """Open the watch; ``first_line`` is said first, None: how many are watched. Raises NotFound or Limit."""
        self._watch = self._kernel.watch(patterns, WatchSpec(), self._session.wakeup.set, self._ended)
        self._first_line = first_line

    def resume(self, positions: Sequence[tuple[int, Position]], sent: bool) -> None:
        """Continue a watch of the papad before this one; ``sent``: a batch waits for its acknowledgement.

        Raises NotFound.
        """
        self._watch = self._kernel.resume_watch(positions, WatchSpec(), self._session.wakeup.set, self._ended)
        if sent:
            self._phase = Phase.SENT_BEFORE

    @property
    def is_left(self) -> bool:
        """Return whether the next papad goes on with it."""
        return self._phase in (Phase.LEFT, Phase.LEFT_SENT)

    def position(self) -> tuple[Sequence[tuple[int, Position]], bool]:
        """Return where it stands, as resume() takes it."""
        return self._kernel.positions(self._watch), self._phase is Phase.LEFT_SENT

    def _happen(self, event: PhaseEvent) -> None:
        self._phase = follow(PHASE, self._phase, event)

    def _ended(self, end: End) -> None:
        """Have the reply that ends the watch say why."""
        self._last_reply = line_replies.watch_end(end)
        self._session.wakeup.set()

    async def pass_on(self) -> bytes:
        """Say the first line, pass output on, and close the watch, unless the next papad goes on with it.

        Return the reply that ends the watch, empty if papad or the client ends the connection.
        """
        try:
            if not await self._is_attached():
                return b""
            line = self._first_words()
            if (noted := self._kernel.noted(self._watch.names)) is not None:
                await noted
            if line:
                await self._session.send(line)
            return await self._pass_on()
        finally:
            if not self.is_left:
                self._happen(PhaseEvent.END)
                # If papad ends it, its client may come back.
                closed = self._kernel.close_watch(self._watch, away=self._session.life is Life.CLOSING)
                if closed is not None:
                    await closed

    async def _is_attached(self) -> bool:
        """Wait until all is attached, or the client has left, or papad ends the connection; return whether it is."""
        session, attached = self._session, self._kernel.attached(self._watch)
        if attached is None:
            return True
        attached.add_done_callback(lambda _: session.wakeup.set())
        while not (attached.done() or session.ended or session.all_said):
            await session.wait_for_wakeup()
        return attached.done()

    def _first_words(self) -> bytes:
        """Take the first batch; return the line that is said before it, empty if it was said already."""
        if self._first_line == "":
            return b""
        names, batch = len(self._watch.names), self._watch.take(self._server.batch_room(self._session))
        self._batch = line_replies.without_losses(batch)
        return line_replies.watching(names, batch) if self._first_line is None else self._first_line.encode() + b"\n"

    async def _pass_on(self) -> bytes:
        session, watch = self._session, self._watch
        self._due = asyncio.get_running_loop().time() + SETTLE
        while not session.ended:
            waits = self._phase in UNACKNOWLEDGED
            if watch.closed and not (waits or self._batch):
                return self._last_reply
            if session.life is Life.LEAVING and not self._batch:
                self._happen(PhaseEvent.LEAVE)
                return b""
            said = await session.received()
            if isinstance(said, Foreign):
                session.close(line_replies.foreign(said.protocol))
            elif said is not None:
                if (reply := await self._take_line(said)) is not None:
                    return reply
            elif session.at_end:
                break
            elif not waits and self._fill():
                await self._send_batch()
            else:
                await session.wait_for_wakeup()
        return b""

    async def _take_line(self, said: Input) -> bytes | None:
        """Take a line as acknowledgement; return the last reply if it is the end as well, or the watch has ended."""
        if self._phase in UNACKNOWLEDGED:
            if (rest := self._watch.acknowledge_taken()) is not None:
                await asyncio.shield(self._server.chores.add(rest))
            self._happen(PhaseEvent.ACKNOWLEDGE)
        if self._watch.closed:
            return self._last_reply
        return line_replies.reply("Stopped watching") if _is_quit(said) else None

    async def _send_batch(self) -> None:
        self._happen(PhaseEvent.SEND)
        data = line_replies.batch(self._batch)
        self._batch.clear()  # it is not counted as the session's
        await self._server.check(self._session)
        delay = COALESCE_DELAY if len(data) < COALESCE_BYTES else 0
        self._due = asyncio.get_running_loop().time() + delay
        # A watcher may take its time: until it reads and acknowledges, this batch is all that waits for it.
        await self._session.send(data, patiently=True)

    def _fill(self) -> bool:
        """Take the next batch where it is time; else the session is woken when it is. Returns whether it is to go."""
        loop = asyncio.get_running_loop()
        batch, due, settling = self._batch, loop.time() >= self._due, self._phase is Phase.SETTLING
        if (due and not batch) or settling:
            room = self._server.batch_room(self._session) - sum(map(size_of, batch))
            if room > 0:
                batch += self._watch.take(room)
        if due or (settling and sum(map(size_of, batch)) > FIRST_READ):
            return bool(batch)
        if (batch or self._watch.ready) and (self._alarm is None or self._alarm.when() != self._due):
            self._alarm = loop.call_at(self._due, self._session.wakeup.set)
        return False


def _is_quit(event: Input) -> bool:
    return isinstance(event, Interrupt) or (isinstance(event, Line) and event.data.strip().lower() in (b"q", b"quit"))
