"""papactl shows what has come of a line, says that it is a part, and stamps it once; long lines can be put together."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from papa_dbus.client.line_assembler import MAX_KEPT
from tests.bus.daemon import Papad
from tests.papactl import PAPACTL, Papactl, environment
from tests.support import PATIENCE, wait_until
from tests.terminal import Terminal

DOTS = "while :; do printf .; sleep 0.3; done"
#: 156 kB, of characters of one to four bytes.
LONG = "{" + "grün €𝄞 " * 12_000 + "}"


def following(papad: Papad, *arguments: str) -> "subprocess.Popen[bytes]":
    """papactl that goes on, its stdout a pipe."""
    return subprocess.Popen(
        [*PAPACTL, *arguments],
        env=environment(papad.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )


def read_until(pipe: object, data: bytes) -> bytes:
    """All up to what is waited for; the test's own time limit is the end of the wait."""
    got = b""
    while data not in got:
        piece = pipe.read(65536)  # type: ignore[attr-defined]
        assert piece, got
        got += piece
    return got


@pytest.fixture
def ask(papactl: Papactl, tmp_path: Path) -> Path:
    """A process that asks on stdout and waits for a line on a FIFO, which ends the line and is printed again."""
    fifo = tmp_path / "answers"
    script = f"mkfifo {fifo}; printf 'Name? '; read -r answer <{fifo}; echo $answer; echo thanks; exec sleep 1000"
    papactl("run", "ask", "--", "sh", "-c", script)
    wait_until(lambda: papactl("logs", "-o", "cat", "ask").stdout == b"Name? ", "the question")
    return fifo


def test_dots_come_while_the_line_has_no_end(papactl: Papactl, papad: Papad) -> None:
    papactl("run", "dots", "--", "sh", "-c", DOTS)
    with following(papad, "logs", "-f", "dots") as logs:
        assert logs.stdout is not None
        got = read_until(logs.stdout, b"\n") + read_until(logs.stdout, b"\n") + read_until(logs.stdout, b"\n")
        logs.send_signal(signal.SIGINT)
        logs.communicate(timeout=PATIENCE)
    first, *more = got.decode().splitlines()
    assert re.fullmatch(r"[A-Z]\w\w \d\d \d\d:\d\d:\d\d\.\d{6} dots\[partial\]: \.+", first)
    assert len(more) >= 2
    assert all(re.fullmatch(r" {22} dots\[continued,partial\]: \.+", line) for line in more)


def test_a_prompt_and_its_answer_are_one_line(ask: Path, papad: Papad) -> None:
    with following(papad, "logs", "-f", "-o", "json", "ask") as logs:
        assert logs.stdout is not None
        prompt = json.loads(read_until(logs.stdout, b"\n"))
        assert (prompt["message"], prompt["partial"], "continued" in prompt) == ("Name? ", True, False)
        ask.write_text("Ada\n")
        rest, thanks = map(json.loads, read_until(logs.stdout, b"thanks").splitlines())
        logs.send_signal(signal.SIGINT)
        logs.communicate(timeout=PATIENCE)
    assert (rest["message"], rest["continued"], "partial" in rest) == ("Ada", True, False)
    assert rest["timestamp"] == prompt["timestamp"]
    assert (thanks["message"], "continued" in thanks) == ("thanks", False)


def test_cat_is_byte_for_byte_with_prompts_too(ask: Path, papad: Papad) -> None:
    with following(papad, "logs", "-f", "-o", "cat", "ask") as logs:
        assert logs.stdout is not None
        got = read_until(logs.stdout, b"Name? ")
        ask.write_text("Ada\n")
        got += read_until(logs.stdout, b"thanks\n")
        logs.send_signal(signal.SIGINT)
        logs.communicate(timeout=PATIENCE)
    assert got == b"Name? Ada\nthanks\n"


def test_a_process_that_is_followed_asks(papad: Papad, tmp_path: Path) -> None:
    fifo = tmp_path / "answers"
    script = f"mkfifo {fifo}; printf 'Name? '; printf 'Hm: ' >&2; cat {fifo}; exit 3"
    with following(papad, "run", "ask", "--follow", "--", "sh", "-c", script) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        got, said = read_until(run.stdout, b"Name? "), read_until(run.stderr, b"Hm: ")
        fifo.write_text("Ada\n")
        out, err = run.communicate(timeout=PATIENCE)
    assert (got + out, said + err, run.returncode) == (b"Name? Ada\n", b"Hm: ", 3)


def test_on_a_terminal_a_line_grows(ask: Path, papactl: Papactl, papad: Papad) -> None:
    command = [*PAPACTL, "logs", "-f"]
    with Terminal(command, {**environment(papad.address), "TERM": "xterm", "NO_COLOR": "1"}) as terminal:
        terminal.until(r"\d ask: Name\? *$")
        papactl("run", "other", "--", "echo", "between")
        terminal.until(r"other: between")
        ask.write_text("Ada\n")
        screen = [line.rstrip() for line in terminal.until("thanks")]
    assert [line[22:].strip() for line in screen[:5]] == [
        "ask: Name?", "other: between", "other[papa]: ended with exit status 0", "ask[continued]: Ada", "ask: thanks",
    ]  # fmt: skip


def test_what_is_there_of_a_begun_line_counts_as_one(ask: Path, papactl: Papactl) -> None:
    assert ask.name
    for _ in range(2):  # nothing is taken away
        assert papactl("logs", "-n", "1", "ask").stdout.decode()[22:] == " ask[partial]: Name? \n"
        assert papactl("logs", "-n", "0", "ask").stdout == b""
        assert papactl("logs", "-o", "cat", "ask").stdout == b"Name? "
    assert papactl("logs", "--since", "+1 hour", "-o", "cat", "ask").stdout == b""


def test_since_shows_a_line_that_began_before_it(ask: Path, papactl: Papactl, papad: Papad) -> None:
    with following(papad, "logs", "-f", "ask") as logs:
        assert logs.stdout is not None
        begun = json.loads(papactl("logs", "-o", "json", "ask").stdout)["timestamp"]
        since = f"@{(begun + 1) // 1_000_000}.{(begun + 1) % 1_000_000:06}"
        assert papactl("logs", "--since", since, "ask").stdout == b""
        ask.write_text("Ada\n")
        read_until(logs.stdout, b"thanks")
        logs.send_signal(signal.SIGINT)
        logs.communicate(timeout=PATIENCE)
    assert papactl("logs", "--since", since, "-o", "cat", "ask").stdout == b"Name? Ada\nthanks\n"


@pytest.fixture
def long(papactl: Papactl, tmp_path: Path) -> Papactl:
    """A process that has printed one long line and a short one."""
    file = tmp_path / "long"
    file.write_text(f"{LONG}\nshort\n")
    papactl("run", "long", "--", "cat", str(file))
    papactl("wait", "long")
    return papactl


def test_a_long_line_in_logs(long: Papactl) -> None:
    objects = [json.loads(line) for line in long("logs", "-o", "json", "long").stdout.splitlines()]
    *pieces, last, short, end = objects
    assert pieces
    assert "".join(piece["message"] for piece in (*pieces, last)) == LONG
    assert all(piece["partial"] for piece in pieces)
    assert [piece.get("continued", False) for piece in (*pieces, last, short)] == [
        False, *[True] * len(pieces), False,
    ]  # fmt: skip
    assert "partial" not in last
    assert (short["message"], end["exit_code"]) == ("short", 0)
    assert long("logs", "-o", "cat", "long").stdout.decode() == f"{LONG}\nshort\n"
    text = long("logs", "-n", "3", "long").stdout.decode().splitlines()  # pieces are one line
    assert len(text) == len(objects)
    assert "".join(line[22:].partition(": ")[2] for line in text[: len(pieces) + 1]) == LONG
    assert len(long("logs", "-n", "2", "long").stdout.splitlines()) == 2


def test_a_long_line_that_is_consumed(long: Papactl, tmp_path: Path) -> None:
    objects = [json.loads(line) for line in long("consume", "-o", "json", "long").stdout.splitlines()]
    *records, end = objects
    assert "".join(record["message"] for record in records) == f"{LONG}\nshort\n"
    assert [record.get("partial", False) for record in records] == [True] * (len(records) - 1) + [False]
    assert [record.get("continued", False) for record in records] == [False] + [True] * (len(records) - 1)
    assert end["exit_code"] == 0


def test_a_long_line_in_a_file(long: Papactl, tmp_path: Path) -> None:
    file = tmp_path / "log"
    long("consume", "long", "--to", str(file), "--rotate-size", "64k")
    assert Path(f"{file}.1").read_text() == f"{LONG}\n"  # a line is never cut for a rotation
    assert file.read_text() == "short\n"


def test_output_as_long_as_the_buffer(papactl: Papactl) -> None:
    papactl("run", "p", "--bufsize", str(MAX_KEPT), "--", "sh", "-c", f"printf '%{MAX_KEPT}s' end")
    papactl("wait", "p")
    assert papactl("logs", "-o", "cat", "p").stdout == b"end".rjust(MAX_KEPT)
