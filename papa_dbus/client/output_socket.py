"""A watch's socket, the client's end: its frames are events, and acknowledgements go back on it."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Protocol

from papa_dbus import errors
from papa_dbus import output_frames as frames
from papa_dbus.client.records import Dropped, Event, Exited, Record

log = logging.getLogger(__name__)


class Reader(Protocol):
    """Receives a watch's events."""

    def on_events(self, events: Sequence[Event]) -> None:
        """Take some events of the watch."""

    def on_ended(self, reason: str) -> None:
        """Note that papad has ended the watch."""


class OutputSocket:
    """``on_closed`` is called when papad has closed its end, or sends what makes no sense."""

    def __init__(self, fd: int, reader: Reader, on_closed: Callable[[], None]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._reader = reader
        self._on_closed = on_closed
        self._frames = frames.FrameReader(frames.MAX_FRAME)
        self._loop = asyncio.get_running_loop()
        self._answers: deque[asyncio.Future[None]] = deque()  # that are awaited, in order
        self._unsent = bytearray()
        self.closed = False
        self.ended = False  # papad has told the watch's end
        self.understood = True  # what papad has sent made sense
        self._loop.add_reader(self._socket, self._read)

    def stop(self) -> None:
        """Read nothing more."""
        self._loop.remove_reader(self._socket)

    def close(self) -> None:
        """Close it; what was not answered never will be."""
        if self.closed:
            return
        self.closed = True
        self.stop()
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(errors.NoReply("papad closed the socket"))
        self._answers.clear()

    def _fail(self) -> None:
        self.close()
        self._on_closed()

    def _read(self) -> None:
        """Take one socketful: others on the loop have their turn in between."""
        try:
            count = self._socket.recv_into(self._frames.buffer())
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self._fail()
            return
        try:
            for kind, body in self._frames.read(count):
                self._take(kind, body)
                if self.closed:  # by its reader
                    return
        except (frames.BadFrame, LookupError) as error:
            log.warning("papad sends what makes no sense on a watch's socket; the bus's signals are used: %s", error)
            self.understood = False
            self._fail()

    def _take(self, kind: int, body: memoryview) -> None:
        match kind:
            case frames.Kind.OUTPUT:
                name, records = frames.read_output(body)
                self._reader.on_events([Record(name, *record) for record in records])
            case frames.Kind.ANSWER:
                self._answered(*frames.read_answer(body))
            case frames.Kind.EXITED:
                name, seq, timestamp, code, known = frames.read_exited(body)
                self._reader.on_events([Exited(name, seq, timestamp, code if known else None)])
            case frames.Kind.DROPPED:
                self._reader.on_events([Dropped(*frames.read_dropped(body))])
            case frames.Kind.ENDED:
                self._end(frames.read_ended(body))
            case frames.Kind.GREETING:
                frames.check_version(body)

    def _end(self, reason: str) -> None:
        """Take papad's last frame. It has all that this watch can acknowledge."""
        self.ended = True
        while self._answers:
            self._answered("", "")
        self._reader.on_ended(reason)
        self._fail()

    def _answered(self, error: str, text: str) -> None:
        answer = self._answers.popleft()
        if answer.done():  # nobody waits for it any more
            return
        if error:
            answer.set_exception(errors.from_dbus(error, text))
        else:
            answer.set_result(None)

    async def acknowledge(self, up_to: Mapping[str, int]) -> None:
        """Acknowledge, and wait until papad has it. Raises what it says, and NoReply if it has gone."""
        left = iter(up_to.items())
        some = dict(islice(left, frames.MAX_ACKNOWLEDGED))
        while True:
            await self._ask(frames.acknowledge(some))
            if not (some := dict(islice(left, frames.MAX_ACKNOWLEDGED))):
                return

    def _ask(self, frame: bytes) -> "asyncio.Future[None]":
        answer: asyncio.Future[None] = self._loop.create_future()
        if self.closed:
            answer.set_exception(errors.NoReply("papad has closed the socket"))
            return answer
        self._answers.append(answer)
        self._unsent += frame
        if len(self._unsent) == len(frame):  # else it waits to be written already
            self._write()
        return answer

    def _write(self) -> None:
        self._loop.remove_writer(self._socket)
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            return  # what papad has sent before is read first
        if self._unsent:
            self._loop.add_writer(self._socket, self._write)
