"""The way of a process's output from Papa to its watcher's streams, by circusd's own loop.

What a stream has taken is acknowledged, and nothing else: what it could not take is tried again, and what circusd had
in hand when it died comes again.
"""

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
        self._lines = LineAssembler()
        self._pending: deque[Piece] = deque()
        self._in_hand = 0  # events that are not acknowledged
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
                self._lines.skip()
                logger.warning("%s: %d bytes of output were lost", self._process.name, event.bytes)
                return []
        return self._lines.take(event.stream, event.timestamp / 1e6, event.data)

    def _pass_on(self) -> None:
        while self._pending and self._watch is not None:
            try:
                self._write(self._pending[0])
            except Exception:  # noqa: BLE001 (whatever a stream of the user's raises, nothing is lost over it)
                logger.exception("%s: a stream failed; trying again in %d s", self._process.name, _RETRY)
                self._listen(False)
                self._loop.call_later(_RETRY, self._pass_on)
                return
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
            stream({"data": piece.data, "pid": self._process.pid, "name": name, "timestamp": piece.timestamp})
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

    def close(self) -> None:
        """Watch no more."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self._listen(False)
            try:
                watch.leave()
            except papa.Error as error:
                logger.warning("%s: %s", self._process.name, error)
