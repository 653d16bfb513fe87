"""The pages that promise something name tests that are there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
#: Each with fewer tests than it names, so that one of which nothing is read is noticed.
PAGES = {
    "threat-model": 50,
    "bounds": 80,
    "architecture": 5,
    "explanation/calls": 15,
    "explanation/delivery": 50,
    "explanation/how-papad-survives": 20,
    "explanation/what-survives": 20,
    "decisions": 80,
}
NAMED = {
    page: sorted(
        {
            name
            for file in sorted(PROJECT.glob(f"docs/{page}/*.md")) or [PROJECT / f"docs/{page}.md"]
            for name in re.findall(r"`(test_\w+)`", file.read_text())
        }
    )
    for page in PAGES
}
TEXTS = [file.read_text() for file in PROJECT.glob("tests/**/*.py")]
TESTS = "\n".join(TEXTS)
WRITTEN = set(re.findall(r"^(?:async )?def (test_\w+)\(", TESTS, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_many_are_named(page: str) -> None:
    assert len(NAMED[page]) > PAGES[page]


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, names in NAMED.items() for name in names])
def test_it_is_there(page: str, name: str) -> None:
    assert name in WRITTEN, f"docs/{page}"


def test_it_is_there_once() -> None:
    """A name that stands twice would not say which is meant."""
    named = {name for names in NAMED.values() for name in names}
    assert [name for name in named if len(re.findall(rf"^(?:async )?def {name}\(", TESTS, re.MULTILINE)) > 1] == []


def test_each_bound_is_shown() -> None:
    rows = re.findall(r"^\| .+? \| [\d,.]+ \| .*$", (PROJECT / "docs/bounds.md").read_text(), re.MULTILINE)
    assert [row for row in rows if not re.search(r"\| `test_\w+`(, `test_\w+`)* \|$", row)] == []


def test_each_moment_is_shown_on_a_debian() -> None:
    """And on both where it says so: the test's fixtures have both."""
    page = (PROJECT / "docs/explanation/what-survives.md").read_text().partition("## Shown by\n")[2]
    rows = re.findall(r"^\|.*\| (`test_\w+`(?:, `test_\w+`)*) \| (12|13|12, 13) \|$", page, re.MULTILINE)
    assert len(rows) == page.partition("\n## ")[0].count("\n|") - 2  # without the head
    for names, where in rows:
        for name in re.findall(r"\w+", names):
            [text] = [text for text in TEXTS if f"def {name}(" in text]
            assert where != "12, 13" or re.search(r'params=\(.*"bookworm", "trixie"\)', text), name


def test_each_module_is_in_the_picture() -> None:
    parts = (PROJECT / "docs/architecture.md").read_text().partition("## A tour")[0]
    modules = {file.stem for file in (PROJECT / "papa_dbus").rglob("*.py")} - {"__init__"}
    assert modules - set(re.findall(r"\w+", parts)) == set()


def test_asyncios_own_executor_is_not_used() -> None:
    """papad's end would wait for its threads, one of which may hang for ever."""
    used = re.compile(r"run_in_executor|to_thread|loop\.getaddrinfo|sock_connect|open_connection|create_connection")
    for file in (PROJECT / "papa_dbus/service").rglob("*.py"):
        assert not used.search(file.read_text()), file.name
