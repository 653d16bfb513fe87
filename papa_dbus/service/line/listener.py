"""One listening socket of the line protocol: takes connections, a few at each turn of the loop.

asyncio's own server takes as many at a turn as its backlog has room for, and where no descriptor is left it tries (and
logs) as often, again and again (Python 3.11). Here others have their turn, and a front end without descriptors waits.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from papa_dbus.service.background import BackgroundTasks

log = logging.getLogger(__name__)

#: Connections that are taken before others have their turn; to find out whose each is takes most of a millisecond.
A_TURN: Final = 4
#: Seconds until a front end that could take none, since no descriptor or memory was left, tries again.
RETRY: Final = 0.5


class Listener:
    """A socket that listens already; ``connect`` makes what serves each connection."""

    def __init__(self, sock: socket.socket, connect: Callable[[], asyncio.BaseProtocol]) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._short = False  # of descriptors, which has been logged
        self._tasks = BackgroundTasks()
        self._begin()

    def _begin(self) -> None:
        self._retry = None
        self._loop.add_reader(self.sock, self._accept)

    def _accept(self) -> None:
        for _ in range(A_TURN):
            try:
                connection, _address = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            self._short = False
            connection.setblocking(False)
            self._tasks.start(self._serve(connection))

    def _wait(self, error: OSError) -> None:
        if not self._short:
            log.warning("connections of the line protocol have to wait: %s", error.strerror)
        self._short = True
        self._loop.remove_reader(self.sock)
        self._retry = self._loop.call_later(RETRY, self._begin)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connect, connection)
        except OSError:  # it has gone
            connection.close()

    def close(self) -> None:
        """Take no more, and let the socket go."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self.sock)
        self.sock.close()
