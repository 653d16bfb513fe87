"""The manual pages: made of what the commands and the contract say now, and without a fault in a reader's eyes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
PAGES = ("papactl.1", "papad.8", "org.papa.Kernel.5")


def test_the_pages_are_what_the_help_says(tmp_path: Path) -> None:
    """After a change of the help or the contract: make man."""
    subprocess.run([sys.executable, PROJECT / "tools/manual.py", tmp_path], check=True, timeout=60)
    for page in PAGES:
        assert (tmp_path / page).read_text() == (PROJECT / "docs/man" / page).read_text(), f"{page}: make man"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_good_troff(page: str) -> None:
    file = PROJECT / "docs/man" / page
    lint = subprocess.run(["mandoc", "-Tlint", "-Wwarning", file], capture_output=True, text=True, timeout=60)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")
    rendered = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", file], capture_output=True, text=True, timeout=60,
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert (rendered.returncode, rendered.stderr) == (0, "")
    assert "SEE ALSO" in rendered.stdout
