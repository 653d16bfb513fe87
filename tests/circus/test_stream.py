"""A watcher's output: a burst loses nothing, and a partial line is passed on soon and stamped once."""

import os
import re
from collections.abc import Iterator

import pytest

from tests.circus.environments import VERSIONS
from tests.circus.sidebyside import Circusd, Place
from tests.support import wait_until

LINES = 200_000
_BURST = f"for i in range({LINES}): print(f'{{i:09}} ' + 'x' * 89)"


@pytest.fixture(scope="module", params=[VERSIONS[0], VERSIONS[-1]])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A papad, with the oldest Circus and the newest."""
    with Place(request.param) as made:
        yield made


def configure(circusd: Circusd, program: str, stamp: bool = False, count: int = 1, fancy: bool = False) -> None:
    """Have a watcher run a program, and its output go to a file."""
    (circusd.folder / "program.py").write_text(program)
    to_file = f"stdout_stream.class = FileStream\nstdout_stream.filename = {circusd.folder}/app.log"
    circusd.configure(f"""
[watcher:app]
cmd = python3 -u {circusd.folder}/program.py $(circus.wid)
copy_env = true
numprocesses = {count}
use_papa = true
{"stdout_stream.class = FancyStdoutStream" if fancy else to_file}
stderr_stream.class = FileStream
stderr_stream.filename = {circusd.folder}/app.log
{"stdout_stream.time_format = at %H:%M:%S" if stamp else ""}
{"stderr_stream.time_format = at %H:%M:%S" if stamp else ""}
""")


def log(circusd: Circusd) -> str:
    """What has been logged, each stamp as its process's number alone."""
    file = circusd.folder / "app.log"
    text = file.read_text() if file.exists() else ""
    for number, pid in enumerate(circusd.pids("app"), 1):
        text = re.sub(rf"at \d\d:\d\d:\d\d \[{pid}\] \| ", f"<{number}>", text)
    return text


def wait_for(circusd: Circusd, text: str) -> None:
    """Wait until exactly this has been logged."""
    wait_until(lambda: log(circusd) == text, lambda: log(circusd))


def go_on(circusd: Circusd, name: str = "fifo") -> None:
    """Let the program of a test take its next step."""
    with (circusd.folder / name).open("w") as fifo:
        fifo.write("\n")


def steps(circusd: Circusd, *writes: str) -> str:
    """A program that takes a step for each line in a FIFO."""
    fifo = circusd.folder / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    lines = [f"import sys\ndef wait(): open({str(fifo)!r}).read()"]
    for write in writes:
        lines += [write, "wait()"]
    return "\n".join([*lines, "import signal", "signal.pause()"])


def test_a_burst(circusd: Circusd) -> None:
    """More than papad keeps, faster than a file is written: the program waits for its reader, as at a pipe."""
    configure(circusd, f"import signal\n{_BURST}\nsignal.pause()")
    circusd.begin()
    file = circusd.folder / "app.log"
    wait_until(lambda: file.stat().st_size >= LINES * 100, lambda: (file.stat().st_size, circusd.warnings()), 120)
    with file.open() as lines:
        assert all(int(line[:9]) == number for number, line in enumerate(lines))
    assert circusd.warnings() == []


@pytest.mark.parametrize("stamp", [False, True])
def test_a_partial_line_is_passed_on(circusd: Circusd, stamp: bool) -> None:
    mark = "<1>" if stamp else ""
    configure(
        circusd, steps(circusd, "print('.', end='')", "print('.', end='')", "print('!\\nnext\\nand', end='')"), stamp
    )
    circusd.begin()
    wait_for(circusd, f"{mark}.")
    go_on(circusd)
    wait_for(circusd, f"{mark}..")
    go_on(circusd)
    wait_for(circusd, f"{mark}..!\n{mark}next\n{mark}and")


@pytest.mark.parametrize("how", ["quits", "is killed"])
def test_a_partial_line_over_a_restart_of_circusd(place: Place, circusd: Circusd, how: str) -> None:
    configure(circusd, steps(circusd, "print('one', end='')", "print(' line', end='')", "print('\\ntwo')"), stamp=True)
    circusd.begin()
    wait_for(circusd, "<1>one")
    if how == "quits":
        circusd.quit()
    else:
        [pid] = circusd.running("app")
        [name] = [name for name, info in place.processes().items() if info["pid"] == pid]
        wait_until(lambda: place.kept(name) == 0, place.processes)  # what circusd has in hand would come again
        circusd.kill()
    circusd.begin()
    go_on(circusd)
    wait_for(circusd, "<1>one line")
    go_on(circusd)
    wait_for(circusd, "<1>one line\n<1>two\n")


@pytest.mark.parametrize("stamp", [False, True])
def test_a_partial_line_is_cut_between_characters(circusd: Circusd, stamp: bool) -> None:
    mark = "<1>" if stamp else ""
    write = "sys.stdout.buffer.write({}), sys.stdout.buffer.flush()"
    parts = "gr\xfcn".encode()
    configure(circusd, steps(circusd, write.format(parts[:3]), write.format(parts[3:] + b"\n")), stamp=stamp)
    circusd.begin()
    wait_for(circusd, f"{mark}gr")
    go_on(circusd)
    wait_for(circusd, f"{mark}gr\xfcn\n")


def test_a_partial_line_beside_a_stream_that_takes_whole_ones(circusd: Circusd) -> None:
    """Circus's FancyStdoutStream takes whole lines: it does not hold up the other stream's prompt."""
    write = "print('begun', end=''); print('a prompt: ', end='', file=sys.stderr)"
    configure(circusd, steps(circusd, write, "print(' and ended')"), fancy=True)
    circusd.begin()
    wait_for(circusd, "a prompt: ")
    go_on(circusd)
    wait_until(lambda: "begun and ended" in circusd.words(), lambda: (circusd.words(), log(circusd)))
    assert circusd.words().count("begun") == 1


def test_partial_lines_of_two_processes_in_one_file(circusd: Circusd) -> None:
    """Each line of the file is one process's."""
    program = steps(
        circusd,
        "if sys.argv[1] == '1': print('mine', end='')",
        "if sys.argv[1] == '1': print(' too', file=sys.stderr)",
        "if sys.argv[1] == '1': print(' goes on')",
    ).replace("def wait(): ", "def wait(): sys.argv[1] == '1' and ")
    configure(circusd, program, stamp=True, count=2)
    circusd.begin()
    circusd.running("app", 2)
    wait_for(circusd, "<1>mine")
    go_on(circusd)
    wait_for(circusd, "<1>mine\n<1> too\n")
    go_on(circusd)
    wait_for(circusd, "<1>mine\n<1> too\n<1> goes on\n")


@pytest.mark.parametrize("how", ["quits", "is killed"])
def test_partial_lines_of_two_processes_in_one_file_over_a_restart_of_circusd(
    place: Place, circusd: Circusd, how: str
) -> None:
    """The next circusd continues the line that is open in the file, and no other process's."""
    for number in (1, 2):
        os.mkfifo(circusd.folder / f"fifo{number}")
    program = f"""
import signal, sys
def wait(): open({str(circusd.folder / "fifo")!r} + sys.argv[1]).read()
wait(); print("begun", end="")
wait(); print(" and ended")
signal.pause()
"""
    configure(circusd, program, stamp=True, count=2)
    circusd.begin()
    circusd.running("app", 2)
    go_on(circusd, "fifo1")
    wait_for(circusd, "<1>begun")
    go_on(circusd, "fifo2")
    wait_for(circusd, "<1>begun\n<2>begun")
    if how == "quits":
        circusd.quit()
    else:
        for name in place.processes():
            wait_until(lambda name=name: place.kept(name) == 0, place.processes)  # type: ignore[misc]
        circusd.kill()
    circusd.begin()
    go_on(circusd, "fifo1")
    wait_for(circusd, "<1>begun\n<2>begun\n<1> and ended\n")
    go_on(circusd, "fifo2")
    wait_for(circusd, "<1>begun\n<2>begun\n<1> and ended\n<2> and ended\n")


@pytest.mark.parametrize("stamp", [False, True])
def test_a_long_line(circusd: Circusd, stamp: bool) -> None:
    """Longer than any bound of ours, of characters of one to four bytes: it is one line, stamped once."""
    line = '{"text": "' + "aé€😀" * 15_000 + '"}'
    configure(circusd, f"import signal\nprint({line!r})\nprint('next')\nsignal.pause()", stamp)
    circusd.begin()
    mark = "<1>" if stamp else ""
    wait_until(lambda: log(circusd).endswith("next\n"), lambda: log(circusd)[-200:])
    assert log(circusd) == f"{mark}{line}\n{mark}next\n"


def test_the_end_in_a_partial_line(circusd: Circusd) -> None:
    configure(circusd, steps(circusd, "print('half', end='')"), stamp=True)
    circusd.begin()
    wait_for(circusd, "<1>half")
    [pid] = circusd.running("app")
    circusd.do("restart", name="app")
    wait_until(lambda: circusd.pids("app") not in ([], [pid]), circusd.words)
    wait_until(lambda: log(circusd).count("half") == 2, lambda: log(circusd))
    first, second = (circusd.folder / "app.log").read_text().splitlines()
    assert first.endswith("| half")
    assert second.endswith("| half")
