"""Circus from PyPI, a virtual environment for each version, kept for the next run as the Debian trees are."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.systemd.container import PROJECT, Container
from tests.systemd.debian import TREES

# 0.17.2 is the last that knows Papa by itself. pyzmq, tornado and psutil are not pinned: each Circus works with the
# newest ones on Python 3.11, which is what `pip install circus` brings.
VERSIONS = ("0.17.2", "0.18.0", "0.19.0")
#: Each Circus with the project's command, and the one that knows Papa by itself without it, too.
COMBINATIONS = [("0.17.2", "plain"), *((version, "papa-circusd") for version in VERSIONS)]


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, f"--wheel-dir={folder}", str(PROJECT)], check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(container: Container, version: str, wheel: Path) -> None:
    """Install Circus of a version and the project into /opt/circus-VERSION of a container that is not booted."""
    target = f"/opt/circus-{version}"
    python = container.run_unbooted(
        "/usr/bin/python3 -c 'import sys; print(*sys.version_info[:2], sep=chr(46))'"
    ).strip()
    kept = TREES / f"circus-{version}-python{python}"
    container.copy_in(wheel, f"/opt/{wheel.name}")
    pip = f"{target}/bin/pip install --quiet --disable-pip-version-check --root-user-action=ignore"
    if kept.exists():
        container.copy_in(kept, target)
    else:
        container.run_unbooted(f"/usr/bin/python3 -m venv {target} && {pip} circus=={version} /opt/{wheel.name}")
        _keep(container.root / target.lstrip("/"), kept)
    # What it needs may have changed since, and it itself has, with no new version number.
    container.run_unbooted(f"{pip} /opt/{wheel.name} && {pip} --no-deps --force-reinstall /opt/{wheel.name}")


def _keep(made: Path, kept: Path) -> None:
    TREES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TREES) as folder:
        shutil.copytree(made, Path(folder) / "whole", symlinks=True)
        (Path(folder) / "whole").rename(kept)  # whole or not at all
