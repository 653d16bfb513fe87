"""The wheel and the sdist: what is in them, and that each starts papad and papactl where nothing else is installed."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from papa_dbus import __version__
from tests.support import PATIENCE

PROJECT = Path(__file__).resolve().parents[2]
WHEEL = f"papa_dbus-{__version__}-py3-none-any.whl"
SDIST = f"papa_dbus-{__version__}.tar.gz"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both, the wheel of what is in the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", str(folder), str(PROJECT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {file.name for file in folder.iterdir()} == {WHEEL, SDIST}
    return folder


def known_to_git() -> set[str]:
    """Give the files that a clone would have if all was committed now."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=PROJECT, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    return {name for name in listed.split("\0") if name and (PROJECT / name).exists()}


def test_the_sdist_has_all_that_git_has(dist: Path) -> None:
    with tarfile.open(dist / SDIST) as sdist:
        there = {name.partition("/")[2] for name in sdist.getnames()}
    assert there == {name for name in known_to_git() if not name.startswith(".ci/")} | {"PKG-INFO"}


def test_the_wheel_has_the_program_the_units_and_the_manual(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        there = set(wheel.namelist())
    facts, data = f"papa_dbus-{__version__}.dist-info", f"papa_dbus-{__version__}.data/data/share"
    files = known_to_git()
    wanted = {name for name in files if name.startswith("papa_dbus/")}
    wanted |= {f"{data}/papa/{name}" for name in files if name.startswith("units/")}
    wanted |= {f"{data}/man/man{name[-1]}/{Path(name).name}" for name in files if name.startswith("docs/man/")}
    wanted |= {f"{facts}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert there == wanted


@pytest.mark.parametrize("file", [WHEEL, SDIST])
def test_each_starts_papad_and_papactl(dist: Path, tmp_path: Path, file: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True, timeout=PATIENCE * 3)
    pip = [str(tmp_path / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, f"{dist / file}[ctl]"], capture_output=True, text=True, timeout=240, cwd="/")
    assert done.returncode == 0, done.stderr
    papad = subprocess.Popen(
        [str(tmp_path / "bin/papad"), "--bus", "own", "--port", "0", "--socket", str(tmp_path / "line")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd="/",
    )  # fmt: skip
    try:
        assert papad.stdout is not None
        address = next(found[1] for line in papad.stdout if (found := re.search(r"--address=(\S+) tree", line)))
        papactl = [str(tmp_path / "bin/papactl"), "--bus", address, "status"]
        status = subprocess.run(papactl, check=True, capture_output=True, text=True, timeout=PATIENCE, cwd="/").stdout
        assert status.startswith(f"● Papa {__version__} at unix:")
    finally:
        papad.terminate()
        papad.communicate(timeout=PATIENCE)
    assert (tmp_path / "share/papa/units/system/papa.service.in").exists()
