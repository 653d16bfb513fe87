"""What was seen, as a table and as pictures."""

import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.beside import BESIDE
from benchmarks.figures import Figures, Row, number
from benchmarks.rows import ROWS

_BEGIN, _END = "<!-- figures: made by make bench -->", "<!-- end of figures -->"


def table(results: dict[str, Any]) -> str:
    """The table in Markdown, with the machine named."""
    figures = Figures(results["figures"])
    of = results["machine"]
    return "\n".join(
        [
            f"{of['date']}; {of['processor']}; {of['kernel']}; Python {of['python']}.",
            f"Medians of {results['repetitions']} turns, in each of which every subject did the work once.",
            "A ratio is of two figures of one turn: the median of all turns' ratios (the least to the largest).",
            *_noise(figures),
            *_rows("Beside supervisord, Circus and Papa 1.0.6:", BESIDE, figures),
            *_rows("Beside Papa 1.0.6 and the bare machine:", ROWS, figures),
        ]
    )


def _noise(figures: Figures) -> list[str]:
    """Say how late this machine itself wakes a reader."""
    try:
        p50, p99 = (
            [turn.of("latency", "bare", "ms", percentile) for turn in figures.turns()] for percentile in (50, 99)
        )
    except KeyError:
        return []
    noise = " and ".join(f"{name} {_spread(seen, number)} ms" for name, seen in (("p50", p50), ("p99", p99)))
    return [f"The machine's own wake-up noise, a line through a bare pipe: {noise}."]


def _spread(seen: list[float], shown: Callable[[float], str]) -> str:
    least, middle, largest = (shown(value) for value in (min(seen), statistics.median(seen), max(seen)))
    return middle if least == largest else f"{middle} ({least} to {largest})"


def _rows(title: str, rows: list[Row], figures: Figures) -> list[str]:
    lines = [line for row in rows if (line := _line(row, figures))]
    return ["", title, "", "| work | hoped for | seen | ratio | |", "|---|---|---|---|---|", *lines] if lines else []


def _line(row: Row, figures: Figures) -> str | None:
    """Return one row; None for what was not measured in this run."""
    try:
        ratios, shown = row.ratios(figures), row.shown(figures)
    except KeyError:
        return None
    except ZeroDivisionError:
        return f"| {row.work} | {row.goal} | too little to measure | | |"
    if not ratios:
        return None
    verdict = "yes" if row.good(statistics.median(ratios)) else "**no**"
    ratio = _spread(ratios, lambda value: f"{value:.{row.digits}f}")
    return f"| {row.work} | {row.goal} | {shown} | {ratio} | {verdict} |"


def write_into(page: Path, text: str) -> None:
    """Put the table in its place in a page."""
    old = page.read_text()
    page.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: f"{_BEGIN}\n{text}\n{_END}", old, flags=re.DOTALL))


def draw(results: dict[str, Any], file: Path) -> None:
    """How long lines took: for each subject the share of lines that were there after so many milliseconds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for subject, runs in results["figures"].get("latency", {}).items():
        seen = sorted(value for run in runs if run is not None for value in run["ms"])
        axes.plot(seen, [100 * (n + 1) / len(seen) for n in range(len(seen))], label=subject)
    axes.set(xscale="log", xlabel="ms from the child's write to the watcher's hands", ylabel="% of lines")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
