"""A log file on a disk that is full: plain Circus drops what it cannot write, with use_papa nothing is lost."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

_TO_FILE = "stdout_stream.class = FileStream\nstdout_stream.filename = {}/app.log"


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


def configure(circusd: Circusd, folder: Path, papa: bool, stream: str | None = None) -> None:
    """Have a watcher write to the disk more than it takes."""
    program = circusd.folder / "program.py"
    program.write_text(PROGRAM)
    circusd.configure(f"""
[watcher:app]
cmd = python3 -u {program} {circusd.folder}/done
copy_env = true
{_TO_FILE.format(folder) if stream is None else stream}
{"use_papa = true" if papa else ""}
""")


def has_no_room(circusd: Circusd) -> None:
    """Wait until its log says so."""
    wait_until(lambda: "No space left on device" in circusd.words(), "nothing about the disk")


def text_of(file: Path) -> str:
    """What the program has printed, without a FancyStdoutStream's colours and stamps."""
    return re.sub(r"\x1b\[0;31;40m[^|\n]* \| |\x1b\[0m", "", file.read_text())


def lines(*files: Path) -> list[int]:
    """The numbers of the whole lines in files, the first one's first."""
    text = "".join(map(text_of, files))
    return [int(line[:9]) for line in text.splitlines() if len(line) == 99 and line[:9].isdigit()]


def numbered(folder: Path, number: int) -> bool:
    """Return whether the newest file has this line."""
    with suppress(FileNotFoundError):  # it is being rotated
        return f"\n{number:09} " in text_of(folder / "app.log")
    return False


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


def test_a_file_that_was_rotated_meanwhile(circusd: Circusd) -> None:
    """What a write that failed has left in the new file is not there a second time."""
    with disk(circusd.folder / "disk") as folder:
        rotated = f"{_TO_FILE.format(folder)}\nstdout_stream.max_bytes = 20000\nstdout_stream.backup_count = 999"
        configure(circusd, folder, papa=True, stream=rotated)
        circusd.begin()
        has_no_room(circusd)
        mount("-o", "remount,size=20m", folder)
        wait_until((circusd.folder / "done").exists, circusd.words)

        wait_until(lambda: numbered(folder, LINES - 1), circusd.words)
        files = sorted(folder.iterdir(), key=lambda file: -int(file.name[len("app.log.") :] or 0))
        assert lines(*files) == list(range(LINES))
        circusd.do("stop")


def test_a_file_that_cannot_be_rotated(circusd: Circusd) -> None:
    """The log says why, and once it can nothing is lost or there twice."""
    folder = circusd.folder / "logs"
    (folder / "app.log.1" / "in the way").mkdir(parents=True)
    rotated = f"{_TO_FILE.format(folder)}\nstdout_stream.max_bytes = 3000000\nstdout_stream.backup_count = 1"
    configure(circusd, folder, papa=True, stream=rotated)
    circusd.begin()
    wait_until(lambda: "Is a directory" in circusd.words(), circusd.words)
    (folder / "app.log.1" / "in the way").rmdir()
    (folder / "app.log.1").rmdir()
    wait_until((circusd.folder / "done").exists, circusd.words)
    wait_until(lambda: numbered(folder, LINES - 1), circusd.words)
    assert "NoneType" not in circusd.words()
    assert lines(folder / "app.log.1", folder / "app.log") == list(range(LINES))
    circusd.do("stop")


@pytest.mark.parametrize(
    "stream",
    [
        "",
        "stdout_stream.class = StdoutStream",
        "stdout_stream.class = FancyStdoutStream\nstdout_stream.color = red",
    ],
    ids=["none", "StdoutStream", "FancyStdoutStream"],
)
def test_the_standard_output_of_circusd_itself(circusd: Circusd, stream: str) -> None:
    """A watcher without a stream has its output there, too."""
    with disk(circusd.folder / "disk") as folder:
        circusd.log = folder / "app.log"
        configure(circusd, folder, papa=True, stream=stream)
        circusd.begin()
        wait_until(lambda: shutil.disk_usage(folder).free == 0, "there is room")
        mount("-o", "remount,size=20m", folder)
        wait_until((circusd.folder / "done").exists, circusd.words)
        wait_until(lambda: numbered(folder, LINES - 1), circusd.words)
        assert lines(folder / "app.log") == list(range(LINES))
        circusd.do("stop")
        circusd.quit()
    circusd.log = circusd.folder / "log"
    circusd.begin()


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
