"""The figures of a run, and the rows that the table makes of them."""

import contextlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: By workload and subject, one for each turn; None if that measurement failed.
Results = dict[str, dict[str, list[dict[str, Any] | None]]]


class Figures:
    """The medians of what was seen."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def turns(self) -> "list[Figures]":
        """Return what was seen in each turn alone."""
        count = max((len(runs) for subjects in self._results.values() for runs in subjects.values()), default=0)
        return [
            Figures(
                {
                    workload: {subject: runs[turn : turn + 1] for subject, runs in subjects.items()}
                    for workload, subjects in self._results.items()
                }
            )
            for turn in range(count)
        ]

    def has(self, workload: str, subject: str) -> bool:
        """Return whether it was measured."""
        return any(run is not None for run in self._results.get(workload, {}).get(subject, []))

    def of(self, workload: str, subject: str, figure: str, percentile: int = 50) -> float:
        """Return a median over the turns; of figures that are lists, of all of them together, or another percentile.

        Raises KeyError if it was not measured.
        """
        seen = [run[figure] for run in self._results[workload][subject] if run is not None]
        if not seen:
            raise KeyError(subject)
        if isinstance(seen[0], list):
            flat = sorted(value for values in seen for value in values)
            return float(flat[min(len(flat) * percentile // 100, len(flat) - 1)]) if flat else float("nan")
        return float(statistics.median(seen))


@dataclass(frozen=True)
class Row:
    """One goal: what it is about, what is hoped for, and how it is seen."""

    work: str
    goal: str
    seen: Callable[[Figures], float]
    good: Callable[[float], bool]
    shown: Callable[[Figures], str]
    digits: int = 2

    def ratios(self, figures: Figures) -> list[float]:
        """Return the ratio in each turn in which all that it needs was measured."""
        ratios = []
        for turn in figures.turns():
            with contextlib.suppress(KeyError):
                ratios.append(self.seen(turn))
        return ratios


def number(value: float) -> str:
    """Write three digits, as people write numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
