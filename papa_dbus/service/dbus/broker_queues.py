"""How much of what papad has sent lies at the bus, for each client: the bus is asked, since nobody else knows.

dbus-daemon reads papad no more, and so nobody is served, once so much lies there for those who do not read (127 MiB by
default). What a client calls or acknowledges does not show that it reads: it may do so by guesswork. So all that is
sent to it counts, answers and output, until dbus-daemon itself says how much of that is left. dbus-broker does not say
so, and need not: it delivers no output, and no answer, beyond its own bounds, and goes on.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from papa_dbus.bus import Bus, BusLost
from papa_dbus.bus.bus import DRIVER, MAX_MESSAGE
from papa_dbus.errors import Late, Limit, NoReply, PapaError, Unreachable
from papa_dbus.service import limits
from papa_dbus.service.background import BackgroundTasks
from papa_dbus.service.shares import Share, Shares

log = logging.getLogger(__name__)

_STATS = (*DRIVER[:2], "org.freedesktop.DBus.Debug.Stats")
#: In the place of a client's name: all who listen to what is told to everybody.
EVERYBODY: Final = ""
#: Bytes that are sent to a client before it is asked what is left of them.
LOOK_AFTER: Final = 1024 * 1024
#: Seconds between two looks at what is left for a client that waits for room: at first, and at most.
_PAUSE: Final = (0.02, 0.5)


class _Queue:
    """What may lie at the bus for one client: as much as ``share`` holds."""

    __slots__ = ("looking", "name", "new", "share", "waiting")

    def __init__(self, name: str, share: Share) -> None:
        self.name = name
        self.share = share
        self.new = 0  # sent since the bus was last asked
        self.looking = False
        self.waiting = False  # on_room() is to be called


class Queues:
    """Those of all clients of one bus. Each of ``on_room`` is called with a client for whom room() had none."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.on_room: list[Callable[[str], None]] = []
        self._tasks = BackgroundTasks()
        self.reset()

    def reset(self) -> None:
        """Forget everybody: the bus has gone, and what lay there."""
        self._tasks.cancel()
        self._told = True  # whether the bus says how much there is, as far as is known
        self._queues: dict[str, _Queue] = {}
        self._shares = Shares(limits.MAX_QUEUED_OF_CLIENT, limits.MAX_QUEUED_OF_USER, limits.MAX_QUEUED)

    def room(self, name: str, uid: int | None) -> int:
        """Bytes that may be sent to a client now.

        It has at least a little if it has read all; 0: on_room() follows once it has read more, or has left.
        """
        if not self._told:
            return MAX_MESSAGE
        queue = self._queues.get(name)
        share = self._shares.of(uid, name) if queue is None else queue.share
        if share.has_room(limits.FLIGHT_SHARE):
            return MAX_MESSAGE
        if queue is None or share.held < limits.FLIGHT_SHARE:
            return max(limits.FLIGHT_SHARE, min(MAX_MESSAGE, self._room_of_readers(share)))
        queue.waiting = True
        self._look(queue)
        return 0

    @staticmethod
    def _room_of_readers(share: Share) -> int:
        user = cast("Share", share.parent)
        everybody = cast("Share", user.parent)
        return min(limits.MAX_QUEUED_WITH_READERS_OF_USER - user.held, limits.MAX_QUEUED_WITH_READERS - everybody.held)

    def sent(self, name: str, uid: int | None, size: int) -> None:
        """Note that so many bytes were sent to a client."""
        if not self._told:
            return
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue(name, self._shares.of(uid, name))
            if len(self._queues) > limits.MAX_KNOWN_SENDERS:  # it may have left before an answer of its was sent
                oldest = self._queues.pop(next(iter(self._queues)))
                self._queues[oldest.name] = oldest
                self._look(oldest)
        queue.share.take(size)
        queue.new += size
        if queue.new >= LOOK_AFTER:
            self._look(queue)

    def forget(self, name: str) -> None:
        """A client has left the bus."""
        queue = self._queues.pop(name, None)
        if queue is not None:
            queue.share.give(queue.share.held)

    def _look(self, queue: _Queue) -> None:
        if not queue.looking:
            queue.looking = True
            self._tasks.start(self._look_until_room(queue))

    async def _look_until_room(self, queue: _Queue) -> None:
        """Ask what is left for a client, and again if it waits for room, until it has some."""
        pause, longest = _PAUSE
        while (left := await self._ask(queue)) is not None:
            queue.share.take(left + queue.new - queue.share.held)
            if queue.new < LOOK_AFTER and (not queue.waiting or self._has_room(queue)):
                break
            if queue.waiting:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
        queue.looking = False
        if self._queues.get(queue.name) is queue and not queue.share.held:
            del self._queues[queue.name]
        self._wake(queue)

    def _has_room(self, queue: _Queue) -> bool:
        return queue.share.held < limits.FLIGHT_SHARE or queue.share.has_room(limits.FLIGHT_SHARE)

    async def _ask(self, queue: _Queue) -> int | None:
        """Return how many bytes the bus has for a client; None if that has left, or the bus does not say."""
        if self._queues.get(queue.name) is not queue:
            return None
        queue.new = 0
        before = queue.share.held
        try:
            reply = await self._bus.call(*_STATS, "GetConnectionStats", "s", [queue.name or self._bus.unique_name])
            if queue.name == EVERYBODY:  # all of papad's that lies there, but for what is known to be others'
                left = max(0, reply.body[0]["IncomingBytes"].value - (self._shares.held - queue.share.held))
            else:
                left = reply.body[0]["OutgoingBytes"].value
        except (Late, Limit):
            left = before
        except BusLost:
            return None
        except (NoReply, Unreachable):
            self.forget(queue.name)
            return None
        except (PapaError, KeyError, IndexError, TypeError) as error:
            self._do_without(error)
            return None
        return left if self._queues.get(queue.name) is queue else None

    def _do_without(self, error: Exception) -> None:
        """Count nothing more: this bus does not say what it has."""
        log.debug("the bus does not say how much it has for whom: %s", error)
        self._told = False
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            self._wake(queue)

    def _wake(self, queue: _Queue) -> None:
        if queue.waiting:
            queue.waiting = False
            for listener in self.on_room:
                listener(queue.name)
