"""Circus's controller, whose commands wait for one another for a while before they are refused.

Circus refuses a command, and ignores SIGTERM, while another one runs or it looks after its watchers; with Papa it looks
after them at each end of a process, which with a failing one is often.
"""

import time
from typing import Any

from circus.controller import Controller

_PAUSE = 0.05  # seconds between two tries
#: Seconds that a command waits; circusctl itself does not wait longer than 5.
COMMAND_TIMEOUT = 4.0
_BUSY = "arbiter is already running"


class PapaController(Controller):  # type: ignore[misc]  # Circus has no types
    """The controller of circusd."""

    _until = 0.0  # of the command in hand

    def dispatch(self, job: tuple[Any, Any], until: float | None = None) -> Any:
        """Run a command, that of a signal (which nobody is told the refusal of) whenever it can be run."""
        if until is None:
            until = float("inf") if job[0] is None else time.monotonic() + COMMAND_TIMEOUT
        self._until = until
        return super().dispatch(job)

    def send_error(self, mid: Any, cid: Any, msg: Any, reason: str = "unknown", *more: Any, **options: Any) -> None:
        """Answer with an error; or try again later, where it says only that another command runs."""
        if reason.startswith(_BUSY) and time.monotonic() < self._until:
            self.loop.call_later(_PAUSE, self.dispatch, (cid, msg), self._until)
            return
        super().send_error(mid, cid, msg, reason, *more, **options)
