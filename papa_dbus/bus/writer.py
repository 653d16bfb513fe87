"""Messages to the bus: queued, bounded, and written as far as the socket takes them.

dbus-next's own writer takes a full socket for the death of the connection (its issue 153). This one waits for it.
"""

import array
import asyncio
import itertools
import socket
from collections import deque
from collections.abc import Callable, Sequence

from dbus_next import Message, MessageType

from papa_dbus.bus import header as bus_header
from papa_dbus.bus.encoder import encode
from papa_dbus.errors import Limit

#: Bytes that may wait for the bus before senders are asked to wait, and before they may go on.
HIGH_WATER = 1024 * 1024
LOW_WATER = 256 * 1024
#: Bytes that may wait for the bus before no more output is added: replies go out behind it, and a busy dbus-daemon
#: takes 2 KiB of a connection before it looks at the others.
BULK_WATER = 64 * 1024
#: Bytes of one message: what the system bus takes, with some room (its max_message_size is 32 MiB, dbus-daemon(1)).
MAX_MESSAGE = 31 * 1024 * 1024
_PIECES = 64  # messages in one system call
_COALESCE_DELAY = 0.002  # seconds between two writings of what is not urgent
_SMALL = 8192  # bytes of a message that is quicker copied than written in two pieces


class Writer:
    """Writes the messages of one connection: at once what the socket takes, the rest when it takes more.

    ``on_drained`` is called when less than LOW_WATER waits again, ``on_room`` when less than BULK_WATER does, and
    ``on_failed`` when the socket cannot be written to any more; then nothing waits.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_drained: Callable[[], None],
        on_room: Callable[[], None],
        on_failed: Callable[[OSError], None],
    ) -> None:
        self.queued = 0  # bytes
        self._socket = sock
        self._fd = sock.fileno()
        self._on_drained = on_drained
        self._on_room = on_room
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[memoryview, Sequence[int], Callable[[], None] | None]] = deque()
        self._waiting = False  # for the socket
        self._due: asyncio.TimerHandle | None = None  # flush_due() will be called
        self._rested_at = 0.0  # the loop's time from which what is not urgent goes out at once

    def put(
        self,
        message: Message,
        sent: Callable[[], None] | None = None,
        urgent: bool = True,
        most: int = MAX_MESSAGE,
    ) -> None:
        """Queue a message; ``sent`` is called once the socket has taken it, or cannot any more. Sets its ``size``.

        Messages that are not urgent are batched: each wakes the bus. They go with the next urgent one, at the end of
        this turn of the loop, or, if a batch has just gone, after a rest.

        Raises Limit if it has more than ``most`` bytes, and as encode() does.
        """
        header, body = _encode(message, most)
        fds = tuple(message.unix_fds)
        if message.size < _SMALL or not body:  # an empty piece would never be taken off the queue
            self._queue.append((memoryview(header + body), fds, sent))
        else:
            self._queue.append((memoryview(header), fds, None))
            self._queue.append((memoryview(body), (), sent))
        self.queued += message.size
        if self._waiting:
            return
        if urgent:
            self.flush()
        elif self._due is None:
            self._due = self._loop.call_at(self._rested_at, self.flush_due)

    def flush_due(self) -> None:
        """Write what was not urgent, as far as the socket takes it."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._queue and not self._waiting:
            self._rested_at = self._loop.time() + _COALESCE_DELAY
            self.flush()

    def flush(self) -> None:
        """Write until the queue is empty or the socket full."""
        try:
            while self._queue:
                self._write_first()
        except (BlockingIOError, InterruptedError):
            self._wait(True)
            return
        except OSError as error:
            self._discard()
            self._loop.call_soon(self._on_failed, error)  # not amid what its callers do
        self._wait(False)

    def close(self) -> None:
        """Discard what can no longer be sent."""
        self._wait(False)
        self._discard()

    def _write_first(self) -> None:
        data, fds, _ = self._queue[0]
        if fds:
            size = self._socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        elif len(self._queue) == 1:
            size = self._socket.send(data)
        else:
            without = itertools.takewhile(lambda entry: not entry[1], itertools.islice(self._queue, _PIECES))
            size = self._socket.sendmsg([piece for piece, _, _ in without])
        before = self.queued
        self.queued -= size
        self._take_off(size)
        if before >= LOW_WATER > self.queued:
            self._on_drained()
        if before >= BULK_WATER > self.queued:
            self._on_room()

    def _take_off(self, size: int) -> None:
        """Remove the queue's first bytes, which the socket has taken."""
        while size:
            data, _, sent = self._queue[0]
            if size < len(data):
                self._queue[0] = (data[size:], (), sent)
                return
            self._queue.popleft()
            size -= len(data)
            if sent is not None:
                sent()

    def _wait(self, wait: bool) -> None:
        if wait == self._waiting:
            return
        self._waiting = wait
        if wait:
            self._loop.add_writer(self._fd, self.flush)
        else:
            self._loop.remove_writer(self._fd)

    def _discard(self) -> None:
        while self._queue:
            if (sent := self._queue.popleft()[2]) is not None:
                sent()
        self.queued = 0


def _encode(message: Message, most: int) -> tuple[bytes, bytearray]:
    """Return a message's header and body, and set its ``size``."""
    body = encode(message.signature, message.body)
    header = bus_header.header(message.message_type.value, message.flags.value, len(body), message.serial, message)
    size = len(header) + len(body)
    if size > MAX_MESSAGE and message.message_type is MessageType.METHOD_CALL:
        raise Limit(f"{message.member} would have {size} bytes, a message at most {MAX_MESSAGE}: pass less")
    if size > MAX_MESSAGE:
        raise Limit(f"the answer has {size} bytes, a message at most {MAX_MESSAGE}: ask for less, with patterns")
    if size > most:
        raise Limit(f"{size} bytes of answer find no room at the bus: what clients have asked for is not read")
    message.size = size
    return header, body
