"""Hold the suite to CONTRIBUTING.md: no test is left out, and no sleep stands for something that has happened (46)."""

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[2]
#: Stands on the line of a sleep, before what it paces: the load, a child's pieces. No assertion depends on its length.
MARK = "# paces "
#: The mark of a loop with an end that looks at a condition again and again.
POLLS = "# paces the looks"
#: The ways of leaving out a test, or a part of it.
LEFT_OUT = re.compile(r"\bskip(if)?\(|\bmark\.skip|\bimportorskip\b|\bxfail\b|\bSkipTest\b")
SLEEP = re.compile(r"\bsleep\((?!0\))")  # sleep(0) takes no time
#: A shell's loop over a number of looks ends too early on a busy machine; Container.wait_until() has an end in time.
COUNTED_LOOKS = re.compile(r"\bseq \d+\); do .*\bsleep\b|\buntil .*\bsleep\b")


def lines() -> Iterator[tuple[str, str]]:
    """Yield each line of the suite's programs, after the place where it stands."""
    for file in sorted(TESTS.rglob("*.py")):
        if file != Path(__file__):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                yield f"{file.relative_to(TESTS)}:{number}: {line.strip()}", line


def test_no_test_is_skipped() -> None:
    """Fail if a test is skipped: a test that cannot run fails."""
    assert [where for where, line in lines() if LEFT_OUT.search(line)] == []


def test_a_sleep_paces_and_waits_for_nothing() -> None:
    """Fail if a sleep does not say what it paces."""
    assert [where for where, line in lines() if SLEEP.search(line) and MARK not in line] == []
    assert [where for where, line in lines() if COUNTED_LOOKS.search(line)] == []


def test_polling_is_done_in_one_place() -> None:
    """Fail if there are more loops than those of tests.support, and of programs in a container or a namespace."""
    found = {where.partition(":")[0] for where, line in lines() if POLLS in line}
    assert found == {
        "support.py",
        "bus/test_drop_in_starting.py",
        "systemd/chaos.py",
        "systemd/scenario.py",
    }


def test_helpers_stand_in_modules_of_their_own() -> None:
    """Fail if something is imported from a conftest: that has fixtures, and pytest finds those."""
    assert [where for where, line in lines() if re.search(r"^from [\w.]*\bconftest import", line)] == []
