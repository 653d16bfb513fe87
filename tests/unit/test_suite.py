"""The suite itself: no test is left out, and nothing is slept through that can be waited for."""

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
#: A sleep has one of these beside it. None of them stands for something that must have happened meanwhile.
MARKS = (
    "# paces the load",
    "# paces the pieces",
    "# paces the looks",  # a loop with an end, in a program that has no tests.support
    "# takes no time",
)
#: How a test or a part of it is left out.
LEFT_OUT = re.compile(r"\bskip(if)?\(|\bmark\.skip|\bimportorskip\b|\bxfail\b|\bSkipTest\b")
SLEEP = re.compile(r"\bsleep\(")
#: A shell's loop over a number of looks ends too early on a busy machine; Bed.wait_until() has an end in time.
COUNTED_LOOKS = re.compile(r"\bseq \d+\); do .*\bsleep\b|\buntil .*\bsleep\b")


def lines() -> Iterator[tuple[str, str]]:
    """Each line of the suite's programs, and where it stands."""
    for file in sorted(TESTS.rglob("*.py")):
        if file != Path(__file__):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                yield f"{file.relative_to(TESTS)}:{number}: {line.strip()}", line


def test_no_test_is_skipped() -> None:
    """A test that cannot run fails."""
    assert [where for where, line in lines() if LEFT_OUT.search(line)] == []


def test_a_sleep_paces_and_waits_for_nothing() -> None:
    assert [where for where, line in lines() if SLEEP.search(line) and not any(mark in line for mark in MARKS)] == []
    assert [where for where, line in lines() if COUNTED_LOOKS.search(line)] == []


def test_who_polls_does_so_in_one_place() -> None:
    """tests.support has the loops; programs that run on their own, on a bed or in a namespace, have one each."""
    found = {where.partition(":")[0] for where, line in lines() if "# paces the looks" in line}
    assert found == {
        "support.py",
        "bus/test_drop_in_starting.py",
        "systemd/chaos.py",
        "systemd/scenario.py",
    }
