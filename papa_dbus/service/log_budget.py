"""A bound on what strangers can have papad write to the journal.

papa.service switches off the journal's own rate limit, so that nobody can push the audit trail out of it: papad itself
must bound every record that somebody without rights can cause.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

log = logging.getLogger(__name__)

#: Records about refusals and nonsense in an interval, and its seconds. The rest of them is counted.
MAX_RECORDS: Final = 10
INTERVAL: Final = 60.0


class LogBudget:
    """Writes warnings until the interval's budget is spent, and says at its end how many were left out.

    Both front ends share one. It needs a running loop.
    """

    def __init__(self, most: int = MAX_RECORDS, interval: float = INTERVAL) -> None:
        self._most = most
        self._interval = interval
        self._written = self._left_out = 0
        self._end: asyncio.TimerHandle | None = None

    def warn(self, text: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Write a warning, or count it."""
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(self._interval, self._begin_anew)
        if self._written < self._most:
            self._written += 1
            log.warning(text, *args, extra=extra)
        else:
            self._left_out += 1

    def _begin_anew(self) -> None:
        left_out, self._left_out, self._written, self._end = self._left_out, 0, 0, None
        if left_out:
            log.warning(
                "%d more refusals and messages that make no sense in the last %.0f s are not in this log",
                left_out,
                self._interval,
            )
