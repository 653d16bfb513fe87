"""papactl on a terminal: the screens that a person sees, colours, keys, Ctrl-C; and that no output can do anything."""

import re
import signal
from pathlib import Path

from tests.bus.daemon import Papad
from tests.papactl import PAPACTL, Papactl, environment
from tests.terminal import Terminal


def terminal(papad: Papad, *arguments: str, rows: int = 24, **env: str) -> Terminal:
    """papactl on a terminal."""
    variables = environment(papad.address, TERM="xterm-256color", **env)
    return Terminal([*PAPACTL, *arguments], variables, rows=rows)


def screen_of(papad: Papad, *arguments: str) -> list[str]:
    """The screen after a command."""
    with terminal(papad, *arguments) as there:
        lines = there.to_the_end()
        assert there.status == 0, lines
        return [mask(line) for line in lines]


def mask(line: str) -> str:
    """A line without what differs from one time to the next."""
    line = re.sub(r"\w{3} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", line)
    line = re.sub(r"\w{3} \d\d \d\d:\d\d:\d\d\.\d{6}", "TIME", line)
    line = re.sub(r"Papa [^, ]+", "Papa VERSION", line)
    line = re.sub(r"\bup \d+ s|Up: \d+ s", "UP", line)
    return re.sub(r"(?<=  )\d{2,7}(?=  )", "PID", line)


def test_list_and_status(papad: Papad, papactl: Papactl, tmp_path: Path) -> None:
    papactl("run", "web", "--", "sleep", "1000")
    papactl("run", "bad", "--", "sh", "-c", "head -c 3000 /dev/zero; exit 3  # and so on and on")
    papactl("wait", "bad", status=3)
    papactl("set", "v", "x" * 200)
    squeezed = [re.sub(" +", " ", line) for line in screen_of(papad, "list")]
    assert [re.sub(r"(zero; ).*…", r"\1…", line) for line in squeezed] == [
        "NAME STATE PID BUFFERED DROPPED STARTED COMMAND",
        "bad exit=3 PID 2.9 KiB 0 B DATE sh -c 'head -c 3000 /dev/zero; …",
        "web running PID 0 B 0 B DATE sleep 1000",
        "",
        "NAME VALUE",
        "v " + "x" * 93 + "…",
    ]
    assert screen_of(papad, "status") == [
        "● Papa VERSION",
        "       UP, since DATE",
        "    Holds: 0 sockets, 2 processes, 1 value",
        "Processes: 1 running, 1 ended",
        "   Output: 2.9 KiB buffered, 0 B dropped",
        "   Failed: bad (exit=3)",
    ]


def test_colours_and_none_where_they_are_not_wanted(papad: Papad, papactl: Papactl) -> None:
    papactl("run", "web", "--", "sh", "-c", "echo out; echo err >&2; exec sleep 1000")
    with terminal(papad, "list") as coloured:
        coloured.to_the_end()
        assert coloured.colour_of("running") == "green"
    for command in (["list"], ["logs"], ["status"]):
        with terminal(papad, *command, NO_COLOR="1") as plain:
            plain.to_the_end()
            assert not re.search(rb"\x1b\[[0-9;]*3[0-9]", plain.raw), plain.raw
    with terminal(papad, "logs") as logs:
        logs.until("web.err.: err")
        assert (logs.colour_of("web"), logs.colour_of("err\n".strip())) != ("default", "default")


def test_output_does_nothing_to_the_terminal(papad: Papad, papactl: Papactl) -> None:
    papactl(
        "run",
        "evil",
        "--",
        "printf",
        "\\033]0;owned\\007\\033[2J\\033[31mred\\302\\233mx\\r\\n\\377 \\342\\200\\256rtl\\n",
    )
    papactl("wait", "evil")
    papactl("set", "evil", "\x1b]0;owned\x07")
    with terminal(papad, "logs", "evil", NO_COLOR="1", PYTHONUTF8="1") as logs:
        assert [mask(line) for line in logs.to_the_end()] == [
            "TIME evil: \\x1b]0;owned\\x07\\x1b[2J\\x1b[31mred\\x9bmx",
            "TIME evil: \\xff \\u202ertl",
            "TIME evil[papa]: ended with exit status 0",
        ]
        assert b"\x1b" not in logs.raw
    for command in (["logs", "-o", "cat"], ["consume", "evil"], ["get", "evil"], ["show", "evil"], ["list"]):
        with terminal(papad, *command, NO_COLOR="1") as shown:
            shown.until(r"\\x1b\]0;owned\\x07")
            shown.to_the_end()
            assert b"\x1b]" not in shown.raw
            assert b"\x1b[2J" not in shown.raw


def test_follow_until_ctrl_c(papad: Papad, papactl: Papactl) -> None:
    papactl("run", "web", "--", "sh", "-c", "echo up; printf 'a prompt? '; exec sleep 1000")
    with terminal(papad, "logs", "-f", "web") as logs:
        logs.until("web: up")
        papactl("run", "web2", "--", "echo", "not asked for")
        logs.type("\x03")
        screen = logs.to_the_end()
        assert logs.status == 130
        assert "web: a prompt?" in "\n".join(screen)  # what had no end was not shown before, and is not kept back now
        assert not any("Traceback" in line or "web2" in line for line in screen)


def test_run_and_follow(papad: Papad, papactl: Papactl) -> None:
    with terminal(papad, "run", "job", "--follow", "--remove", "--", "sh", "-c", "echo working; exit 4") as run:
        assert run.to_the_end() == ["working"]
        assert run.status == 4
    with terminal(papad, "run", "long", "--follow", "--", "sh", "-c", "echo working; exec sleep 1000") as run:
        run.until("working")
        run.type("\x03")
        run.to_the_end()
        assert run.status == 130
    assert b"running" in papactl("list", "processes", "long").stdout  # Ctrl-C was papactl's


def test_top(papad: Papad, papactl: Papactl) -> None:
    papactl("run", "busy", "--", "sh", "-c", "while :; do :; done")
    papactl("run", "chatty", "--stderr", "null", "--", "sh", "-c", "while echo 0123456789; do sleep 0.01; done")
    for number in range(20):
        papactl("run", f"idle-{number:02}", "--", "sleep", "1000")
    with terminal(papad, "top", "--delay", "0.2", rows=15) as top:
        screen = top.until(r"busy +running +\d+ +[1-9]\d*\.\d")
        assert mask(screen[0]).startswith("Papa VERSION, UP: 22 processes, ")
        assert re.sub(" +", " ", screen[2]) == "NAME STATE PID CPU% MEMORY OUTPUT/s BUFFERED COMMAND"
        assert screen[3].startswith("busy")  # most of the processor first
        assert screen[-1] == "and 11 more"
        top.resize(80, 40)
        top.until("idle-19")
        assert "more" not in "\n".join(top.lines())
        top.type("q")
        top.to_the_end()
        assert top.status == 0
        assert b"\x1b[?1049h" in top.raw  # its own screen, and back
        assert b"\x1b[?1049l" in top.raw
    with terminal(papad, "top", "--sort", "output", "--delay", "0.2") as top:
        top.until(r"chatty +running +\d+ +[\d.]+ +\S+ \S+ +[1-9]\d* B")
        top.type("\x03")
        top.to_the_end()
        assert top.status == 130
        assert b"\x1b[?25h" in top.raw  # the cursor is back


def test_top_in_a_pipe(papactl: Papactl) -> None:
    papactl("run", "p", "--", "sleep", "1000")
    lines = papactl("top", "-n", "2", "-d", "0.1").stdout.decode().splitlines()
    assert lines[0].split() == ["NAME", "STATE", "PID", "CPU%", "MEMORY", "OUTPUT/s", "BUFFERED", "COMMAND"]
    name, state, _, cpu, memory, output, held, *command = lines[1].split()
    assert (name, state, output, held, command) == ("p", "running", "0", "0", ["sleep", "1000"])
    assert float(cpu) >= 0
    assert int(memory) > 100_000
    assert lines[2] == ""
    assert len(lines) == 5


def test_a_terminal_that_is_gone(papad: Papad, papactl: Papactl) -> None:
    papactl("run", "web", "--", "sh", "-c", "echo up; exec sleep 1000")
    with terminal(papad, "logs", "-f", "web") as logs:
        logs.until("web: up")
        logs.process.kill(signal.SIGHUP)
        logs.to_the_end()
        assert logs.process.signalstatus == signal.SIGHUP
