"""The examples of docs/client.md print what stands below them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bus.lineclient import PATIENCE, ROOT, Papad

PAGE = (ROOT / "docs/client.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


def test_each_example_has_its_output() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 2


@pytest.mark.parametrize("example", EXAMPLES, ids=["asyncio", "drop-in"])
def test_an_example(example: tuple[str, str], tmp_path: Path) -> None:
    papad = Papad(tmp_path)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", example[0]], cwd=ROOT, timeout=PATIENCE, text=True,
        env={**os.environ, "PAPA_BUS_ADDRESS": papad.address}, capture_output=True, check=False,
    )  # fmt: skip
    papad.stop()
    assert (done.stdout, done.stderr) == (example[1], "")
