"""What was seen, as a table and as pictures."""

import re
from pathlib import Path
from typing import Any

from benchmarks.rows import ROWS, Figures

_BEGIN, _END = "<!-- figures: made by make bench -->", "<!-- end of figures -->"


def table(results: dict[str, Any]) -> str:
    """The table in Markdown, with the machine named."""
    figures = Figures(results["figures"])
    of = results["machine"]
    lines = [
        f"{of['date']}; {of['processor']}; {of['kernel']}; Python {of['python']}.",
        f"Medians of {results['repetitions']} repetitions, taken in turns in one run.",
        "",
        "| work | hoped for | seen | ratio | |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        try:
            ratio, shown = row.seen(figures), row.shown(figures)
        except KeyError:
            continue  # not measured in this run
        except ZeroDivisionError:
            lines.append(f"| {row.work} | {row.goal} | too little to measure | | |")
            continue
        verdict = "yes" if row.good(ratio) else "**no**"
        lines.append(f"| {row.work} | {row.goal} | {shown} | {ratio:.{row.digits}f} | {verdict} |")
    return "\n".join(lines)


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
        seen = sorted(value for run in runs for value in run["ms"])
        axes.plot(seen, [100 * (n + 1) / len(seen) for n in range(len(seen))], label=subject)
    axes.set(xscale="log", xlabel="ms from the child's write to the watcher's hands", ylabel="% of lines")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
