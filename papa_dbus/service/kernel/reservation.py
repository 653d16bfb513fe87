"""Names for which something is being made: others that want them wait."""

import asyncio
from collections.abc import Sequence


class NameReservation:
    """Has others who want the same wait while it lasts."""

    def __init__(self, pending: dict[tuple[str, str], asyncio.Future[None]], keys: Sequence[tuple[str, str]]) -> None:
        self._pending = pending
        self._keys = keys

    def __enter__(self) -> None:
        done = asyncio.get_running_loop().create_future()
        self._pending.update(dict.fromkeys(self._keys, done))

    def __exit__(self, *_: object) -> None:
        for done in {self._pending.pop(key) for key in self._keys}:
            done.set_result(None)
