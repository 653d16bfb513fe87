"""The Vagrantfile, as far as a machine without a hypervisor can tell."""

import os
import subprocess
from pathlib import Path

from tests.systemd.container import PROJECT


def test_the_vagrantfile_is_valid(tmp_path: Path) -> None:
    # Vagrant writes into its home and beside the Vagrantfile.
    environment = os.environ | {"VAGRANT_HOME": f"{tmp_path}/home", "VAGRANT_DOTFILE_PATH": f"{tmp_path}/dot"}
    command = ["vagrant", "validate", "--ignore-provider"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "validated successfully" in done.stdout


def test_it_calls_the_same_installation() -> None:
    assert "make install" in (PROJECT / "Vagrantfile").read_text()
