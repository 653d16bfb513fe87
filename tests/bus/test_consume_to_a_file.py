"""papactl consume --to: files are moved, rotated or full, and nothing is lost: papad holds what is not written."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.daemon import Papad
from tests.papactl import PAPACTL, Papactl, environment
from tests.support import PATIENCE, wait_until
from tests.terminal import Terminal

#: Prints what is written to the FIFO $0, line by line, for ever.
ECHO = 'exec cat <>"$0"'  # one process, which never sees an end


@pytest.fixture
def fifo(papactl: Papactl, tmp_path: Path) -> Path:
    """What is written to it the process "web" prints."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    papactl("run", "web", "--", "sh", "-c", ECHO, str(fifo))
    return fifo


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the output goes."""
    return tmp_path / "log"


def start(papad: Papad, log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """papactl that consumes to a file."""
    command = [*PAPACTL, "consume", "web", "--to", str(log), *arguments]
    return subprocess.Popen(command, env=environment(papad.address), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def consumer(papad: Papad, fifo: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """One that goes on until the test ends it."""
    with start(papad, log) as process:
        say(fifo, log, "begin")
        yield process
        process.kill()


def say(fifo: Path, log: Path, text: str) -> None:
    """Print a line, and wait until it is in the file."""
    fifo.write_text(f"{text}\n")
    wait_until(lambda: log.exists() and text in log.read_text(), f"{text} in {log}")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_logrotate_moves_and_signals(
    consumer: "subprocess.Popen[bytes]", fifo: Path, log: Path, number: signal.Signals
) -> None:
    log.rename(f"{log}.1")
    consumer.send_signal(number)
    wait_until(log.exists, "the file opened again without any output")
    say(fifo, log, "after")
    assert log.read_text() == "after\n"
    assert Path(f"{log}.1").read_text() == "begin\n"
    assert consumer.poll() is None


def test_a_file_that_was_moved_is_noticed_without_a_signal(
    consumer: "subprocess.Popen[bytes]", fifo: Path, log: Path
) -> None:
    log.rename(f"{log}.1")
    say(fifo, log, "after")
    log.unlink()
    log.touch()
    say(fifo, log, "again")
    assert Path(f"{log}.1").read_text() == "begin\n"
    assert log.read_text() == "again\n"
    assert consumer.poll() is None


def test_ctrl_c_and_sigterm_still_end_it(papad: Papad, fifo: Path, log: Path) -> None:
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with start(papad, log) as process:
            say(fifo, log, f"before {number}")
            process.send_signal(number)
            assert process.wait(PATIENCE) == status


def test_a_terminal_that_hangs_up_ends_it(papad: Papad, fifo: Path, log: Path) -> None:
    command = [*PAPACTL, "consume", "web", "--to", str(log)]
    with Terminal(command, {**environment(papad.address), "TERM": "xterm"}) as terminal:
        say(fifo, log, "there")
        pid = terminal.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGHUP)  # from logrotate: the terminal is there
        say(fifo, log, "still there")
        terminal.process.ptyproc.fileobj.close()  # type: ignore[attr-defined]
        wait_until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "its end")


def test_rotated_by_itself_while_it_is_killed_again_and_again(papactl: Papactl, papad: Papad, log: Path) -> None:
    count = 20_000
    papactl("run", "web", "--bufsize", "16m", "--", "seq", str(count))
    for rotated in (1, 3):
        with start(papad, log, "--rotate-size", "10k", "--rotate-keep", "1000") as process:
            wait_until(
                lambda n=rotated, p=process: Path(f"{log}.{n}").exists() or p.poll() is not None,  # type: ignore[misc]
                "a rotated file",
            )
            process.kill()
    if b"web " in papactl("list", "processes").stdout:
        papactl("consume", "web", "--to", str(log), "--rotate-size", "10k", "--rotate-keep", "1000")
    files = sorted(log.parent.glob("log.[0-9]*"), key=lambda file: -int(file.suffix[1:]))
    lines = [line for file in (*files, log) for line in file.read_text().splitlines()]
    highest = 0  # each is there, in order; a piece that was written and not acknowledged may be there twice
    for line in lines:
        assert int(line) <= highest + 1
        highest = max(highest, int(line))
    assert highest == count
    assert all(file.stat().st_size <= 10 * 1024 for file in files)


def test_a_burst_that_is_consumed_loses_nothing_if_the_process_may_wait(
    papactl: Papactl, papad: Papad, tmp_path: Path, log: Path
) -> None:
    """As at a pipe: with --overflow block, 64 KiB of buffer are enough for any burst while somebody consumes."""
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    script = 'echo 0; : <"$0"; exec seq 200000'
    papactl("run", "web", "--bufsize", "64k", "--overflow", "block", "--", "sh", "-c", script, str(fifo))
    with start(papad, log) as process:
        wait_until(lambda: log.exists() and log.read_bytes() == b"0\n", "the consumer's first line")
        fifo.write_text("")
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert log.read_bytes() == b"".join(b"%d\n" % n for n in range(200_001))


def test_what_makes_no_sense_is_refused(papactl: Papactl, fifo: Path, log: Path) -> None:
    assert fifo.exists()
    for arguments, words in (
        (["--rotate-size", "1m"], b"--to FILE"),
        (["--to", str(log), "--rotate-keep", "3"], b"--rotate-size"),
        (["--to", str(log), "--rotate-size", "0"], b"0 bytes"),
        (["--to", "/dev/null", "--rotate-size", "1m"], b"/dev/null is not a regular file"),
    ):
        assert words in papactl("consume", "web", *arguments, status=2).stderr


@pytest.mark.root
def test_a_full_disk_is_waited_for(papactl: Papactl, papad: Papad, small_disk: Path) -> None:
    log, ballast = small_disk / "log", small_disk / "ballast"
    ballast.write_bytes(b"x" * 60 * 1024)
    papactl("run", "web", "--", "seq", "4000")
    papactl("wait", "web")
    with start(papad, log) as process:
        assert process.stderr is not None
        assert b"No space left on device: waiting for room" in process.stderr.readline()
        assert papactl("logs", "-o", "cat", "web").stdout.startswith(b"1\n2\n")  # nothing is acknowledged
        ballast.unlink()
        assert b"there is room again" in process.stderr.readline()
        assert process.wait(PATIENCE) == 0
    assert log.read_text() == "".join(f"{n}\n" for n in range(1, 4001))
