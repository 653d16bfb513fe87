"""Whose acknowledgements are read next, from all sockets of OpenOutput."""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from papa_dbus.service.steps import STEP

if TYPE_CHECKING:
    from papa_dbus.service.dbus.output_socket import OutputSocket
    from papa_dbus.service.dbus.watch_turns import Client


class ReadingTurns:
    """At most half of the loop's time is for that: of twice STEP seconds, STEP. Then clients take turns."""

    def __init__(self) -> None:
        self._waiting: dict[Client, deque[OutputSocket]] = {}  # in the order of their turns
        self._since = 0.0  # the beginning of these seconds
        self._used = 0.0  # of them

    def ask(self, one: "OutputSocket") -> None:
        """Have a socket read what has come, now or in one of the loop's next turns."""
        if one.queued:
            return
        if not self._waiting and self._has_time():
            self._read(one)
            return
        one.queued = True
        one.listen(False)
        if not self._waiting:
            asyncio.get_running_loop().call_later(STEP, self._go_on)
        self._waiting.setdefault(one.client, deque()).append(one)

    def _has_time(self) -> bool:
        now = time.perf_counter()
        if now - self._since > 2 * max(STEP, self._used):  # one alone may take longer than all should
            self._since, self._used = now, 0.0
        return self._used < STEP

    def _read(self, one: "OutputSocket") -> None:
        begin = time.perf_counter()
        one.read_some()
        self._used += time.perf_counter() - begin

    def _go_on(self) -> None:
        while self._waiting and self._has_time():
            client = next(iter(self._waiting))
            sockets = self._waiting.pop(client)
            one = sockets.popleft()
            if sockets:
                self._waiting[client] = sockets
            one.queued = False
            self._read(one)
        if self._waiting:
            asyncio.get_running_loop().call_later(STEP, self._go_on)
