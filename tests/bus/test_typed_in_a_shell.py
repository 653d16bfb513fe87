"""papactl as people type it: each option of each command, words of other tools, relative paths, kill and status."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from papa_dbus.bus import unixexec
from papa_dbus.client.cli import other_tools
from papa_dbus.client.cli.commands import papactl as root
from papa_dbus.client.cli.exit_status import run
from papa_dbus.client.cli.group import Group
from papa_dbus.service.private_bus import OwnBus
from tests.bus.daemon import Papad, start_papad
from tests.bus.test_papactl import told
from tests.papactl import PAPACTL, Papactl, environment
from tests.support import PATIENCE

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "words-of-other-tools.md"


def commands(group: click.Group = root, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command of papactl, by its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


def options(command: click.Command) -> list[click.Option]:
    """All options that a command takes, those that say where papad is among them."""
    return [param for param in command.get_params(click.Context(command)) if isinstance(param, click.Option)]


# ------------------------------------------------------------------- every option of every command


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_option_is_hidden_by_another(path: tuple[str, ...]) -> None:
    spelt = [word for option in options(COMMANDS[path]) for word in (*option.opts, *option.secondary_opts)]
    assert sorted(spelt) == sorted(set(spelt))
    own = {word for param in COMMANDS[path].params if isinstance(param, click.Option) for word in param.opts}
    assert own <= set(spelt)


#: What each command is given, and each of its own options: its value, and what shows that the command has got it.
NEEDED: dict[str, list[str]] = {
    "show": ["it"], "run": ["new"], "wait": ["ended"], "logs": ["ended"], "consume": ["ended"], "kill": ["it"],
    "remove": ["ended"], "socket make": ["s"], "socket remove": ["sock"], "set": ["v", "1"], "get": ["it"],
    "unset": ["it"],
}  # fmt: skip
GIVEN: dict[str, dict[str, tuple[list[str], str]]] = {
    "status": {"--json": ([], '"buffered_bytes"')},
    "list": {"--json": ([], '"processes"'), "--no-legend": ([], r"^(?!NAME)")},
    "show": {"--json": ([], '"values"')},
    "run": {
        "--socket": (["sock"], "fds=1"), "--env": (["A=b"], "A=b"), "-E": (["A=b"], "A=b"),
        "--user": (["nobody"], "id=nobody"), "--uid": (["nobody"], "id=nobody"), "--group": (["daemon"], "gid=daemon"),
        "--gid": (["daemon"], "gid=daemon"), "--directory": (["/usr"], "in=/usr"), "-d": (["/usr"], "in=/usr"),
        "--limit": (["nofile=77"], "nofile=77"), "--umask": (["027"], "umask=0027"),
        "--stdout": (["null"], r"^err\n$"), "--stderr": (["null"], "(?s)^(?!.*err)"), "--bufsize": (["64k"], "out"),
        "--overflow": (["block"], "out"), "--memory-max": (["64m"], "systemd"), "--cpu-quota": (["50%"], "systemd"),
        "--tasks-max": (["50"], "systemd"), "--journal": ([], "systemd"), "--follow": ([], "out"), "-f": ([], "out"),
        "--remove": ([], "out"),
    },
    "wait": {},
    "logs": {
        "--follow": ([], "one"), "-f": ([], "one"), "--lines": (["1"], r"^(?!.*one)"), "-n": (["all"], "one"),
        "--since": (["2030-01-31"], "^$"), "--stdout": ([], "(?s)^(?!.*two)"), "--stderr": ([], "(?s)^(?!.*one)"),
        "--output": (["cat"], "^one\n"), "-o": (["json"], '"one"'),
    },
    "consume": {
        "--to": (["out.txt"], "^$"), "--output": (["json"], '"one'), "-o": (["cat"], "^one\n"),
        "--rotate-size": (["64k", "--to", "out.txt"], "^$"),
        "--rotate-keep": (["2", "--rotate-size", "64k", "--to", "out.txt"], "^$"),
    },
    "top": {
        "--delay": (["0.1", "-n", "1"], "COMMAND"), "-d": (["0.1", "-n", "1"], "COMMAND"),
        "--count": (["1", "-d", "0.1"], "COMMAND"), "-n": (["1", "-d", "0.1"], "COMMAND"),
        "--sort": (["name", "-n", "1", "-d", "0.1"], "(?s)ended.*it "),
    },
    "kill": {"--signal": (["CONT"], "CONT sent"), "-s": (["18"], "CONT sent")},
    "remove": {},
    "socket make": {
        "--port": (["0"], r"127\.0\.0\.1:"), "--host": (["127.0.0.5"], r"127\.0\.0\.5:"),
        "--path": (["s.sock"], "s.sock"),
        "--family": (["inet6"], r"\[::1\]"), "--type": (["dgram"], "dgram"),
        "--umask": (["007", "--path", "u.sock"], "u.sock"), "--backlog": (["7"], "s "), "--interface": (["lo"], "s "),
        "--reuseport": ([], "s "),
    },
    "socket remove": {},
    "set": {}, "get": {}, "unset": {}, "exit-if-idle": {},
    "doctor": {"--json": ([], '"grade"')},
}  # fmt: skip
SHOWS = (
    "echo out; echo err >&2; echo in=$PWD umask=$(umask) nofile=$(ulimit -n) id=$(id -un) gid=$(id -gn) A=$A"
    " fds=$LISTEN_FDS"
)
EVERY = [(name, word) for name, given in GIVEN.items() for word in given]


def test_the_table_has_every_option() -> None:
    assert set(GIVEN) == {" ".join(path) for path in COMMANDS}
    for path, command in COMMANDS.items():
        own = {word for param in command.params if isinstance(param, click.Option) for word in param.opts}
        assert set(GIVEN[" ".join(path)]) == own, path


class Inside:
    """papactl in the test's own process: what counts is how its words are read, and a start of Python takes long."""

    def __init__(self, address: str, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = address
        self._capture = capture
        monkeypatch.setenv("PAPA_BUS_ADDRESS", address)

    def __call__(self, *arguments: str, status: int | None = 0) -> str:
        """What it prints, stdout first. It must end with this status, if one is given."""
        self._capture.readouterr()
        ended = run(root, arguments)
        said = "".join(self._capture.readouterr())
        assert status in (None, ended), (arguments, ended, said)
        return said


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bus of a papad for all options and words: it holds a process and a value."""
    bus = OwnBus()
    papad = start_papad(bus.address, tmp_path_factory.mktemp("options") / "line")
    papactl = Papactl(bus.address)
    papactl("run", "it", "--", "sleep", "1000")
    yield bus.address
    papactl("kill", "-9", "it")
    papad.stop()
    bus.close()


@pytest.fixture
def inside(
    held: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Inside]:
    """papactl for it, with what the options are tried on."""
    monkeypatch.chdir(tmp_path)
    inside = Inside(held, capfd, monkeypatch)
    inside("set", "it", "1")
    inside("socket", "make", "sock", "--port", "0")
    inside("run", "ended", "-f", "--", "sh", "-c", "echo one; echo two >&2")
    yield inside
    inside("remove", "ended", "new", status=None)
    inside("remove", "ended", status=None)
    inside("socket", "remove", "s", "sock", status=None)
    inside("socket", "remove", "sock", status=None)


@pytest.mark.parametrize(("name", "word"), EVERY, ids=[f"{name} {word}" for name, word in EVERY])
def test_every_option_reaches_its_command(inside: Inside, name: str, word: str) -> None:
    value, shown = GIVEN[name][word]
    arguments = [*name.split(), *NEEDED.get(name, []), word, *value]
    if name == "run":
        arguments += [*([] if word in ("--follow", "-f") else ["--follow"]), "--", "sh", "-c", SHOWS]
    if name == "logs" and word in ("--follow", "-f"):  # it never ends
        assert re.search(shown, followed(inside.address, arguments))
        return
    failing = 125 if shown == "systemd" else 0  # no systemd is on the test's bus
    said = inside(*arguments, status=failing)
    assert re.search(shown, said), said


def followed(address: str, arguments: list[str]) -> str:
    """The first line of what goes on."""
    log = subprocess.Popen([*PAPACTL, *arguments], env=environment(address), stdout=subprocess.PIPE, text=True)
    assert log.stdout is not None
    try:
        return log.stdout.readline()
    finally:
        log.terminate()
        log.wait(PATIENCE)
        log.stdout.close()


# ------------------------------------------------------------------------ words of other tools


@pytest.mark.parametrize("word", other_tools.SAME)
def test_the_same_thing_under_another_name_is_done(inside: Inside, word: str) -> None:
    same = other_tools.SAME[word]
    if word == "attach":
        assert "one" in followed(inside.address, [word, "ended"])
        return
    if word == "sendSignal":
        assert "CONT sent" in inside(word, "SIGCONT", "it")
        return
    arguments = ["ended"]
    if same[0] in ("top", "list") and "processes" not in same:
        arguments = ["-n", "1", "-d", "0.1"] if same == ("top",) else []
    done = inside(word, *arguments, status=3 if word == "is-active" else 0)
    if word in ("rm", "stats", "monit"):  # the second time it is another
        assert "ended" in done
    else:
        assert done == inside(*same, *arguments, status=None)


@pytest.mark.parametrize(
    ("path", "instead"),
    [(["papactl", word], line) for word, line in other_tools.INSTEAD.items()]
    + [(["papactl", "socket", word], line) for word, line in other_tools.SOCKET_INSTEAD.items()],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_says_what_to_type(capfd: pytest.CaptureFixture[str], path: list[str], instead: str) -> None:
    for more in ([], ["web"], ["web", "--force"]):
        assert run(root, [*path[1:], *more]) == 2
        said = f"papactl: no command '{path[-1]}': {instead} ({' '.join(path[:-1])} --help)\n"
        assert capfd.readouterr().err == said


def test_words_of_other_tools_below_socket(inside: Inside) -> None:
    for word, same in other_tools.SOCKET_SAME.items():
        if same == ("make",):
            assert "127.0.0.1:" in inside("socket", word, "s", "--port", "0")
            inside("socket", "remove", "s")
        elif same == ("remove",):
            assert inside("socket", word, "sock") == "sock\n"
            inside("socket", "make", "sock", "--port", "0")
        else:
            assert inside("socket", word, "sock") == inside(*same, "sock")


#: The commands of each tool that are about processes, files of them and the daemon, in the order of its help.
TOOLS = {
    "supervisorctl 4.3": "add clear avail exit fg maintail open pid quit reload remove reread restart shutdown signal"
    " start status stop tail update version",
    "circusctl 0.19": "add decr dstats get globaloptions incr kill list listen listsockets numprocesses numwatchers"
    " options quit reload reloadconfig restart rm set signal start stats status stop",
    "docker 28": "attach create events exec inspect kill logs pause port ps rename restart rm run start stats stop top"
    " unpause update version wait ls container",
    "pm2 6": "start startOrRestart delete stop restart reload id inspect sendSignal ping list ls l ps jlist prettylist"
    " monit save dump resurrect logs flush reloadLogs describe desc info show env scale reset startup unstartup set get"
    " unset attach update",
    "systemctl 257": "list-units list-sockets start stop reload restart try-restart reload-or-restart kill clean freeze"
    " thaw is-active is-failed status show cat set-property help reset-failed list-unit-files enable disable mask"
    " is-enabled edit daemon-reload",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_each_word_of_other_tools_is_known(tool: str) -> None:
    known = {"help", *root.commands, *other_tools.SAME, *other_tools.INSTEAD}
    assert not set(TOOLS[tool].split()) - known


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lgos", "web"], "no command 'lgos'; did you mean 'logs'?"),
        (["restrat", "web"], "no command 'restrat'; did you mean 'restart'?"),
        (["vlaue"], "no command 'vlaue'; did you mean 'value'?"),
        (["xyzzy"], "no command 'xyzzy'"),
        (["socket", "mkae", "s"], "no command 'mkae'; did you mean 'make'?"),
        (["socket", "lsit"], "no command 'lsit'; did you mean 'list'?"),
        (["socket", "strat", "s"], "no command 'strat'; did you mean 'start'?"),
        (["socket", "xyzzy"], "no command 'xyzzy'"),
    ],
    ids=" ".join,
)
def test_a_misspelt_word_is_guessed_at(capfd: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert run(root, arguments) == 2
    below = "papactl socket" if arguments[0] == "socket" else "papactl"
    assert capfd.readouterr().err == f"papactl: {said} ({below} --help)\n"


def test_what_is_listed_in_the_singular(inside: Inside) -> None:
    for one, all_ in (("process", "processes"), ("socket", "sockets"), ("value", "values")):
        assert inside("list", one) == inside("list", all_)
    said = "'it' is none of 'sockets', 'processes', 'values'; 'papactl show it' shows one item"
    assert said in inside("list", "it", status=2)
    said = "'web*' is none of 'sockets', 'processes', 'values'; papactl list processes 'web*'"
    assert said in inside("list", "web*", status=2)


@pytest.mark.parametrize("group", [[], ["socket"]], ids=["papactl", "papactl socket"])
def test_a_group_alone_shows_its_help(capfd: pytest.CaptureFixture[str], group: list[str]) -> None:
    assert run(root, group) == 2
    shown = capfd.readouterr().err
    assert run(root, [*group, "--help"]) == 0
    assert shown == capfd.readouterr().out


def test_each_word_is_known_once_and_stands_in_the_docs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    socket = root.commands["socket"]
    assert isinstance(socket, Group)
    assert isinstance(root, Group)
    for group, below in ((root, ""), (socket, "socket ")):
        assert not set(group.same) & set(group.instead)
        assert not {*group.same, *group.instead} & set(group.commands)
        for word, same in group.same.items():
            at = below if same[0] in socket.commands else ""
            assert f"| `{below}{word}` | the same as `papactl {at}{' '.join(same)}` |" in page
        for word, instead in group.instead.items():
            assert f"| `{below}{word}` | {instead} |" in page


def test_help_is_a_word_too(papactl: Papactl) -> None:
    assert papactl("help").stdout == papactl("--help").stdout
    assert papactl("socket", "help", "make").stdout == papactl("socket", "make", "--help").stdout
    assert papactl("help", "socket", "make").stdout == papactl("socket", "make", "--help").stdout
    assert "did you mean 'logs'" in told(papactl("help", "lgos", status=2))


# ----------------------------------------------------------------------------- relative paths


def test_a_relative_program_and_directory_are_the_callers(
    papactl: Papactl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "prog"
    program.write_text("#!/bin/sh\npwd\n")
    program.chmod(0o755)
    (tmp_path / "bin" / "link").symlink_to("/bin/echo")
    monkeypatch.chdir(tmp_path / "bin")
    assert papactl("run", "a", "-f", "-d", ".", "--", "./prog").stdout.decode() == f"{tmp_path}/bin\n"
    assert papactl("run", "b", "-f", "-d", "..", "--", "./prog").stdout.decode() == f"{tmp_path}\n"
    assert papactl("run", "c", "-f", "--", "./link", "./prog").stdout.decode() == "./prog\n"  # an argument is its own
    assert "link" in papactl("list", "processes", "c").stdout.decode()  # what a link is called may matter
    monkeypatch.chdir(tmp_path)
    assert papactl("run", "d", "-f", "-d", "bin/", "--", "bin/prog").stdout.decode() == f"{tmp_path}/bin\n"
    papactl("socket", "make", "s", "--path", "bin/s")
    assert (tmp_path / "bin" / "s").is_socket()
    assert "nosuch" in told(papactl("run", "e", "--", "./nosuch", status=1))


def test_on_another_machine_paths_must_be_absolute(papad: Papad) -> None:
    way = unixexec._address(["systemd-stdio-bridge", f"--bus-path={papad.address}"])
    papactl = Papactl(way)
    for arguments, wrong in (
        (["run", "a", "--", "./prog"], "the program: './prog'"),
        (["run", "a", "-d", ".", "--", "true"], "--directory: '.'"),
        (["socket", "make", "s", "--path", "s"], "--path: 's'"),
    ):
        said = told(papactl(*arguments, status=2))
        assert said.startswith(f"{wrong} must be absolute, since papad is on another machine")
    papactl("run", "a", "-d", "/", "--", "sleep", "1000")
    assert "has no scope of systemd's" in told(papactl("kill", "a", status=1))
    Papactl(papad.address)("kill", "a")


# ----------------------------------------------------------------------------- kill and status


@pytest.mark.parametrize(
    ("arguments", "number"),
    [([], 15), (["--signal", "HUP"], 1), (["-s", "sigint"], 2), (["-9"], 9), (["-HUP"], 1), (["-USR1"], 10),
     (["--signal=KILL"], 9), (["-SIGQUIT"], 3)],
)  # fmt: skip
def test_kill_sends_the_signal_that_was_typed(papactl: Papactl, arguments: list[str], number: int) -> None:
    papactl("run", "web", "--", "sleep", "1000")
    name = signal.Signals(number).name.removeprefix("SIG")
    assert re.fullmatch(rf"web: {name} sent to PID \d+\n", papactl("kill", *arguments, "web").stdout.decode())
    papactl("wait", "web", status=128 + number)
    assert papactl("status", "web", status=3).stdout.decode().splitlines()[0] == f"● web: signal={name}"


def test_kill_by_pattern_and_what_cannot_be_killed(papactl: Papactl) -> None:
    for name in ("job-1", "job-2", "web"):
        papactl("run", name, "--", "sleep", "1000")
    papactl("run", "job-3", "--", "true")
    papactl("wait", "job-3")
    assert papactl("kill", "job-*").stdout.count(b"TERM sent") == 2
    papactl("wait", "job-1", status=143)
    assert told(papactl("kill", "job-3", status=1)) == "'job-3' has ended already (exit=0)"
    assert "did you mean 'web'?" in told(papactl("kill", "wbe", status=4))
    assert "'NONE' is not a signal" in told(papactl("kill", "web", "-s", "NONE", status=2))
    papactl("kill", "web", "-KILL")


def test_status_of_processes(papactl: Papactl) -> None:
    papactl("run", "web", "--", "sleep", "1000")
    shown = papactl("status", "web").stdout.decode()
    assert shown.startswith("● web: running\nPID: ")
    assert shown.endswith("sleep 1000\n")
    papactl("run", "bad", "--", "sh", "-c", "exit 3")
    papactl("wait", "bad", status=3)
    assert "● bad: exit=3" in papactl("status", "bad", "web", status=3).stdout.decode()
    assert [p["name"] for p in json.loads(papactl("status", "--json", "w*").stdout)] == ["web"]
    assert "there is no process 'nosuch'" in told(papactl("status", "nosuch", status=4))
    papactl("kill", "web")


# ------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize("limit", ["nofile", "core", "nproc", "stack"])
def test_an_infinite_limit_is_the_hard_one_if_that_cannot_be_raised(papactl: Papactl, limit: str) -> None:
    letter = {"nofile": "n", "core": "c", "nproc": "u", "stack": "s"}[limit]
    command = ["sh" if letter in "ncs" else "bash", "-c", f"ulimit -S{letter}; ulimit -H{letter}"]
    soft, hard = papactl("run", "p", "-f", "--limit", f"{limit}=infinity", "--", *command).stdout.decode().split()
    assert soft == hard
    if limit == "nofile":
        assert int(hard) <= int(Path("/proc/sys/fs/nr_open").read_text())
