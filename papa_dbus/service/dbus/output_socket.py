"""The sockets of OpenOutput: papad's end of each, which sends a watch's events as frames and reads acknowledgements.

A socket takes what fits into it; the rest of one batch waits here, and no more is taken from the log meanwhile. What
comes is read by turns (reading_turns.py).
"""

import asyncio
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from papa_dbus import output_frames as frames
from papa_dbus.errors import Limit
from papa_dbus.service import limits
from papa_dbus.service.dbus.answers import error_of
from papa_dbus.service.dbus.reading_turns import ReadingTurns
from papa_dbus.service.dbus.socket_remains import Remains
from papa_dbus.service.dbus.watch_turns import Reason, Subscription
from papa_dbus.service.output.events import Dropped, Exited, Unread, UnreadEvent, size_of
from papa_dbus.service.output.records import Piece
from papa_dbus.service.shares import Share, Shares

#: Bytes of output that are cheaper sent by sendfile(2) than read and written.
_LARGE: Final = 32 * 1024
#: Bytes that are sent at a time.
_ROOM: Final = 256 * 1024
#: Bytes of acknowledgements that are read before others have their turn: a millisecond or two of work.
_REQUESTS: Final = 4096
#: Pieces that wait to be sent, before no acknowledgements are read whose answers would wait, too.
_MOST_WAITING: Final = 64
#: Seconds for the client to read the rest of a watch that has ended.
_LAST_WORDS: Final = 10.0


_Acknowledge = Callable[[Subscription, Mapping[str, int]], "asyncio.Future[None] | None"]


class OutputSockets:
    """All of one bus. ``warn`` logs what clients do wrong, within the bounds of that."""

    def __init__(self, warn: Callable[..., None]) -> None:
        self.warn, self.turns, self.remains = warn, ReadingTurns(), Remains()
        self._shares = Shares(
            limits.MAX_OUTPUT_SOCKETS_OF_CLIENT, limits.MAX_OUTPUT_SOCKETS_OF_USER, limits.MAX_OUTPUT_SOCKETS
        )

    def give(
        self,
        subscription: Subscription,
        on_room: Callable[[Subscription], None],
        acknowledge: _Acknowledge,
        on_gone: Callable[[Subscription], None],
    ) -> int:
        """Make a watch's socket; return the client's end. Raises Limit.

        ``on_room`` is called when all that was to be sent has gone; ``acknowledge`` with what the client did:
        it returns what the answer waits for, or raises what it says; ``on_gone`` when the client has closed its end.
        """
        client = subscription.client
        share = self._shares.of(client.flight.uid, client.name)
        if not self.remains.leave_room(share):
            most = f"{share.most} sockets for output at a time, and all together {limits.MAX_OUTPUT_SOCKETS}"
            raise Limit(f"OpenOutput: a client may have {most}; end a watch of yours first, or use Watch")
        try:
            own, theirs = socket.socketpair()
        except OSError as error:
            raise Limit(f"OpenOutput: there is no descriptor left for its socket: {error.strerror}") from None
        own.setblocking(False)
        subscription.socket = OutputSocket(own, share, self, subscription, on_room, acknowledge, on_gone)
        return theirs.detach()


class OutputSocket:
    """One of them: papad's end."""

    def __init__(
        self,
        own: socket.socket,
        share: Share,
        sockets: OutputSockets,
        subscription: Subscription,
        on_room: Callable[[Subscription], None],
        acknowledge: _Acknowledge,
        on_gone: Callable[[Subscription], None],
    ) -> None:
        self.client = subscription.client
        self.closed = False
        self.queued = False  # waits for a turn to read
        self._socket = own
        self._share = share
        self._sockets = sockets
        self._subscription = subscription
        self._on_room = on_room
        self._acknowledge = acknowledge
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._reader = frames.FrameReader(frames.MAX_REQUEST)
        self._requests: deque[Mapping[str, int]] = deque()  # read, and to be done after what is waited for
        self._waits_for: asyncio.Future[None] | None = None
        self._unsent: deque[memoryview] = deque()
        self._blocked = False  # the socket takes no more now
        self._last_words: asyncio.TimerHandle | None = None  # until the socket is closed
        self._listens = False
        share.take()
        self.listen(True)
        self._send(frames.greeting())

    # ------------------------------------------------------------------ output

    @property
    def ended(self) -> bool:
        """Return whether the watch's end was told."""
        return self._last_words is not None

    @property
    def room(self) -> int:
        """Return how many bytes may be sent: none before the socket has taken what was sent before."""
        return 0 if self._unsent else _ROOM

    def send_all(self, events: Sequence[UnreadEvent]) -> int:
        """Send what the watch has; return how many bytes of payload that was."""
        sent = 0
        for event in events:
            sent += size_of(event)
            match event:
                case Unread():
                    self._send_piece(event.process, event.piece)
                case Exited():
                    self._put(frames.exited(event.process, event.seq, event.timestamp, event.exit_code, event.known))
                case Dropped():
                    self._put(frames.dropped(event.process, event.first_seq, event.last_seq, event.bytes))
        self._flush()
        return sent

    def _send_piece(self, process: str, piece: Piece) -> None:
        """Send records, much from the log's file to the socket at once; what does not fit into it is read."""
        head = frames.begin_output(process, piece.first_seq, piece.table(), piece.size)
        if piece.size < _LARGE or not piece.pages_stay:
            self._put(head, piece.payload())
            return
        self._put(head)
        self._flush()
        sent = 0 if self._unsent else self._send_from(piece)
        if sent < piece.size and not self.closed:
            self._put(os.pread(piece.file, piece.size - sent, piece.begin + sent))

    def _send_from(self, piece: Piece) -> int:
        """Send what the socket takes of a file, without reading it; return how many bytes."""
        sent = 0
        try:
            while sent < piece.size:
                took = os.sendfile(self._socket.fileno(), piece.file, piece.begin + sent, piece.size - sent)
                if not took:  # the file is shorter than it was
                    raise EOFError
                sent += took
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            self._fail()
        return sent

    def end(self, reason: Reason) -> None:
        """Tell the watch's end, and close the socket once the client has read that far, or does not."""
        self.listen(False)
        self._last_words = self._loop.call_later(_LAST_WORDS, self.close)
        self._send(frames.ended(reason))

    def close(self) -> None:
        """Close it; what it has taken can be read all the same."""
        if self.closed:
            return
        self.listen(False)
        self.closed = True
        self._loop.remove_writer(self._socket)
        if self._last_words is not None:
            self._last_words.cancel()
        self._unsent.clear()
        self._requests.clear()
        self._sockets.remains.close(self._socket, self._share)

    def _fail(self) -> None:
        if not self.closed:
            self.close()
            self._on_gone(self._subscription)

    def _send(self, frame: bytes) -> None:
        self._put(frame)
        self._flush()

    def _put(self, *pieces: bytes) -> None:
        """Have something sent with the next flush."""
        if not self.closed:
            self._unsent += map(memoryview, pieces)

    def _flush(self) -> None:
        """Send what the socket takes now, and the rest when it takes more."""
        if self._unsent and not self._blocked:
            self._write()
            if self._unsent:
                self._blocked = True
                self._loop.add_writer(self._socket, self._write_on)

    def _write(self) -> None:
        try:
            while self._unsent:
                self._take_off(self._socket.sendmsg(self._unsent))
        except BlockingIOError:
            return
        except OSError:
            self._fail()
            return
        if self.ended:
            self.close()

    def _write_on(self) -> None:
        self._write()
        if self._unsent or self.closed:
            return
        self._blocked = False
        self._loop.remove_writer(self._socket)
        self._read_on()
        self._on_room(self._subscription)

    def _take_off(self, sent: int) -> None:
        while sent:
            piece = self._unsent.popleft()
            if len(piece) > sent:
                self._unsent.appendleft(piece[sent:])
            sent -= min(len(piece), sent)

    # -------------------------------------------------------- acknowledgements

    def _ask(self) -> None:
        self._sockets.turns.ask(self)

    def listen(self, on: bool) -> None:
        """Be told when there is something to read, or not: nobody reads when the watch has ended, or before a turn."""
        on = on and not self.ended and not self.queued
        if on != self._listens and not self.closed:
            self._listens = on
            if on:
                self._loop.add_reader(self._socket, self._ask)
            else:
                self._loop.remove_reader(self._socket)

    def read_some(self) -> None:
        """Do some of what the client asks for, unless the watch has ended: what was read already, or read more."""
        if self.closed or self.ended or self._waits_for is not None:
            return
        try:
            if not self._requests:
                self._read()
        except BlockingIOError:
            self.listen(True)
        except (OSError, EOFError):
            self._fail()
        except frames.BadFrame as error:
            self._sockets.warn("%s sends what makes no sense on a socket of OpenOutput: %s", self.client.name, error)
            self._fail()
        else:
            self._answer()

    def _read(self) -> None:
        count = self._socket.recv_into(self._reader.buffer()[:_REQUESTS])
        if not count:
            raise EOFError
        self._requests += itertools.starmap(frames.read_request, self._reader.read(count))

    def _read_on(self) -> None:
        """Go on after what was waited for: with one's next turn, if there is something to be done."""
        if self._requests and self._waits_for is None:
            self._ask()
        else:
            self.listen(self._waits_for is None)

    def _answer(self) -> None:
        """Do what was read, one after the other; no more is read while an answer cannot go."""
        while self._requests and self._waits_for is None and len(self._unsent) < _MOST_WAITING:
            try:
                waits_for = self._acknowledge(self._subscription, self._requests.popleft())
            except Exception as error:  # noqa: BLE001 (its answer, as on the bus)
                self._send(frames.answer(*error_of("Acknowledge", error)))
                continue
            if waits_for is None:
                self._send(frames.answer())
            else:
                self._waits_for = waits_for
                waits_for.add_done_callback(self._noted)
        self.listen(not self._requests and self._waits_for is None)

    def _noted(self, noted: "asyncio.Future[None]") -> None:
        self._waits_for = None
        if self.closed or self.ended:
            return
        error = None if noted.cancelled() else noted.exception()
        self._send(frames.answer(*error_of("Acknowledge", error)) if isinstance(error, Exception) else frames.answer())
        self._read_on()
