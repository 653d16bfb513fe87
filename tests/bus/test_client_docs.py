"""The examples in Python of docs/ print what stands below them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bus.lineclient import PATIENCE, ROOT, Papad

PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in sorted((ROOT / "docs").rglob("*.md"))}
EXAMPLES = [
    (name, *example)
    for name, text in PAGES.items()
    for example in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
]


def test_each_example_has_its_output() -> None:
    assert len(EXAMPLES) == sum(text.count("```python") for text in PAGES.values()) > 2


@pytest.mark.parametrize(("page", "program", "output"), EXAMPLES, ids=[page for page, *_ in EXAMPLES])
def test_an_example(page: str, program: str, output: str, tmp_path: Path) -> None:
    papad = Papad(tmp_path)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program], cwd=ROOT, timeout=PATIENCE, text=True,
        env={**os.environ, "PAPA_BUS_ADDRESS": papad.address, "DBUS_SYSTEM_BUS_ADDRESS": papad.address},
        capture_output=True, check=False,
    )  # fmt: skip
    papad.stop()
    assert (done.stdout, done.stderr) == (output, "")
