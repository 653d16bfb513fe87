"""The way of a process's output from Papa to its watcher's streams, by circusd's own loop.

What a stream has taken is acknowledged, and nothing else: what it could not take is tried again while the process runs,
and what circusd had in hand when it died comes again. What has come of a line without an end is passed on after a
pause, up to the end of a character; Papa keeps of which lines the beginning has been passed on, for the next circusd.
When circusd quits, Papa also keeps how much of the records in hand has been passed on, and which the first of them is,
since those come again as a whole. Later ones are not taken for them, so it does not matter when circusd is killed.
"""

import io
import os
import sys
import time
from collections import deque
from typing import Any

from circus import logger
from circus.stream import FancyStdoutStream, StdoutStream
from tornado.ioloop import IOLoop

from papa_dbus.client.circus.failed_writes import undone_if_it_fails
from papa_dbus.client.circus.output_notes import OutputNotes
from papa_dbus.client.circus.partial_lines import OpenLines
from papa_dbus.client.compat import papa
from papa_dbus.client.compat.line_connection import readable
from papa_dbus.client.compat.watcher import Watch
from papa_dbus.client.line_assembler import LineAssembler, Piece
from papa_dbus.client.records import Dropped, Event, Exited
from papa_dbus.errors import NoReply, NotFound, Unreachable

#: Seconds before a stream that failed is tried again, and a watch that has ended.
_RETRY = 1.0
_SOON = 0.1  # seconds, if somebody waits for the last words
_STREAMS = {"out": ("stdout", 1), "err": ("stderr", 2)}


class Output:
    """One process's output. Tells ``process`` of its end, once all that it said has been passed on."""

    def __init__(self, process: Any, watch: Watch) -> None:
        self._process = process
        self._watch: Watch | None = watch
        self._loop: IOLoop = process.watcher.loop
        self._notes = OutputNotes(process)
        self._lines = LineAssembler(begun=self._notes.recall_begun() if process.found else None)
        self._recalled = self._notes.recall() if process.found else None
        self._pending: deque[Piece] = deque()
        self._in_hand: deque[list[int]] = deque()  # events that are not acknowledged: what each is known by
        self._pausing = False  # a partial line is waited for
        self._files = OpenLines(process)
        self._lost = False  # the watch has ended, and is to be opened again
        self._failed_with: str | None = None  # a stream's error that has been told
        self._rest: bytes | None = None  # what standard output has not taken yet of the first that is pending
        self._last = False  # the process has ended: what a stream does not take now is lost
        self._exit: Exited | None = None
        self._fd = watch.fileno()
        self._loop.add_handler(self._fd, lambda fd, events: self.pump(), IOLoop.READ)
        self._listening = True

    def wait(self, timeout: float) -> bool:
        """Wait, ``timeout`` seconds at most, until there is something to pass on; whether there is."""
        if self._watch is None or self._pending:
            return False
        if self._lost and timeout > 0:
            time.sleep(min(timeout, _SOON))
            self._resume()
            return True
        return not self._lost and readable(self._fd, timeout)

    @property
    def closed(self) -> bool:
        """Return whether nothing more will come."""
        return self._watch is None

    def pump(self) -> None:
        """Pass on what has come. Does not wait."""
        if self._watch is None or self._lost or self._pending or not self._watch.ready:
            return
        try:
            events = self._watch.take()
        except papa.Error as error:
            self._lose(error, for_good=isinstance(error, NotFound))
            return
        if not events:  # somebody has removed it
            self._end()
            return
        for event in events:
            self._take(event)
        self._pass_on()
        self._wait_for_ends()

    def _wait_for_ends(self) -> None:
        """Pass on what has come of lines that have no end yet, after a pause: so a prompt or dots are seen."""
        due = self._lines.due(self._in_parts())
        if due is not None and not self._pausing:
            self._pausing = True
            pause = _RETRY if self._lost or self._pending else max(0.0, due - time.monotonic())
            self._loop.call_later(pause, self._pass_on_begun)

    def _pass_on_begun(self) -> None:
        self._pausing = False
        if self._watch is None:
            return
        if not self._lost and not self._pending:
            self._pending.extend(self._lines.pass_on(time.monotonic(), self._in_parts()))
            self._pass_on()
        self._wait_for_ends()

    def _in_parts(self) -> list[str]:
        """The streams whose lines can be passed on in parts. Circus's FancyStdoutStream stamps whatever it gets."""
        return [name for name in _STREAMS if not isinstance(self._stream(name), FancyStdoutStream)]

    def _stream(self, name: str) -> Any:
        """Return what Circus passes a stream on to; None if it is circusd's own."""
        redirector = self._process.watcher.stream_redirector
        return redirector.get_stream(_STREAMS[name][0]) if redirector is not None else None

    def _take(self, event: Event) -> None:
        known_by = _known_by(event)
        if self._recalled is not None:
            first, passed = self._recalled
            if first in (known_by, None):
                self._lines = LineAssembler(passed, self._lines.begun)
            self._recalled = None
        self._in_hand.append(known_by)
        self._pending.extend(self._pieces(event))

    def _lose(self, error: papa.Error, *, for_good: bool) -> None:
        """The watch has ended. What it had in hand comes again, or is known to have come."""
        name, pid = self._process.name, self._process.pid
        if for_good:
            logger.error("%s: nothing more can be read of process %d: %s", name, pid, error)
            self._end()
            return
        logger.warning("%s: process %d cannot be read now; trying again in %d s: %s", name, pid, _RETRY, error)
        self._listen(False)
        self._lost = True
        self._loop.call_later(_RETRY, self._resume)

    def _resume(self) -> None:
        if self._watch is None or not self._lost:
            return
        self._lost = False
        try:
            self._watch.resume()
        except papa.Error as error:
            self._lose(error, for_good=not isinstance(error, (NoReply, Unreachable)))
            return
        if not self._watch.exact:  # all that was in hand comes again
            if self._in_hand:
                self._recalled = self._in_hand[0], self._lines.passed
            self._lines = LineAssembler(begun=self._lines.begun)
            self._in_hand.clear()
        self._fd = self._watch.fileno()
        self._listen(True)

    def _end(self) -> None:
        self.close()
        self._process.poll()

    def _pieces(self, event: Event) -> list[Piece]:
        match event:
            case Exited():
                self._exit = event
                begun, rest = self._lines.begun, self._lines.rest()
                ends = begun.keys() - {piece.stream for piece in rest}  # of which nothing is left
                return rest + [Piece(stream, event.timestamp / 1e6, b"", continued=True) for stream in sorted(ends)]
            case Dropped():
                self._lines.lose()
                logger.warning("%s: %d bytes of output were lost", self._process.name, event.bytes)
                return []
        return self._lines.take(event.stream, event.timestamp / 1e6, event.data)

    def end(self) -> None:
        """The process has ended: pass on what is left. A stream that fails holds up no other process."""
        self._last = True
        if self._pending:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._pending and self._watch is not None:
            piece = self._pending[0]
            try:
                self._write(piece)
            except Exception as error:  # noqa: BLE001 (whatever a stream of the user's raises)
                name, pid = self._process.name, self._process.pid
                if not self._last:
                    self._tell_failure(piece, error)
                    self._listen(False)
                    self._loop.call_later(_RETRY, self._pass_on)
                    return
                lost = len(piece.data if self._rest is None else self._rest)
                logger.exception("%s: %d bytes of the output of process %d are lost", name, lost, pid)
            self._pending.popleft()
            self._rest = self._failed_with = None
        if self._watch is None:
            return
        self._listen(True)
        self._notes.note_begun(self._lines.begun)
        done = len(self._in_hand) - self._lines.kept
        for _ in range(done):
            self._in_hand.popleft()
        try:
            self._watch.done(done)
        except papa.Error as error:
            self._lose(error, for_good=False)
        if self._exit is not None and self._process.exit_code is None:
            self._notes.forget()
            self._process.ended(self._exit.exit_code)

    def _tell_failure(self, piece: Piece, error: Exception) -> None:
        """Log once that a stream fails, with its traceback if the fault may be the stream's own."""
        if repr(error) == self._failed_with:
            return
        self._failed_with = repr(error)
        logger.error(
            "%s: the %s of process %d cannot be written: %r; trying again every %d s. Papa keeps what it prints"
            " meanwhile; once Papa's buffer is full the process waits",
            self._process.name, _STREAMS[piece.stream][0], self._process.pid, error, _RETRY,
            exc_info=not isinstance(error, OSError),
        )  # fmt: skip

    def _write(self, piece: Piece) -> None:
        name, fd = _STREAMS[piece.stream]
        stream = self._stream(piece.stream)
        if stream is not None and type(stream) not in (StdoutStream, FancyStdoutStream):
            with undone_if_it_fails(stream):
                self._files.write(stream, name, piece, last=self._exit is not None)
            return
        # No stream: where it would go without Papa. Circus's own to stdout would keep in a buffer what they have not
        # written, and write it again.
        if stream is not None:
            out = getattr(stream, "out", sys.stdout)
            out.flush()
            fd = out.fileno()
        if self._rest is None:
            self._rest = self._as_shown(stream, name, piece)
        while self._rest:
            self._rest = self._rest[os.write(fd, self._rest) :]

    def _as_shown(self, stream: Any, name: str, piece: Piece) -> bytes:
        """Return what a piece is on standard output: a FancyStdoutStream colours and stamps it."""
        if type(stream) is not FancyStdoutStream:
            return piece.data
        out, stream.out = stream.out, io.StringIO()
        try:
            self._files.write(stream, name, piece, last=self._exit is not None)
            return str(stream.out.getvalue()).encode(out.encoding, "replace")
        finally:
            stream.out = out

    def _listen(self, listen: bool) -> None:
        if listen and not self._listening:
            self._loop.add_handler(self._fd, lambda fd, events: self.pump(), IOLoop.READ)
        elif not listen and self._listening:
            self._loop.remove_handler(self._fd)
        self._listening = listen

    def leave(self) -> None:
        """Watch no more; the next circusd begins where this one has got to."""
        if self._watch is not None and self._watch.exact and not self._pending and self._lines.passed:
            self._notes.note_passed(self._in_hand[0], self._lines.passed)
        self.close()

    def close(self) -> None:
        """Watch no more."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self._listen(False)
            try:
                watch.leave()
            except papa.Error as error:
                logger.warning("%s: %s", self._process.name, error)


def _known_by(event: Event) -> list[int]:
    """Return what tells an event from all others of its process and of those of its name."""
    return [event.last_seq, 0] if isinstance(event, Dropped) else [event.seq, event.timestamp]
