"""The way of a process's output from Papa to its watcher's streams, by circusd's own loop.

What a stream has taken is acknowledged, and nothing else: what it could not take is tried again while the process runs,
and what circusd had in hand when it died comes again. When circusd quits, Papa keeps how much of a begun line's records
has been passed on, since those records come again as a whole.
"""

import contextlib
import json
import os
import select
from collections import deque
from typing import Any

from circus import logger
from tornado.ioloop import IOLoop

from papa_dbus.client import papa
from papa_dbus.client.lines import LineAssembler, Piece
from papa_dbus.client.papa_watcher import Watch
from papa_dbus.client.records import Dropped, Event, Exited

#: Seconds before a stream that failed is tried again.
_RETRY = 1.0
_STREAMS = {"out": ("stdout", 1), "err": ("stderr", 2)}


class Output:
    """One process's output. Tells ``process`` of its end, once all that it said has been passed on."""

    def __init__(self, process: Any, watch: Watch) -> None:
        self._process = process
        self._watch: Watch | None = watch
        self._loop: IOLoop = process.watcher.loop
        self._lines = LineAssembler(_recall(process) if process.found else None)
        self._pending: deque[Piece] = deque()
        self._in_hand = 0  # events that are not acknowledged
        self._last = False  # the process has ended: what a stream does not take now is lost
        self._exit: Exited | None = None
        self._fd = watch.fileno()
        self._loop.add_handler(self._fd, lambda fd, events: self.pump(), IOLoop.READ)
        self._listening = True

    def wait(self, timeout: float) -> bool:
        """Wait, ``timeout`` seconds at most, until there is something to pass on; whether there is."""
        if self._watch is None or self._pending:
            return False
        return bool(select.select([self._fd], [], [], max(timeout, 0))[0])

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._watch is None

    def pump(self) -> None:
        """Pass on what has come. Does not wait."""
        if self._watch is None or self._pending or not self._watch.ready:
            return
        try:
            events = self._watch.take()
        except papa.Error as error:
            logger.error("%s: nothing more can be read of process %d: %s", self._process.name, self._process.pid, error)
            events = []
        if not events:  # somebody has removed it
            self.close()
            self._process.poll()
            return
        self._in_hand += len(events)
        for event in events:
            self._pending.extend(self._pieces(event))
        self._pass_on()

    def _pieces(self, event: Event) -> list[Piece]:
        match event:
            case Exited():
                self._exit = event
                return self._lines.rest()
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
            except Exception:  # noqa: BLE001 (whatever a stream of the user's raises)
                name, pid = self._process.name, self._process.pid
                if not self._last:
                    logger.exception("%s: a stream failed; trying again in %d s", name, _RETRY)
                    self._listen(False)
                    self._loop.call_later(_RETRY, self._pass_on)
                    return
                logger.exception("%s: %d bytes of the output of process %d are lost", name, len(piece.data), pid)
            self._pending.popleft()
        if self._watch is None:
            return
        self._listen(True)
        self._watch.done(self._in_hand - self._lines.kept)
        self._in_hand = self._lines.kept
        if self._exit is not None and self._process.exit_code is None:
            self._process.ended(self._exit.exit_code)

    def _write(self, piece: Piece) -> None:
        name, fd = _STREAMS[piece.stream]
        redirector = self._process.watcher.stream_redirector
        stream = redirector.get_stream(name) if redirector is not None else None
        if stream is not None:
            before = _end_of_file(stream)
            try:
                stream({"data": piece.data, "pid": self._process.pid, "name": name, "timestamp": piece.timestamp})
            except Exception:
                _undo(stream, before)
                raise
            return
        left = piece.data  # no stream: where it would go without Papa
        while left:
            left = left[os.write(fd, left) :]

    def _listen(self, listen: bool) -> None:
        if listen and not self._listening:
            self._loop.add_handler(self._fd, lambda fd, events: self.pump(), IOLoop.READ)
        elif not listen and self._listening:
            self._loop.remove_handler(self._fd)
        self._listening = listen

    def leave(self) -> None:
        """Watch no more; the next circusd begins where this one has got to."""
        if self._watch is not None and self._watch.exact and not self._pending and self._lines.passed:
            try:
                self._process.kernel.set(_passed(self._process), json.dumps(self._lines.passed))
            except papa.Error as error:
                logger.warning("%s: what was logged of a begun line may be logged again: %s", self._process.name, error)
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


def _passed(process: Any) -> str:
    return f"{process.papa_name}.passed"


def _recall(process: Any) -> dict[str, int]:
    """What the last circusd had passed on of records that come again."""
    said = process.kernel.get(_passed(process))
    if not said:
        return {}
    process.kernel.set(_passed(process))
    passed: dict[str, int] = json.loads(said)
    return passed


def _end_of_file(stream: Any) -> tuple[int, int] | None:
    """Which file a file stream of Circus's writes to, and how long it is."""
    try:
        status = os.fstat(stream._file.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return status.st_ino, status.st_size


def _undo(stream: Any, before: tuple[int, int] | None) -> None:
    """Have a file forget a write that failed, in its buffer and on the disk: all of it is written again."""
    if not hasattr(stream, "_file"):
        return
    with contextlib.suppress(OSError):
        stream.close()
    with contextlib.suppress(OSError):
        stream.open()
        if before is not None and (now := _end_of_file(stream)) is not None and now[0] == before[0]:
            os.ftruncate(stream._file.fileno(), before[1])
