"""The drop-in's Watcher: what a backend's watch gives, as Papa 1.0.6 gives it."""

import time
from collections import namedtuple
from collections.abc import Iterable
from logging import getLogger
from typing import TYPE_CHECKING, Protocol, Self

from papa_dbus.client.records import Dropped, Event, Exited
from papa_dbus.errors import PapaError as Error
from papa_dbus.names import UNKNOWN_EXIT

if TYPE_CHECKING:
    from papa_dbus.client.compat.papa import Papa

log = getLogger("papa.client")

#: ``timestamp`` in seconds; ``data`` is bytes, or the exit code.
ProcessOutput = namedtuple("ProcessOutput", "name timestamp data")


class Watch(Protocol):
    """A watch of either backend: its events, in order.

    read, acknowledge and close are as the Watcher's. With take, done and leave nothing is acknowledged but what is said
    to be done with; after take has raised an error, resume opens the watch again. ``exact``: each event by itself, and
    what was taken does not come again after resume; else all that came at once.
    """

    exact: bool

    def fileno(self) -> int: ...
    @property
    def ready(self) -> bool: ...
    def read(self) -> list[Event]: ...
    def acknowledge(self) -> None: ...
    def close(self) -> None: ...
    def take(self) -> list[Event]: ...
    def done(self, count: int) -> None: ...
    def resume(self) -> None: ...
    def leave(self) -> None: ...


class Watcher:
    """What watch_processes gives: the output of processes, until all of them have ended.

    ``exit_code`` has the codes of those that have, by name; ``fileno()`` is readable while read() would not wait.
    """

    def __init__(self, papa_object: "Papa", watch: Watch) -> None:
        self.papa_object = papa_object
        self.exit_code: dict[str, int] = {}
        self._watch: Watch | None = watch
        self._begun: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __bool__(self) -> bool:
        return self._watch is not None

    def __len__(self) -> int:
        return int(self._watch is not None)

    def fileno(self) -> int:
        """A descriptor for select(). Raises Error once the watch has ended."""
        return self._open().fileno()

    def _open(self) -> Watch:
        if self._watch is None:
            raise Error("this watcher is closed")
        return self._watch

    @property
    def ready(self) -> bool:
        """Return whether there is something to read."""
        return self._watch is not None and self._watch.ready

    def read(self) -> tuple[list[ProcessOutput], list[ProcessOutput], list[ProcessOutput]] | None:
        """Wait for what comes next: stdout, stderr and ends. None once everything has been read and acknowledged.

        What was read before is acknowledged. Raises Error where papad lets nothing more be read.
        """
        if self._watch is None:
            return [], [], []
        events = self._watch.read()
        if not events:
            self.close()
            return None
        out: list[ProcessOutput] = []
        err: list[ProcessOutput] = []
        closed: list[ProcessOutput] = []
        for place, event in enumerate(events):
            match event:
                case Exited():
                    code = UNKNOWN_EXIT if event.exit_code is None else event.exit_code
                    self.exit_code[event.process] = code
                    closed.append(ProcessOutput(event.process, event.timestamp / 1e6, code))
                case Dropped():
                    self._tell_loss(event, events[place + 1 :], err)
                case _:
                    piece = ProcessOutput(event.process, event.timestamp / 1e6, event.data)
                    (out if event.stream == "out" else err).append(piece)
            self._begun.add(event.process)
        return out, err, closed

    def _tell_loss(self, loss: Dropped, following: Iterable[Event], err: list[ProcessOutput]) -> None:
        """Tell of a loss in the midst where errors are read; one from before the watch would look like output."""
        log.warning("%d bytes of the output of %s were lost: its buffer was full", loss.bytes, loss.process)
        if loss.process in self._begun:
            times = (event.timestamp for event in following if not isinstance(event, Dropped))
            text = f"papa: {loss.bytes} bytes of output lost\n"
            err.append(ProcessOutput(loss.process, next(times, time.time_ns() // 1000) / 1e6, text.encode()))

    def acknowledge(self) -> None:
        """Note that what was read has been dealt with, and does not come again."""
        if self._watch is not None:
            self._watch.acknowledge()

    def close(self) -> None:
        """Acknowledge what was read, and watch no more. What was not read is there for the next watcher."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
