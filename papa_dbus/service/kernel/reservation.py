"""Names for which something is being made: others that want them wait, and it counts already."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from papa_dbus.errors import Limit
from papa_dbus.service import limits

#: A kind and a name, or "path" and a path.
Key = tuple[str, str]
_PLURALS: Mapping[str, str] = {"socket": "sockets", "process": "processes"}


class Reservations:
    """What is being made now, by kind and name, or "path" and path."""

    def __init__(self) -> None:
        self._pending: dict[Key, asyncio.Future[None]] = {}

    async def wait_for(self, *keys: Key) -> None:
        """Wait while another request makes one of these."""
        while pending := [self._pending[key] for key in keys if key in self._pending]:
            await asyncio.wait(pending)

    def reserve(self, *keys: Key) -> AbstractContextManager[None]:
        """Have others that want the same wait while the context lasts."""
        return _Reservation(self._pending, keys)

    def check_room(self, kind: Literal["socket", "process"], name: str, there: int, most: int) -> None:
        """Raise Limit if there is no room for another item, with those that are being made."""
        if there + sum(made == kind for made, _ in self._pending) >= most:
            raise Limit(f"{kind} '{name}': there may be {most} {_PLURALS[kind]} at most; remove some first")

    async def settle(self) -> None:
        """Wait until what is being made is made, START_TIMEOUT at most."""
        if self._pending:
            await asyncio.wait(list(self._pending.values()), timeout=limits.START_TIMEOUT)

    def __contains__(self, key: Key) -> bool:
        return key in self._pending

    def __len__(self) -> int:
        return len(self._pending)


class _Reservation(AbstractContextManager[None]):
    def __init__(self, pending: dict[Key, asyncio.Future[None]], keys: Sequence[Key]) -> None:
        self._pending = pending
        self._keys = keys

    def __enter__(self) -> None:
        done = asyncio.get_running_loop().create_future()
        self._pending.update(dict.fromkeys(self._keys, done))

    def __exit__(self, *_: object) -> None:
        for done in {self._pending.pop(key) for key in self._keys}:
            done.set_result(None)
