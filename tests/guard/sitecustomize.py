"""Note each callback that holds papad's loop for too long. Python imports this module if its folder is in PYTHONPATH.

The time counted is from the callback's start to its end, less the time in which papad was ready to run and others had
the processors (/proc/thread-self/schedstat), or in which a thread that it starts was: Thread.start() waits for it. So a
busy machine gives no false alarm, and a wait for a directory, a hung path or a child counts, as does whatever papad
computes. It begins when papad is ready.
"""

import asyncio
import gc
import json
import os
import sys
import threading
import time
from typing import Any

#: Seconds, and seconds if more processes want to run than there are processors.
LIMIT, LIMIT_UNDER_LOAD = 0.05, 0.1
#: The file that each violation is appended to, as a line of JSON.
FILE = "PAPA_LOOP_GUARD"


class _Guard:
    def __init__(self, file: str) -> None:
        self._file = file
        self._run = asyncio.Handle._run
        self._schedstat = -1
        self._starting = 0.0  # seconds in which threads were started, less those in which papad was ready to run

    def install(self) -> None:
        guard = self
        freeze, start = gc.freeze, threading.Thread.start

        def watched(handle: Any) -> None:
            guard._watched(handle)

        def started(thread: threading.Thread) -> None:
            guard._started(thread, start)

        def ready() -> None:
            """Begin. papad calls gc.freeze() when it is ready."""
            freeze()
            gc.freeze = freeze
            guard._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            asyncio.Handle._run = watched  # type: ignore[assignment,method-assign]
            threading.Thread.start = started  # type: ignore[assignment,method-assign]

        gc.freeze = ready

    def _watched(self, handle: Any) -> None:
        callback = handle._callback  # it may cancel its handle
        waited, begun = self._waited(), time.monotonic()
        try:
            self._run(handle)
        finally:
            took = time.monotonic() - begun
            if took > LIMIT:
                self._note(callback, took, self._waited() - waited)

    def _started(self, thread: threading.Thread, start: Any) -> None:
        waited, begun = self._waited(), time.monotonic()
        try:
            start(thread)
        finally:
            self._starting += time.monotonic() - begun - (self._waited() - waited)

    def _waited(self) -> float:
        """Return the seconds in which papad was ready to run and did not (Documentation/scheduler/sched-stats.rst)."""
        return int(os.pread(self._schedstat, 128, 0).split()[1]) / 1e9 + self._starting

    def _note(self, callback: Any, took: float, waited: float) -> None:
        limit = LIMIT_UNDER_LOAD if os.getloadavg()[0] > (os.cpu_count() or 1) else LIMIT
        if took - waited <= limit:
            return
        owner = getattr(callback, "__self__", None)
        what = repr(owner) if isinstance(owner, asyncio.Task) else repr(callback)
        line = {"pid": os.getpid(), "held": round(took - waited, 4), "waited": round(waited, 4), "by": what}
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")


def _is_papad() -> bool:
    return any(word == "papa_dbus.service" or word.endswith("/papad") for word in sys.orig_argv)


if FILE in os.environ and _is_papad():
    _Guard(os.environ[FILE]).install()
