"""The modules that the pages for those who change Papa name are there, and what is named of a module is in it."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
PACKAGE = PROJECT / "papa_dbus"
PAGES = [
    PROJECT / "CONTRIBUTING.md",
    *(PROJECT / f"docs/{page}.md" for page in ("architecture", "glossary", "bounds")),
    *sorted((PROJECT / "docs/explanation").glob("*.md")),
    *sorted((PROJECT / "docs/decisions").glob("*.md")),
]
#: Where a path in a page begins.
ROOTS = (PROJECT, PACKAGE, PACKAGE / "service", PACKAGE / "client")
FOLDERS = {folder.name for root in ROOTS for folder in root.iterdir() if folder.is_dir() and folder.name[0] != "."}
#: `fork/child.py`, `fork/child`, `fork.child.prepare()`
PATH = re.compile(rf"`((?:{'|'.join(sorted(FOLDERS))})[/.]\w[\w./]*)(?:\(\))?`")


def is_there(path: str) -> bool:
    """Return whether a path is a folder's or a file's, or leads to a name in a module."""
    if any((root / path).exists() for root in ROOTS):
        return True
    if "PACKAGE" in path:  # for any
        return True
    parts = re.split(r"[/.]", path.removesuffix(".py"))
    for root in ROOTS:
        for length in range(1, len(parts) + 1):
            module, names = root.joinpath(*parts[:length]).with_suffix(".py"), parts[length:]
            if module.is_file():
                return set(names) <= set(re.findall(r"\w+", module.read_text()))
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_of_the_code_is_there(page: Path) -> None:
    assert [path for path in PATH.findall(page.read_text()) if not is_there(path)] == []


def test_what_is_not_there_is_seen() -> None:
    assert not is_there("line/nowhere")
    assert not is_there("fork.child.nothing_of_this_name")
    assert is_there("fork.child.prepare")
