"""A log file on a disk that is full: plain Circus drops what it cannot write, with use_papa nothing is lost."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.circus.environments import VERSIONS
from tests.circus.sidebyside import Circusd, Place
from tests.support import PATIENCE, wait_until

#: 5 MB, more than the disk, a pipe and what papad keeps of a process.
LINES = 50_000
PROGRAM = f"""
import signal, sys
for number in range({LINES}): print(f"{{number:09}} " + "x" * 89)
open(sys.argv[1], "w").close()
signal.pause()
"""


@pytest.fixture(scope="module", params=[VERSIONS[0], VERSIONS[-1]])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A papad, with the oldest Circus and the newest."""
    with Place(request.param) as made:
        yield made


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=PATIENCE)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=PATIENCE)


def configure(circusd: Circusd, folder: Path, papa: bool) -> None:
    """Have a watcher write to the disk more than it takes."""
    program = circusd.folder / "program.py"
    program.write_text(PROGRAM)
    circusd.configure(f"""
[watcher:app]
cmd = python3 -u {program} {circusd.folder}/done
copy_env = true
stdout_stream.class = FileStream
stdout_stream.filename = {folder}/app.log
{"use_papa = true" if papa else ""}
""")


def has_no_room(circusd: Circusd) -> None:
    """Wait until its log says so."""
    wait_until(lambda: "No space left on device" in circusd.words(), "nothing about the disk")


def lines(file: Path) -> list[int]:
    """The numbers of the whole lines in a file."""
    return [int(line[:9]) for line in file.read_text().splitlines() if len(line) == 99]


def test_with_papa_the_program_waits(circusd: Circusd) -> None:
    """And once there is room again each line is in the file, once."""
    with disk(circusd.folder / "disk") as folder:
        configure(circusd, folder, papa=True)
        circusd.begin()
        has_no_room(circusd)
        assert not (circusd.folder / "done").exists()
        mount("-o", "remount,size=20m", folder)
        wait_until((circusd.folder / "done").exists, circusd.words)
        wait_until(lambda: (folder / "app.log").stat().st_size >= LINES * 100, circusd.words)
        assert lines(folder / "app.log") == list(range(LINES))
        circusd.do("stop")


def test_commands_are_answered_and_others_go_on_meanwhile(circusd: Circusd) -> None:
    with disk(circusd.folder / "disk") as folder:
        configure(circusd, folder, papa=True)
        circusd.begin()
        has_no_room(circusd)
        added = {"use_papa": True, "copy_env": True}
        circusd.do("add", name="other", cmd="sleep infinity", start=True, options=added)
        circusd.running("other")
        circusd.do("stop", name="app")  # what is left is lost then, and told
        assert "bytes of the output of process" in circusd.words()
        assert circusd.status("other") == "active"


def test_plain_circus_loses_what_does_not_fit(place: Place) -> None:
    circusd = place.circusd(plain=True)
    with disk(circusd.folder / "disk") as folder:
        configure(circusd, folder, papa=False)
        circusd.begin()
        wait_until((circusd.folder / "done").exists, "it waits")
        has_no_room(circusd)
        mount("-o", "remount,size=20m", folder)
        assert len(lines(folder / "app.log")) < LINES
        circusd.do("stop")
        circusd.quit()
