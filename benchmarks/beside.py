"""The rows of the table that show papad beside its peers."""

from dataclasses import dataclass

from benchmarks.figures import Figures, Row, number
from benchmarks.rows import CLIENTS

#: Where a figure is looked up: workload, figure.
_Where = tuple[str, str]


@dataclass(frozen=True)
class _Goal:
    """At most ``limit`` times the least figure of the ``judges``, or at least so many times the largest.

    Without judges papad's figure itself is at most ``limit``. The figures of ``others`` are shown only.
    """

    work: str
    goal: str
    where: _Where
    unit: str
    limit: float
    judges: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    least: bool = False
    theirs: _Where | None = None  # if it is another than papad's

    def row(self, subject: str, way: str = "") -> Row:
        """Return the row of one subject, which is called a ``way`` to papad."""
        return Row(
            f"{self.work}, {way}" if way else self.work,
            self.goal,
            lambda f: self._ratio(f, subject),
            (lambda x: x >= self.limit) if self.least else (lambda x: x <= self.limit),
            lambda f: self._shown(f, subject),
        )

    def _mine(self, f: Figures, subject: str) -> float:
        workload, figure = self.where
        return f.of(workload, subject, figure)

    def _of(self, f: Figures, peer: str) -> float:
        workload, figure = self.theirs or self.where
        return f.of(workload, peer, figure)

    def _ratio(self, f: Figures, subject: str) -> float:
        if not self.judges:
            return self._mine(f, subject)
        best = (max if self.least else min)(self._of(f, judge) for judge in self.judges)
        return self._mine(f, subject) / best

    def _shown(self, f: Figures, subject: str) -> str:
        peers = [peer for peer in (*self.judges, *self.others) if f.has((self.theirs or self.where)[0], peer)]
        beside = [f"{peer}: {number(self._of(f, peer))}" for peer in peers]
        return "; ".join([f"{number(self._mine(f, subject))} {self.unit}", *beside])


_BOTH = ("supervisord", "circus")
_FLOOD = ("throughput", "MB/s")
_FLOODED = ("circus", "papa", "bare")
_BUSY = "200 processes, 10 lines a second each"

#: For each way to papad.
_GOALS = [
    _Goal("a line each 50 ms: p50", "≤ supervisord's and Circus's", ("latency", "ms"), "ms", 1, _BOTH, ("bare",)),
    _Goal(
        "a line after 2 s of silence: p50",
        "≤ 1.5 x supervisord's and Circus's",
        ("quiet latency", "ms"),
        "ms",
        1.5,
        _BOTH,
        ("bare",),
    ),
    _Goal(f"{_BUSY}: p50", "≤ 2 x supervisord's", ("busy", "ms"), "ms", 2, ("supervisord",), ("circus", "papa")),
    _Goal(
        f"{_BUSY}: CPU of the holder",
        "≤ 0.6 x Papa's and Circus's",
        ("busy", "CPU s"),
        "s",
        0.6,
        ("papa", "circus"),
        ("supervisord",),
    ),
    _Goal(f"{_BUSY}: lost", "nothing", ("busy", "lost"), "lines", 0),
    _Goal("512 MiB in 64 KiB pieces", "≥ supervisord's", _FLOOD, "MB/s", 1, ("supervisord",), _FLOODED, least=True),
    _Goal("512 MiB in 64 KiB pieces: lost", "(nothing)", ("throughput", "lost %"), "%", 0, (), _BOTH),
    _Goal(
        "512 MiB, overflow=block",
        "≥ 0.9 x supervisord's",
        ("block", "MB/s"),
        "MB/s",
        0.9,
        ("supervisord",),
        least=True,
        theirs=_FLOOD,
    ),
    _Goal("512 MiB, overflow=block: lost", "nothing", ("block", "lost %"), "%", 0),
    _Goal(
        "1,000,000 lines of 100 bytes",
        "≥ supervisord's",
        ("small lines", "MB/s"),
        "MB/s",
        1,
        ("supervisord",),
        _FLOODED,
        least=True,
    ),
    _Goal("1,000,000 lines of 100 bytes: lost", "(nothing)", ("small lines", "lost %"), "%", 0, (), _BOTH),
    _Goal("100 watchers on one busy process: CPU of papad", "≤ 2 x one's", ("watchers", "times one"), "x one's", 2),
    _Goal("100 watchers on one busy process: lost", "nothing", ("watchers", "lost"), "lines", 0),
    _Goal("listing 500 processes", "≤ 2 x Papa's", ("500 idle", "list ms"), "ms", 2, ("papa",), ("circus",)),
    _Goal("making one by one", "≥ 1.5 x Papa's", ("make", "per second"), "a second", 1.5, ("papa",), _BOTH, least=True),
    _Goal("a backlog of 2 MiB", "≤ 30 ms", ("backlog", "took ms"), "ms", 30, (), ("papa",)),
    _Goal("a backlog of 2 MiB: lost", "nothing", ("backlog", "lost %"), "%", 0, (), ("papa",)),
]

BESIDE: list[Row] = [
    *(goal.row(subject, way) for goal in _GOALS for subject, way in CLIENTS.items()),
    _Goal(
        "500 idle processes: memory each", "the least of all", ("500 idle", "KiB each"), "KiB", 1, ("papa", *_BOTH)
    ).row("aio"),
    _Goal(
        "cold start to the first answer",
        "≤ supervisord's",
        ("cold start", "ms"),
        "ms",
        1,
        ("supervisord",),
        ("papa", "circus"),
    ).row("cold"),
]
