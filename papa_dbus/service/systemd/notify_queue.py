"""What papad tells systemd (sd_notify(3)), without waiting for it: what cannot go at once goes later, in order."""

import asyncio
import logging
import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from papa_dbus.errors import Limit

log = logging.getLogger(__name__)

#: Notifications that wait for systemd: beyond so many it is given nothing more to keep, and not told of papad's status.
MAX_WAITING: Final = 256
#: Seconds for systemd to take what papad gives it to keep.
TIMEOUT: Final = 10.0


class _Waiting:
    """One that waits. ``sent``: for whoever waits for it, with what went wrong."""

    def __init__(self, data: bytes, fds: Sequence[int]) -> None:
        self.data = data
        self.fds = [os.dup(fd) for fd in fds]
        self.sent: asyncio.Future[OSError | None] | None = None

    def done(self, error: OSError | None) -> None:
        """Say so, and let go of its descriptors."""
        for fd in self.fds:
            os.close(fd)
        if self.sent is not None:
            self.sent.set_result(error)


class Notifications:
    """papad's end of systemd's socket; nowhere if systemd did not start papad."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._waiting: deque[_Waiting] = deque()

    @property
    def waiting(self) -> int:
        """Return how many wait for systemd."""
        return len(self._waiting)

    def tell(self, text: str) -> None:
        """Tell it something that may be left out: the next one of its kind says more."""
        if len(self._waiting) < MAX_WAITING:
            self.demand(text)

    def demand(self, text: str) -> None:
        """Tell it something that must not be left out."""
        try:
            self._send(text.encode(), [])
        except OSError as error:
            log.debug("systemd cannot be told %r: %s", text, error)

    def keep(self, text: str, fd: int) -> None:
        """Give it a descriptor to keep. Raises Limit if it takes no more; see kept()."""
        if len(self._waiting) >= MAX_WAITING:
            raise Limit("systemd takes no descriptors at the moment; try again later")
        try:
            self._send(text.encode(), [fd])
        except OSError as error:  # ETOOMANYREFS, unix(7): as many as papad may open are on their way
            raise Limit(f"systemd cannot be given a descriptor: {error.strerror}") from None

    async def kept(self) -> None:
        """Wait until all of it so far has gone out: a kill loses none of it then. Raises Limit if it does not."""
        if not self._waiting:
            return
        last = self._waiting[-1]
        if last.sent is None:
            last.sent = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(TIMEOUT):
                error = await asyncio.shield(last.sent)
        except TimeoutError:
            raise Limit(f"systemd has not taken in {TIMEOUT:.0f} s what it is to keep; try again later") from None
        if error is not None:
            raise Limit(f"systemd cannot be given a descriptor: {error.strerror}")

    def finish(self, seconds: float) -> None:
        """Send what waits, at papad's end, and wait for so long at most. What comes after that is not told."""
        deadline = time.monotonic() + seconds
        while self._waiting and self._socket is not None and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            poll.poll(left * 1000)
            self._flush()
        self._disconnect()
        self._address = ""  # a timer may still be due while the loop is closed

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        if not self._address:
            return
        if not self._waiting:
            try:
                self._out(data, fds)
                return
            except BlockingIOError:
                self._listen()
        self._waiting.append(_Waiting(data, fds))

    def _listen(self) -> None:
        """Go on when there is room."""
        asyncio.get_running_loop().add_writer(self._connected(), self._flush)

    def _flush(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            failed = None
            try:
                self._out(first.data, first.fds)
            except BlockingIOError:
                self._listen()
                return
            except OSError as error:
                log.error("systemd cannot be told %r: %s", first.data, error)
                failed = error
            self._waiting.popleft().done(failed)
        if self._socket is not None:
            asyncio.get_running_loop().remove_writer(self._socket)

    def _out(self, data: bytes, fds: Sequence[int]) -> None:
        try:
            socket.send_fds(self._connected(), [data], fds)
        except (ConnectionRefusedError, ConnectionResetError):  # another one may be there now
            self._disconnect()
            socket.send_fds(self._connected(), [data], fds)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connecting = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            connecting.setblocking(False)
            try:
                connecting.connect(self._address)
            except OSError:
                connecting.close()
                raise
            self._socket = connecting
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is not None:
            if self._waiting:
                asyncio.get_running_loop().remove_writer(self._socket)
            self._socket.close()
            self._socket = None
