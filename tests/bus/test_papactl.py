"""papactl as a program among others: in pipes, its exit statuses, what it says where something is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.bus.daemon import Papad
from tests.papactl import PAPACTL, Done, Papactl, environment
from tests.support import PATIENCE, wait_until


def told(done: Done) -> str:
    """The one sentence on stderr."""
    [line] = done.stderr.decode().splitlines()
    return line.removeprefix("papactl: ")


def started_of(papactl: Papactl, name: str) -> int:
    """When a process was started, in µs since 1970."""
    [process] = json.loads(papactl("list", "processes", name, "--json").stdout)
    return int(process["started"])


# ------------------------------------------------------------------ what is there


def test_status_in_a_pipe(papactl: Papactl) -> None:
    papactl("run", "bad", "--", "sh", "-c", "echo lost; exit 3")
    papactl("wait", "bad", status=3)
    papactl("set", "a", "b")
    lines = papactl("status").stdout.decode().splitlines()
    assert re.fullmatch(r"● Papa \S+", lines[0])
    assert re.fullmatch(r"Up: \d+ s, since \w{3} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lines[1])
    assert lines[2:] == [
        "Holds: 0 sockets, 1 process, 1 value",
        "Processes: 0 running, 1 ended",
        "Output: 5 B buffered, 0 B dropped",
        "Failed: bad (exit=3)",
    ]
    info = json.loads(papactl("status", "--json").stdout)
    assert (info["processes"], info["values"], info["buffered_bytes"], info["dropped_bytes"]) == (1, 1, 5, 0)


def test_list_in_a_pipe_has_plain_columns(papactl: Papactl, tmp_path: Path) -> None:
    papactl("socket", "make", "s", "--path", str(tmp_path / "s"), "--umask", "077")
    papactl("run", "p", "--", "sleep", "1000")
    papactl("set", "v", "two words\n\x1b[31m")
    assert [line.split() for line in papactl("list").stdout.decode().splitlines()] == [
        ["NAME", "FAMILY", "TYPE", "FILENO", "UNIT", "ADDRESS"],
        [
            "s",
            "unix",
            "stream",
            *[papactl("list", "sockets", "--no-legend").stdout.split()[3].decode()],
            "-",
            str(tmp_path / "s"),
        ],
        [],
        ["NAME", "STATE", "PID", "BUFFERED", "DROPPED", "STARTED", "COMMAND"],
        [
            "p",
            "running",
            *papactl("list", "processes", "p", "--no-legend").stdout.decode().split()[2:5],
            time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(started_of(papactl, "p") // 1_000_000)),
            "sleep",
            "1000",
        ],
        [],
        ["NAME", "VALUE"],
        ["v", "two", "words\\n\\x1b[31m"],
    ]
    assert papactl("list", "values", "v*", "--no-legend").stdout == b"v  two words\\n\\x1b[31m\n"
    assert papactl("list", "values", "x*", "--no-legend").stdout == b""
    everything = json.loads(papactl("list", "--json").stdout)
    assert everything["values"] == {"v": "two words\n\x1b[31m"}
    assert everything["processes"][0]["args"] == ["sleep", "1000"]
    assert json.loads(papactl("list", "sockets", "--json").stdout)[0]["umask"] == 0o77
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_what_is_there_is_shown_before_what_is_not(papactl: Papactl) -> None:
    papactl("run", "a", "--", "sh", "-c", "echo a line; exec sleep 1000")
    for command in (["status"], ["status", "--json"], ["list", "processes"], ["logs"]):
        done = papactl(*command, "nope", "a", status=4)
        assert told(done).startswith("there is no process 'nope'; ")
        assert b"a" in done.stdout, command
        done = papactl(*command, "nope", "x*", status=4)
        assert done.stdout == b"", command
    assert papactl("logs", "-o", "cat", "nope", "a", status=4).stdout == b"a line\n"
    papactl("kill", "nope", "a", status=4)
    assert b"running" in papactl("status", "a").stdout  # what does something does all or nothing


def test_a_name_of_another_kind_is_told_with_its_command(papactl: Papactl) -> None:
    papactl("socket", "make", "s")
    papactl("set", "v", "1")
    papactl("run", "p", "--", "sleep", "1000")
    for command, sentence in {
        "remove s": "there is no process 's'; there is a socket: 'papactl socket remove s'",
        "remove v": "there is no process 'v'; there is a value: 'papactl unset v'",
        "remove s*": "there is no process 's*'; there is a socket: 'papactl socket remove 's*''",
        "socket remove p": "there is no socket 'p'; there is a process: 'papactl remove p'",
        "unset p": "there is no value 'p'; there is a process: 'papactl remove p'",
        "status s": "there is no process 's'; there is a socket: 'papactl show s'",
        "kill v": "there is no process 'v'; there is a value: 'papactl show v'",
        "logs s": "there is no process 's'; there is a socket: 'papactl show s'",
        "wait s": "there is no process 's'; there is a socket: 'papactl show s'",
        "get s": "there is no value 's'; there is a socket: 'papactl show s'",
        "list values p": "there is no value 'p'; there is a process: 'papactl show p'",
    }.items():
        assert told(papactl(*command.split(), status=125 if command == "wait s" else 4)) == sentence
    assert len(papactl("list", "sockets", "--no-legend").stdout.splitlines()) == 1


def test_show_one_name_of_every_kind(papactl: Papactl) -> None:
    papactl("socket", "make", "x", "--port", "0")
    papactl("run", "x", "--", "sleep", "1000")
    papactl("set", "x", "1")
    lines = papactl("show", "x").stdout.decode().splitlines()
    for line in (
        "process: x",
        "args: sleep 1000",
        "state: running",
        "socket: x",
        "family: inet",
        "value: x",
        "content: 1",
    ):
        assert line in lines
    assert set(json.loads(papactl("show", "x", "--json").stdout)) == {"processes", "sockets", "values"}


def test_values(papactl: Papactl) -> None:
    papactl("set", "a", "1")
    papactl("set", "b", "-", stdin=b"from\nstdin \x1b[0m")
    assert papactl("get", "a").stdout == b"1\n"
    assert papactl("get", "b").stdout == b"from\nstdin \x1b[0m\n"  # a pipe gets what it is
    assert papactl("unset", "a", "b").stdout == b"a\nb\n"
    assert told(papactl("get", "a", status=4)) == "there is no value 'a'; 'papactl list' shows what there is"


def test_sockets(papactl: Papactl) -> None:
    made = papactl("socket", "make", "http", "--port", "0", "--backlog", "7").stdout.decode()
    assert re.search(r"http  inet +stream +\d+ +- +127\.0\.0\.1:\d+", made)
    assert papactl("socket", "remove", "http").stdout == b"http\n"
    assert "octal" in told(papactl("socket", "make", "x", "--path", "/tmp/x", "--umask", "9", status=2))


def test_exit_if_idle(papactl: Papactl, papad: Papad) -> None:
    papactl("set", "a", "1")
    assert "stays" in told(papactl("exit-if-idle", status=1))
    papactl("unset", "a")
    assert papactl("exit-if-idle").stdout == b"papad exits\n"
    assert papad.process.wait(PATIENCE) == 0


# ------------------------------------------------------------------ processes


def test_run_with_options(papactl: Papactl, tmp_path: Path) -> None:
    papactl("socket", "make", "one", "--path", str(tmp_path / "one"))
    script = "pwd; id -un; ulimit -n; umask; echo $LISTEN_FDS $LISTEN_FDNAMES $A $B; echo err >&2"
    options = ["--env", "A=x=y", "-E", "B", "--user", "nobody", "--directory", "/usr", "--limit", "nofile=64",
               "--umask", "027", "--socket", "one", "--stderr", "stdout", "--bufsize", "64k"]  # fmt: skip
    run = Papactl(papactl.address, B="of papactl's")
    done = run("run", "job", *options, "--follow", "--remove", "--", "/bin/sh", "-c", script)
    assert done.stdout.decode().splitlines() == ["/usr", "nobody", "64", "0027", "1 one x=y of papactl's", "err"]
    assert papactl("list", "processes", "--no-legend").stdout == b""


def test_follow_keeps_the_streams_apart_and_ends_as_the_process_does(papactl: Papactl) -> None:
    done = papactl("run", "job", "--follow", "--", "sh", "-c", "printf 'o\\377'; echo e >&2; exit 7", status=7)
    assert (done.stdout, done.stderr) == (b"o\xff", b"e\n")
    killed = papactl("run", "killed", "-f", "--remove", "--", "sh", "-c", "kill -KILL $$", status=137)
    assert killed.stdout == b""
    assert papactl("wait", "job", status=7).stdout == b""
    papactl("run", "term", "--", "sh", "-c", "kill $$")
    papactl("wait", "term", status=143)


def test_what_papactl_itself_has_to_say_is_no_exit_status_of_the_process(papactl: Papactl) -> None:
    papactl("run", "web", "--", "true")
    assert "did you mean 'web'?" in told(papactl("wait", "wbe", status=125))
    assert "nosuchprogram" in told(papactl("run", "x", "-f", "--", "nosuchprogram", status=125))
    assert "nosuchprogram" in told(papactl("run", "x", "--", "nosuchprogram", status=1))


def test_a_process_that_is_removed_while_it_is_waited_for(papactl: Papactl, papad: Papad) -> None:
    papactl("run", "p", "--", "sh", "-c", "echo up; exec sleep 1000")
    with subprocess.Popen(
        [*PAPACTL, "logs", "-f", "p"], env=environment(papad.address), stdout=subprocess.PIPE
    ) as logs:
        assert logs.stdout is not None
        assert b"up" in logs.stdout.readline()
        assert re.fullmatch(rb"p \(PID \d+ goes on\)\n", papactl("remove", "p").stdout)
        logs.send_signal(signal.SIGINT)
    assert logs.returncode == 130


# ------------------------------------------------------------------ output

SPLIT = "printf 'a li'; sleep 0.05; printf 'ne\\nand'; sleep 0.05; echo oops >&2; echo ' another'; printf 'no end'"


@pytest.fixture
def split(papactl: Papactl) -> Papactl:
    """A process whose lines came in pieces, and has ended."""
    papactl("run", "p", "--", "sh", "-c", SPLIT)
    papactl("wait", "p")
    return papactl


def test_lines_are_put_together_again(split: Papactl) -> None:
    lines = split("logs", "p").stdout.decode().splitlines()
    assert all(re.match(r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d\.\d{6} p", line) for line in lines)
    texts = {line[23:] for line in lines}
    assert texts == {
        "p: a line", "p[err]: oops", "p: and another", "p: no end", "p[papa]: ended with exit status 0",
    }  # fmt: skip
    assert lines[0][23:] == "p: a line"
    assert lines[-1][23:] == "p[papa]: ended with exit status 0"
    assert split("logs", "p", "-n", "2").stdout.decode().splitlines() == lines[-2:]
    assert split("logs", "-n", "0").stdout == b""


def test_streams_and_times(split: Papactl) -> None:
    assert split("logs", "p", "--stderr", "-o", "cat").stdout == b"oops\n"
    assert split("logs", "p", "--stdout", "-o", "cat").stdout == b"a line\nand another\nno end"
    assert split("logs", "p", "--since", "1 hour ago", "-o", "cat", "--stderr").stdout == b"oops\n"
    assert split("logs", "p", "--since", "+1 hour", "-o", "cat").stdout == b""
    assert "systemd.time" in told(split("logs", "--since", "bogus", status=2))


def test_cat_is_byte_for_byte_and_json_loses_nothing(papactl: Papactl) -> None:
    papactl("run", "p", "--", "sh", "-c", "printf '\\033[31m\\377\\r\\n\\000end'")
    papactl("wait", "p")
    assert papactl("logs", "-o", "cat", "p").stdout == b"\x1b[31m\xff\r\n\x00end"
    first, second, end = map(json.loads, papactl("logs", "-o", "json", "p").stdout.splitlines())
    assert (bytes(first["message"]), second["message"], end["exit_code"]) == (b"\x1b[31m\xff\r", "\x00end", 0)
    # For people it is text, whatever was written.
    assert b": \\x1b[31m\\xff\n" in papactl("logs", "p").stdout


def test_an_observer_takes_nothing_away(split: Papactl) -> None:
    for _ in range(2):
        assert split("logs", "-o", "cat", "--stdout").stdout == b"a line\nand another\nno end"
    taken = split("consume", "p")
    assert sorted(taken.stdout) == sorted(b"a line\nand another\nno endoops\n")
    assert split("logs").stdout == b""
    assert split("list", "processes", "--no-legend").stdout == b""


def test_what_was_dropped_is_said(papactl: Papactl) -> None:
    papactl("run", "p", "--bufsize", "16", "--", "printf", "%100send\\n", "x")
    papactl("wait", "p")
    done = papactl("logs", "-o", "cat", "p")
    assert done.stdout.endswith(b"end\n")
    assert re.fullmatch(r"p: \d+ bytes were dropped here: the buffer was full before they were read", told(done))
    assert b"p[papa]: " in papactl("logs", "p").stdout
    assert json.loads(papactl("logs", "-o", "json", "p").stdout.splitlines()[0])["dropped_bytes"] > 0
    assert b"Dropped: p (" in papactl("status").stdout


def following(papad: Papad, *arguments: str) -> "subprocess.Popen[bytes]":
    """papactl that goes on, its stdout a pipe."""
    return subprocess.Popen(
        [*PAPACTL, *arguments], env=environment(papad.address), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_follow_goes_on_with_processes_that_come_later(papactl: Papactl, papad: Papad) -> None:
    papactl("run", "one", "--", "sh", "-c", "echo first")
    with following(papad, "logs", "-f", "-o", "cat") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"first\n"
        papactl("run", "two", "--", "sh", "-c", "echo second; printf rest")
        assert logs.stdout.readline() == b"second\n"
        logs.send_signal(signal.SIGINT)
        _, said = logs.communicate(timeout=PATIENCE)
    assert (logs.returncode, said.strip()) == (130, b"")


def test_a_reader_that_goes_away_ends_it_quietly(papactl: Papactl, papad: Papad) -> None:
    papactl("run", "p", "--", "sh", "-c", "seq 100000; exec sleep 1000")
    for follow in ([], ["-f"]):
        with following(papad, "logs", *follow, "-n", "all", "p") as logs:
            assert logs.stdout is not None
            assert logs.stdout.readline()
            logs.stdout.close()
            assert logs.wait(PATIENCE) == 141
            assert logs.stderr is not None
            assert logs.stderr.read() == b""
    with following(papad, "logs", "-f", "-n", "1", "p") as logs:  # nothing more is written, and it ends all the same
        assert logs.stdout is not None
        assert logs.stdout.readline()
        logs.stdout.close()
        assert logs.wait(PATIENCE) == 141


def test_ctrl_c_is_heard_while_nobody_takes_what_is_written(papactl: Papactl, papad: Papad) -> None:
    papactl("run", "p", "--", "sh", "-c", "seq 100000; exec sleep 1000")
    with following(papad, "consume", "p") as taken:
        assert taken.stdout is not None
        assert taken.stdout.read(1) == b"1"  # the rest fills the pipe
        taken.send_signal(signal.SIGINT)
        assert taken.wait(PATIENCE) == 130
    # What the pipe did not take as a whole has not been acknowledged.
    assert papactl("logs", "-o", "cat", "p").stdout.startswith(b"1\n2\n3\n")


# ------------------------------------------------------------------ consume


def test_consume_to_a_file(papactl: Papactl, tmp_path: Path) -> None:
    file = tmp_path / "log"
    for text in ("one", "two"):
        papactl("run", "p", "--", "echo", text)
        assert papactl("consume", "p", "--to", str(file)).stdout == b""
    assert file.read_bytes() == b"one\ntwo\n"
    papactl("run", "p", "--", "echo", "three")
    first, end = map(json.loads, papactl("consume", "p", "-o", "json").stdout.splitlines())
    assert (first["message"], first["seq"], end["exit_code"]) == ("three\n", 1, 0)


def test_what_could_not_be_written_is_still_there(papactl: Papactl) -> None:
    papactl("run", "p", "--", "echo", "precious")
    assert told(papactl("consume", "p", "--to", "/dev/full", status=1)) == "/dev/full: No space left on device"
    assert told(papactl("consume", "p", "--to", "/nowhere/log", status=1)) == "/nowhere/log: No such file or directory"
    assert papactl("consume", "p").stdout == b"precious\n"


def written_or_ended(file: Path, size: int, process: "subprocess.Popen[bytes]") -> bool:
    """Whether a file has so many bytes, or its writer has ended."""
    return process.poll() is not None or (file.exists() and file.stat().st_size >= size)


def test_consumers_that_are_killed_lose_nothing(papactl: Papactl, papad: Papad, tmp_path: Path) -> None:
    file = tmp_path / "log"
    count = 30_000
    papactl("run", "p", "--bufsize", "16m", "--", "seq", str(count))
    for size in (1, 20_000, 60_000):
        with following(papad, "consume", "p", "--to", str(file)) as taken:
            wait_until(partial(written_or_ended, file, size, taken), f"{size} bytes in {file}")
            taken.kill()
    papactl("consume", "p", "--to", str(file), *([] if b"p " in papactl("list", "processes").stdout else ["--help"]))
    # Each piece is there, in order; one that was written and not acknowledged may be there twice.
    lines = file.read_text().splitlines()
    highest = 0
    for line in lines:
        assert int(line) <= highest + 1
        highest = max(highest, int(line))
    assert highest == count


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["statsu"], 2, "did you mean 'status'?"),
        (["list", "--jsno"], 2, "; did you mean"),
        (["list", "procesess"], 2, "'processes'"),
        (["list", "processes", "nosuch"], 4, "there is no process 'nosuch'"),
        (["list", "values", "nosuch*", "nosuch"], 4, "there is no value 'nosuch'"),
        (["run", "x", "ls", "-l"], 2, "no such option '-l': a command's own options come after --"),
        (["run", "x", "--remove", "--", "true"], 2, "--follow"),
        (["run", "x"], 2, "missing argument 'COMMAND...': it is 'papactl run NAME -- COMMAND' (papactl run"),
        (["run", "x", "--limit", "nofile", "--", "true"], 2, "nofile=1024"),
        (["run", "x", "--limit", "nofiles=3", "--", "true"], 2, "nofile"),
        (["run", "x", "--env", "NOTTHERE", "--", "true"], 2, "NOTTHERE"),
        (["run", "sleep", "100"], 1, "; 'sleep' is the process's name here: write 'papactl run NAME -- sleep 100'"),
        (["run", "sleep", "--", "100"], 1, "write 'papactl run NAME -- sleep 100'"),
        (["run", "x", "--", "sleep 100"], 1, "it is one word: quote each word for itself"),
        (["run", "x", "--cwd", "/", "--", "true"], 2, "no such option '--cwd': here it is --directory (papactl run"),
        (["run", "x", "-p", "80", "true"], 2, "'papactl socket make NAME --port PORT'"),
        (["socket", "make", "s", "/run/s"], 2, "a path is given with --path /run/s (papactl socket make"),
        (["socket", "make", "s", "8080"], 2, "a port is given with --port 8080"),
        (["socket", "make", "s", ":8080"], 2, "a port is given with --port 8080"),
        (["socket", "make", "s", "::1"], 2, "an address is given with --host ::1 ("),
        (["socket", "make", "s", "[::1]:80"], 2, "an address is given with --host ::1 --port 80"),
        (["socket", "make", "s", "h.example:80"], 2, "with --host h.example --port 80"),
        (["socket", "make", "s", "--unix", "/run/s"], 2, "no such option '--unix': here it is --path"),
        (["set", "v", "two", "words"], 2, "a value of several words is quoted: papactl set NAME 'A VALUE'"),
        (["consume", "p", "--to"], 2, "option '--to' requires an argument (papactl consume"),
        (["help", "nope"], 2, "no command 'nope' (papactl --help)"),
        (["run", "x", "--bufsize", "2x", "--", "true"], 2, "2x"),
        (["run", "x", "--user", "nosuchuser", "--", "true"], 2, "nosuchuser"),
        (["run", "a b", "--", "true"], 2, "white space"),
        (["run", "x", "--socket", "nosuch", "--", "true"], 4, "make it first ('papactl socket make nosuch', or "),
        (["show", "nosuch"], 4, "there is no process or socket or value 'nosuch'"),
        (["logs", "nosuch"], 4, "'papactl list' shows what there is"),
        (["consume", "nosuch*"], 4, "nosuch*"),
        (["remove"], 2, "missing argument 'NAME...' (papactl remove"),
        (["remove", "nosuch"], 4, "nosuch"),
        (["socket", "make", "x", "--port", "70000"], 2, "70000"),
        (["logs", "-n", "few"], 2, "'few'"),
        (["logs", "-n", "²"], 2, "'²'"),
        (["top", "-d", "0"], 2, "0.1"),
        (["get", "\x1b[31m"], 4, "\\x1b[31m"),
    ],
)
def test_one_sentence_says_what_is_wrong(papactl: Papactl, arguments: list[str], status: int, words: str) -> None:
    done = papactl(*arguments, status=status)
    assert words in told(done)
    assert b"\x1b" not in done.stderr
    assert done.stdout == b""


def test_papads_errors_speak_of_the_options_that_were_typed(papactl: Papactl) -> None:
    """papad names its own options, over D-Bus for every client alike."""
    run = partial(papactl, "run", "p")
    assert "option '--user': there is no user 'nosuch'" in told(run("--user", "nosuch", "--", "true", status=2))
    assert "option '--limit nofiles': is none of" in told(run("--limit", "nofiles=1", "--", "true", status=2))
    assert "option '--limit nofile'" in told(run("--limit", f"nofile={2**40}", "--", "true", status=1))
    assert "/nowhere (option '--directory')" in told(run("-d", "/nowhere", "--", "true", status=1))
    assert "/nowhere (option '--directory')" in told(run("-f", "-d", "/nowhere", "--", "true", status=125))
    papactl("run", "p", "--", "sleep", "1000")
    assert "differs in option '--env', option '--directory'; end it first" in told(
        run("--directory", "/tmp", "--env", "A=1", "--", "sleep", "1000", status=1)
    )
    papactl("socket", "make", "web", "--backlog", "7")
    assert "already exists, and has other options: backlog 7; remove it first ('papactl socket remove web'" in told(
        papactl("socket", "make", "web", "--backlog", "8", status=1)
    )
    assert "option '--umask': goes with" in told(papactl("socket", "make", "s", "--umask", "7", status=2))


def test_no_kernel_on_the_bus(bus_address: str) -> None:
    papactl = Papactl(bus_address)
    assert "papad is not running" in told(papactl("status", status=3))
    for command in (["list"], ["logs"], ["run", "x", "--", "true"], ["set", "a", "1"], ["top"]):
        assert "org.papa.Kernel is not on the message bus" in told(papactl(*command, status=5))
    assert "cannot reach papad" in told(papactl("wait", "x", status=5))
    bad = papactl("doctor", status=1).stdout.decode()
    assert re.search(r"^BAD +papad +org\.papa\.Kernel is neither there nor can be started", bad, re.MULTILINE)


def test_no_bus(tmp_path: Path) -> None:
    papactl = Papactl(f"unix:path={tmp_path}/nowhere")
    assert "cannot be reached" in told(papactl("list", status=5))
    assert re.search(rb"BAD +bus ", papactl("doctor", status=1).stdout)
    assert "nonsense" in told(Papactl("nonsense")("list", status=5))


def test_doctor_of_a_kernel_started_by_hand(papactl: Papactl) -> None:
    findings = json.loads(papactl("doctor", "--json").stdout)
    assert {f["check"]: f["grade"] for f in findings} == {
        "Linux": "good", "bus": "good", "papad": "good", "systemd": "note",
    }  # fmt: skip


def test_text_that_is_none_and_locales_without_letters(papactl: Papactl) -> None:
    assert "UTF-8" in told(papactl("set", "v", "-", stdin=b"\xff", status=2))
    assert "utf-8" in told(papactl("set", "v", os.fsdecode(b"\xff"), status=2))
    papactl("set", "v", "grün")
    plain = Papactl(papactl.address, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert plain("status").stdout.startswith(b"\\u25cf Papa ")
    assert plain("list", "values", "--no-legend").stdout == b"v  gr\\xfcn\n"


def test_sigterm_ends_in_order(papactl: Papactl, papad: Papad, tmp_path: Path) -> None:
    papactl("run", "p", "--", "sh", "-c", "echo one; exec sleep 1000")
    with following(papad, "consume", "p") as taken:
        assert taken.stdout is not None
        assert taken.stdout.readline() == b"one\n"
        taken.terminate()
        assert taken.wait(PATIENCE) == 143
        assert taken.stderr is not None
        assert taken.stderr.read() == b""
    assert papactl("logs", "p").stdout == b""  # it has been acknowledged


def test_without_its_libraries(bus_address: str) -> None:
    code = "import sys; sys.modules['click'] = None; from papa_dbus.client.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment(bus_address), timeout=PATIENCE
    )
    assert done.returncode == 1
    assert b"pip install 'papa-dbus[ctl]'" in done.stderr


# ------------------------------------------------------------------ words completed


@pytest.fixture
def complete(papad: Papad) -> Callable[..., list[str]]:
    """What papactl proposes for the last of some words, as it does for bash."""

    def words(*before: str) -> list[str]:
        run = Papactl(papad.address, _PAPACTL_COMPLETE="bash_complete", COMP_WORDS=" ".join(("papactl", *before)),
                     COMP_CWORD=str(len(before)))  # fmt: skip
        return [line.partition(",")[2] for line in run().stdout.decode().splitlines()]

    return words


def test_names_are_completed_live(complete: Callable[..., list[str]], papactl: Papactl, bus_address: str) -> None:
    papactl("run", "web-1", "--", "sleep", "1000")
    papactl("run", "worker", "--", "sleep", "1000")
    papactl("socket", "make", "http", "--port", "0")
    papactl("set", "web-value", "1")
    assert complete("logs", "we") == ["web-1"]
    assert complete("logs", "web-1", "w") == ["worker"]
    assert complete("show", "web") == ["web-1", "web-value"]
    assert complete("run", "x", "--socket", "") == ["http"]
    assert complete("get", "") == ["web-value"]
    assert complete("stat") == ["status"]
    assert complete("logs", "--fo") == ["--follow"]


def test_completing_starts_and_asks_nothing_that_is_not_there(bus_address: str) -> None:
    run = Papactl(bus_address, _PAPACTL_COMPLETE="bash_complete", COMP_WORDS="papactl logs ", COMP_CWORD="2")
    done = run()
    assert (done.stdout.strip(), done.stderr) == (b"", b"")
