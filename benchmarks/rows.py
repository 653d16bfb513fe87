"""Which subjects each workload measures; and the rows that show papad beside Papa 1.0.6 and the bare machine."""

from collections.abc import Callable

from benchmarks.figures import Figures, Row, number

#: The ways to papad, by subject, as they are called in the table.
CLIENTS = {"line": "20202", "drop-in": "drop-in", "aio": "aio"}
PEERS = ["supervisord", "circus"]
PLAN: dict[str, list[str]] = {
    "make": ["papa", *CLIENTS, "bare", "bare preexec", "bare fork", *PEERS],
    "latency": ["papa", *CLIENTS, "bare", "bare relay", "bare keeper", "bare bus", *PEERS],
    "quiet latency": ["papa", *CLIENTS, "bare", *PEERS],
    "throughput": ["papa", *CLIENTS, "bare", "bare bus", *PEERS],
    "steady": ["papa", "line", "aio"],
    "block": [*CLIENTS],
    "small lines": ["papa", *CLIENTS, "bare", *PEERS],
    "idle": ["papa", "line", "aio"],
    "500 idle": ["papa", *CLIENTS, *PEERS],
    "one": ["papa", "line", "aio"],
    "busy": ["papa", *CLIENTS, *PEERS],
    "watchers": [*CLIENTS],
    "values": ["papa", "line", "drop-in", "aio", "bare bus", "bare echo"],
    "many clients": ["line", "aio"],
    "backlog": ["papa", *CLIENTS],
    "cold start": ["bare", "cold", "papa", *PEERS],
}


def _ratio(workload: str, figure: str, one: str, other: str, percentile: int = 50) -> Callable[[Figures], float]:
    return lambda f: f.of(workload, one, figure, percentile) / f.of(workload, other, figure, percentile)


def _pair(
    workload: str, figure: str, one: str, other: str, unit: str, percentile: int = 50
) -> Callable[[Figures], str]:
    def show(f: Figures) -> str:
        left, right = f.of(workload, one, figure, percentile), f.of(workload, other, figure, percentile)
        return f"{number(left)} {unit}; {other}: {number(right)}"

    return show


def _row(
    work: str,
    goal: str,
    workload: str,
    figure: str,
    one: str,
    other: str,
    unit: str,
    limit: float,
    least: bool,
    p: int = 50,
) -> Row:
    return Row(
        work,
        goal,
        _ratio(workload, figure, one, other, p),
        (lambda x: x >= limit) if least else (lambda x: x <= limit),
        _pair(workload, figure, one, other, unit, p),
    )


def _plain(work: str, goal: str, workload: str, figure: str, subject: str, unit: str, limit: float) -> Row:
    return Row(
        work,
        goal,
        lambda f: f.of(workload, subject, figure),
        lambda x: x <= limit,
        lambda f: f"{number(f.of(workload, subject, figure))} {unit}",
    )


def _making(work: str, goal: str, one: str, other: str, limit: float) -> Row:
    return _row(work, goal, "make", "per second", one, other, "a second", limit, least=True)


#: Where a figure is looked up: workload, subject, figure, percentile.
_Where = tuple[str, str, str, int]


def _across(
    work: str, goal: str, one: _Where, told: str, other: _Where, limit: float, unit: str = "ms", least: bool = False
) -> Row:
    """Two figures of different workloads."""

    def of(f: Figures, where: _Where) -> float:
        workload, subject, figure, percentile = where
        return f.of(workload, subject, figure, percentile)

    return Row(
        work,
        goal,
        lambda f: of(f, one) / of(f, other),
        (lambda x: x >= limit) if least else (lambda x: x <= limit),
        lambda f: f"{number(of(f, one))} {unit}; {told}: {number(of(f, other))}",
    )


def _between(
    work: str, goal: str, subject: str, figure: str, one: str, other: str, told: str, limit: float, unit: str = "ms"
) -> Row:
    """One figure of one subject in two workloads; at most so many times the other, of a rate at least."""
    wanted = (one, subject, figure, 50), told, (other, subject, figure, 50)
    return _across(work, goal, *wanted, limit, unit, least=unit.endswith("/s"))


def _full(work: str, subject: str) -> Row:
    """Many clients: in per cent of a core, or of the machine, whichever is fuller."""

    def of(f: Figures, figure: str) -> float:
        return f.of("many clients", subject, figure)

    return Row(
        work,
        "a core is full, or the machine",
        lambda f: max(of(f, "CPU %"), of(f, "machine %")),
        lambda x: x >= 90,
        lambda f: (
            f"{of(f, 'per second'):,.0f} calls a second;"
            f" papad: {of(f, 'CPU %'):.0f} % of a core, all together: {of(f, 'machine %'):.0f} % of the machine"
        ),
        0,
    )


ROWS: list[Row] = [
    _row("a line through 20202, p50", "≤ 3 x bare pipe", "latency", "ms", "line", "bare", "ms", 3, False),
    _row("… the floor: a bare asyncio relay", "≤ 3 x bare pipe", "latency", "ms", "bare relay", "bare", "ms", 3, False),
    _row(
        "… one that keeps what it passes on", "≤ 3 x bare pipe", "latency", "ms", "bare keeper", "bare", "ms", 3, False
    ),
    _row("… beside that", "(1.5 x bare keeper)", "latency", "ms", "line", "bare keeper", "ms", 1.5, False),
    _row("… p99", "≤ supervisord's file", "latency", "ms", "line", "supervisord", "ms", 1, False, 99),
    _row(
        "a line through D-Bus (aio), p50", "≤ 1.5 x bare signal", "latency", "ms", "aio", "bare bus", "ms", 1.5, False
    ),
    _row("… p99", "≤ 2 x bare signal", "latency", "ms", "aio", "bare bus", "ms", 2, False, 99),
    _row("… drop-in, p50", "(1.5 x bare signal)", "latency", "ms", "drop-in", "bare bus", "ms", 1.5, False),
    _row("a line through 20202, p50", "Papa 1.0.6", "latency", "ms", "line", "papa", "ms", 1, False),
    _between(
        "a quiet process's line through 20202",
        "no later than a busy one's",
        "line",
        "ms",
        "quiet latency",
        "latency",
        "busy",
        1.5,
    ),
    _between("… through D-Bus", "no later than a busy one's", "aio", "ms", "quiet latency", "latency", "busy", 1.5),
    _row(
        "512 MiB: the child is read, 20202",
        "≥ 0.5 x bare pipe",
        "throughput",
        "taken MB/s",
        "line",
        "bare",
        "MB/s",
        0.5,
        True,
    ),
    _row("… read by aio", "≥ 0.5 x bare pipe", "throughput", "taken MB/s", "aio", "bare", "MB/s", 0.5, True),
    _row("… delivered through 20202", "≥ 5 x Papa 1.0.6", "throughput", "MB/s", "line", "papa", "MB/s", 5, True),
    _row("… through D-Bus (aio)", "≥ 0.6 x bare signals", "throughput", "MB/s", "aio", "bare bus", "MB/s", 0.6, True),
    _row(
        "… through D-Bus (drop-in)",
        "≥ 0.6 x bare signals",
        "throughput",
        "MB/s",
        "drop-in",
        "bare bus",
        "MB/s",
        0.6,
        True,
    ),
    _plain("… at 20 MB/s, 20202: lost", "nothing", "steady", "lost %", "line", "%", 0),
    _plain("… at 20 MB/s, D-Bus: lost", "nothing", "steady", "lost %", "aio", "%", 0),
    _plain("… overflow=block, 20202: lost", "nothing", "block", "lost %", "line", "%", 0),
    _plain("… overflow=block, D-Bus: lost", "nothing", "block", "lost %", "aio", "%", 0),
    _row(
        "1,000,000 lines of 100 bytes, 20202",
        "≥ 3 x Papa 1.0.6",
        "small lines",
        "MB/s",
        "line",
        "papa",
        "MB/s",
        3,
        True,
    ),
    _row("… D-Bus (aio)", "≥ 3 x Papa 1.0.6", "small lines", "MB/s", "aio", "papa", "MB/s", 3, True),
    _row("… D-Bus (drop-in)", "≥ 3 x Papa 1.0.6", "small lines", "MB/s", "drop-in", "papa", "MB/s", 3, True),
    _making("making processes, 20202", "≥ 1.4 x Papa 1.0.6", "line", "papa", 1.4),
    _making("… D-Bus (aio)", "≥ 1.4 x Papa 1.0.6", "aio", "papa", 1.4),
    _making("… 20202", "≥ 0.85 x bare Popen", "line", "bare", 0.85),
    _making("… the floor: fork, gate, exec", "≥ 0.85 x bare Popen", "bare fork", "bare", 0.85),
    _making("… 20202 beside that", "(0.6 x bare fork)", "line", "bare fork", 0.6),
    _making("… Popen with a preexec_fn", "≥ 0.85 x bare Popen", "bare preexec", "bare", 0.85),
    _making("… 20202 beside that", "(0.85 x bare preexec)", "line", "bare preexec", 0.85),
    _plain("2,000 idle processes: threads", "1", "idle", "threads", "aio", "", 1),
    _plain("… descriptors each", "≤ 2 + 2 pipes + pidfd", "idle", "descriptors each", "aio", "", 5),
    _row("… memory each", "≤ 0.2 x Papa 1.0.6", "idle", "KiB each", "aio", "papa", "KiB", 0.2, False),
    _plain("… wake-ups in 2 s", "0", "idle", "wake-ups in 2 s", "aio", "", 0),
    _across(
        "… the 2,000th is made as fast as the 1st",
        "≤ 1.2",
        ("idle", "aio", "last ms", 50),
        "first",
        ("idle", "aio", "first ms", 50),
        1.2,
    ),
    _between("… listing one of them, 20202", "≤ 1.5 x one of one", "line", "list one ms", "idle", "one", "of one", 1.5),
    _between("… listing one of them, D-Bus", "≤ 1.5 x one of one", "aio", "list one ms", "idle", "one", "of one", 1.5),
    _plain("200 processes, 10 lines a second each: lost", "nothing", "busy", "lost", "aio", "lines", 0),
    _across("… p99 (aio)", "≤ 5 x one process's", ("busy", "aio", "ms", 99), "of one", ("latency", "aio", "ms", 99), 5),
    _row("… CPU of papad, 20202", "≤ 0.5 x Papa 1.0.6", "busy", "CPU %", "line", "papa", "%", 0.5, False),
    _row("… CPU of papad, aio", "≤ 0.5 x Papa 1.0.6", "busy", "CPU %", "aio", "papa", "%", 0.5, False),
    _row("a value's round trip, 20202", "≤ 1.3 x Papa 1.0.6", "values", "µs", "line", "papa", "µs", 1.3, False),
    _row("… the floor: an asyncio echo", "≤ 1.3 x Papa 1.0.6", "values", "µs", "bare echo", "papa", "µs", 1.3, False),
    _row("… D-Bus (aio)", "≤ 1.5 x bare call", "values", "µs", "aio", "bare bus", "µs", 1.5, False),
    _row("… D-Bus (drop-in)", "(1.5 x bare call)", "values", "µs", "drop-in", "bare bus", "µs", 1.5, False),
    _full("eight clients at once, 20202", "line"),
    _full("eight clients at once, D-Bus", "aio"),
    _between(
        "a backlog of 2 MiB, 20202",
        "≥ the throughput above",
        "line",
        "MB/s",
        "backlog",
        "throughput",
        "throughput",
        1,
        "MB/s",
    ),
    _row("… beside Papa 1.0.6", "(1 x Papa 1.0.6)", "backlog", "MB/s", "line", "papa", "MB/s", 1, True),
    _between(
        "… D-Bus (aio)", "≥ the throughput above", "aio", "MB/s", "backlog", "throughput", "throughput", 1, "MB/s"
    ),
    _row("cold start", "≤ 2 x import asyncio, dbus_next", "cold start", "ms", "cold", "bare", "ms", 2, False),
    _plain("memory after start", "watched", "cold start", "MiB", "cold", "MiB", 100),
]
