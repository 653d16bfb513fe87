"""papa-circusd puts its additions into the versions of Circus that it was tried with, and into no other."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import PATIENCE


def test_a_version_that_was_not_tried_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "circus.py").write_text("__version__ = '0.20.0'\n")
    done = subprocess.run(
        [sys.executable, "-m", "papa_dbus.client.circus"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "this is Circus 0.20.0; known are 0.17.2, 0.18.0, 0.19.0" in done.stderr
