"""Circus's options, command by command and option by option: with use_papa beside without.

``python -m tests.circus.options`` writes the table in docs/howto/circus.md anew.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.circus import surroundings
from tests.circus.environments import VERSIONS
from tests.circus.sidebyside import FILES, Circusd, Place
from tests.support import PATIENCE, wait_until
from tests.systemd.container import PROJECT

PAGE = PROJECT / "docs/howto/circus.md"
BEGIN, END = "<!-- options: made by python -m tests.circus.options -->\n", "<!-- options: end -->\n"

_FILE = "class = FileStream\n{0}_stream.filename = {{folder}}/{{name}}.{0}"
_STREAM = "{0}_stream." + _FILE

#: Options of a watcher, and what a file says to have them do something.
WATCHER = {
    "cmd": "",
    "args": "args = one 'two three' w$(circus.wid) $(circus.env.word)",
    "shell": "shell = true",
    "shell_args": "shell = true\nshell_args = one two",
    "executable": "executable = /usr/bin/env",
    "executable (as in cmd)": "executable = python3",
    "working_dir": "working_dir = /usr",
    "uid": "uid = nobody",
    "gid": "gid = 12",
    "uid, gid": "uid = nobody\ngid = 12",
    "copy_env": "copy_env = true",
    "copy_path": "copy_env = true\ncopy_path = true",
    "numprocesses": "numprocesses = 3",
    "singleton": "singleton = true",
    "warmup_delay": "warmup_delay = 1\nnumprocesses = 2",
    "autostart": "autostart = false",
    "respawn": "respawn = false",
    "priority": "priority = 5",
    "max_retry": "max_retry = 2",
    "max_age": "max_age = 1000",
    "max_age_variance": "max_age = 1000\nmax_age_variance = 10",
    "rlimit_nofile": "rlimit_nofile = 100",
    "rlimit_nofile (empty)": "rlimit_nofile =",
    "rlimit_core": "rlimit_core = 0",
    "rlimit_as (empty)": "rlimit_as =",
    "rlimit_stack": "rlimit_stack = 4194304",
    "stop_signal": "stop_signal = INT",
    "stop_children": "stop_children = true",
    "send_hup": "send_hup = true",
    "graceful_timeout": "graceful_timeout = 2",
    "hooks.before_start, after_start": "hooks.before_start = noting.note\nhooks.after_start = noting.note, true",
    "hooks.before_spawn, after_spawn": "hooks.before_spawn = noting.note\nhooks.after_spawn = noting.note",
    "hooks.before_stop, after_stop": "hooks.before_stop = noting.note\nhooks.after_stop = noting.note",
    "hooks.before_signal, after_signal": "hooks.before_signal = noting.note\nhooks.after_signal = noting.note",
    "hooks.before_reap": "hooks.before_reap = noting.note",
    "hooks.extended_stats": "hooks.extended_stats = noting.note",
    "stdout_stream, stderr_stream": _STREAM.format("stdout") + "\n" + _STREAM.format("stderr"),
    "stdout_stream.time_format": _STREAM.format("stdout") + "\nstdout_stream.time_format = at",
    "stdout_stream.max_bytes, backup_count": _STREAM.format("stdout")
    + "\nstdout_stream.max_bytes = 3\nstdout_stream.backup_count = 2",
    "stdout_stream.class = TimedRotatingFileStream": _STREAM.format("stdout").replace("File", "TimedRotatingFile")
    + "\nstdout_stream.rotate_when = H",
    "stdout_stream.class = WatchedFileStream": _STREAM.format("stdout").replace("File", "WatchedFile"),
    "stdout_stream.class = StdoutStream": "stdout_stream.class = StdoutStream",
    "stdout_stream.class = FancyStdoutStream": "stdout_stream.class = FancyStdoutStream\nstdout_stream.color = red",
    "close_child_stdin": "close_child_stdin = false",
    "close_child_stdout": "close_child_stdout = true\n" + _STREAM.format("stdout"),
    "close_child_stderr": "close_child_stderr = true\n" + _STREAM.format("stderr"),
    "use_sockets": "use_sockets = true\nargs = $(circus.sockets.one)",
    "stdin_socket": "stdin_socket = one",
    "on_demand": "on_demand = true\nuse_sockets = true",
    "virtualenv": "virtualenv = {environment}\ncopy_env = true",
    "virtualenv_py_ver": "virtualenv = {environment}\nvirtualenv_py_ver = 3.11\ncopy_env = true",
    "check_flapping": "check_flapping = false",
    "options of one's own": "colour = green",
}

#: Options of [socket:NAME], given to a socket that one watcher has.
SOCKET = {
    "host, port": "host = 127.0.0.1\nport = 0",
    "family": "family = AF_INET6\nhost = ::1\nport = 0",
    "type": "type = SOCK_DGRAM\nhost = 127.0.0.1\nport = 0",
    "backlog": "backlog = 5\nhost = 127.0.0.1\nport = 0",
    "path": "path = {folder}/{name}.sock",
    "umask": "path = {folder}/{name}.sock\numask = 7",
    "umask (decimal)": "path = {folder}/{name}.sock\numask = 077",
    "replace": "path = {folder}/{name}.sock\nreplace = true",
    "blocking": "blocking = true\nhost = 127.0.0.1\nport = 0",
    "so_reuseport": "so_reuseport = true\nhost = 127.0.0.1\nport = 0",
    "proto": "proto = tcp\nhost = 127.0.0.1\nport = 0",
}

#: Options of [circus], which both circusds of the comparison have.
CIRCUS = {
    "check_delay": "",
    "endpoint": "",
    "pubsub_endpoint": "",
    "umask": "umask = 027",
    "warmup_delay": "warmup_delay = 0",
    "pidfile": "pidfile = {folder}/pid",
    "loglevel": "loglevel = info",
    "fqdn_prefix": "fqdn_prefix = here",
    "include": "include = included.ini",
    "include_dir": "include_dir = more",
    "statsd, stats_endpoint": "statsd = true\nstats_endpoint = ipc://{folder}/stats",
    "endpoint_owner": "endpoint_owner = nobody",
    "logoutput": "logoutput = {folder}/log",
    "multicast_endpoint": "multicast_endpoint = udp://237.219.251.97:12027",
}

#: Commands, and what they are asked with; those that change something come last.
COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("list", {"name": "cmd"}), ("list", {}), ("numprocesses", {"name": "cmd"}), ("status", {"name": "cmd"}),
    ("status", {}), ("numwatchers", {}), ("numprocesses", {}),
    ("options", {"name": "cmd"}), ("get", {"name": "cmd", "keys": ["numprocesses", "cmd"]}), ("listsockets", {}),
    ("globaloptions", {}), ("stats", {"name": "cmd"}), ("dstats", {}), ("signal", {"name": "cmd", "signum": "winch"}),
    ("incr", {"name": "cmd", "nb": 2}), ("decr", {"name": "cmd", "nb": 1}),
    ("set", {"name": "cmd", "options": {"numprocesses": 3}}), ("set", {"name": "cmd", "options": {"cmd": "sleep 100"}}),
    ("set", {"name": "cmd", "options": {"nonsense": 1}}), ("reload", {"name": "cmd"}), ("restart", {"name": "cmd"}),
    ("stop", {"name": "cmd"}), ("start", {"name": "cmd"}), ("kill", {"name": "cmd", "signum": "term"}),
    ("add", {"name": "added", "cmd": "sleep 100", "start": True, "options": {"numprocesses": 2}}),
    ("add", {"name": "added", "cmd": "sleep 100"}), ("rm", {"name": "added"}), ("reloadconfig", {}), ("restart", {}),
]  # fmt: skip


#: Seconds for a hundred watchers to start, one after the other.
_PATIENCE = 6 * PATIENCE


@dataclass(frozen=True)
class Row:
    """A line of the table: ``told`` is what the log says of a difference, None if there is none."""

    section: str
    option: str
    differs: str
    told: str | None

    @property
    def verdict(self) -> str:
        """What stands in the table."""
        if self.differs and not self.told:
            return f"DIFFERS: {self.differs}"
        return "; ".join([*([] if self.differs else ["the same"]), *([f"told: {self.told}"] if self.told else [])])


def _name(option: str) -> str:
    return re.sub(r"\W+", "_", option).strip("_").lower()


def _sections(circusd: Circusd, environment: Path, papa: bool) -> str:
    use = "use_papa = true\n" if papa else ""
    probe = f"python3 {FILES}/probe.py {circusd.folder}"
    text = f"[env]\nPYTHONPATH = {FILES}\nNOTES = {circusd.folder}\nWORD = word\n"
    text += "[env:env_of_*,nobodys]\nWORD = other\nMORE = $(circus.env.word) more\n"
    text += f"[watcher:env_of_some]\ncmd = {probe}/env_of_some.1 $(circus.env.word)\n{use}"
    text += f"[socket:one]\npath = {circusd.folder}/one\n{use}"
    for option, lines in WATCHER.items():
        name = _name(option)
        body = lines.format(folder=circusd.folder, name=name, environment=environment)
        text += f"[watcher:{name}]\ncmd = {probe}/{name}.$(circus.wid)\nhooks.after_reap = noting.note\n{use}{body}\n"
    for option, lines in SOCKET.items():
        name = f"s_{_name(option)}"
        text += f"[socket:{name}]\n{use}{lines.format(folder=circusd.folder, name=name)}\n"
        text += (
            f"[watcher:{name}]\ncmd = {probe}/{name}.$(circus.wid) $(circus.sockets.{name})\nuse_sockets = true\n{use}"
        )
    return text


def _start(circusd: Circusd, environment: Path, papa: bool) -> None:
    use = "use_papa = true\n" if papa else ""
    probe = f"cmd = python3 {FILES}/probe.py {circusd.folder}"
    (circusd.folder / "more").mkdir()
    for file, name in (("included.ini", "included"), ("more/x.ini", "more")):
        (circusd.folder / file).write_text(f"[watcher:c_{name}]\n{probe}/c_{name}.1\n{use}")
    circus = "".join(f"{lines.format(folder=circusd.folder)}\n" for lines in CIRCUS.values())
    circusd.configure(_sections(circusd, environment, papa), circus)
    circusd.begin()


def _wait_until_started(circusd: Circusd) -> None:
    """Wait until it starts no more watchers: it refuses another command until then."""
    wait_until(lambda: not _busy(circusd.ask("start", name="cmd", waiting=True)), circusd.words, _PATIENCE)


def _plain_text(circusd: Circusd, value: object) -> Any:
    """What differs from one run to the next, made the same."""
    text = json.dumps(value, sort_keys=True).replace(str(circusd.folder), "FOLDER")
    text = re.sub(r'"(use_papa|.*INVOCATION_ID)": \w+(, )?', "", text)
    return json.loads(re.sub(r"\[\d+\] \|", "[PID] |", text))


def _observe(circusd: Circusd, name: str) -> dict[str, Any]:
    """What can be seen of a watcher that has started."""
    status = circusd.status(name)
    count = int(circusd.ask("get", name=name, keys=["numprocesses"])["options"]["numprocesses"])
    files = [circusd.folder / f"{name}.{number}" for number in range(1, count + 1)]
    if status == "active":
        wait_until(lambda: all(file.exists() for file in files), lambda: (name, circusd.words()))
    seen = {
        "status": status,
        "processes": len(circusd.pids(name)),
        "options": circusd.ask("options", name=name)["options"],
    }
    for file in files:
        if file.exists():
            seen |= {f"{key} of {file.suffix}": value for key, value in json.loads(file.read_text()).items()}
    return dict(_plain_text(circusd, seen))


def _streams(circusd: Circusd, name: str) -> dict[str, Any]:
    """What hooks and streams have of a watcher that has stopped."""
    found: dict[str, set[str]] = {}
    for file in sorted(circusd.folder.glob(f"{name}.*")):
        rotated = file.suffix in (".1", ".2") and ".std" in file.name
        if rotated or file.suffix.startswith((".stdout", ".stderr", ".hooks")):
            # Which of the files a line is in depends on which lines have come together.
            lines = re.sub(r"\[\d+\] \|", "[PID] |", file.read_text()).splitlines()
            found.setdefault(file.stem if rotated else file.name, set()).update(lines)
    return dict(_plain_text(circusd, {stream: sorted(lines) for stream, lines in found.items()}))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}: {one.get(key)!r} is {other.get(key)!r}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    )


def _told(warnings: list[str], name: str, option: str) -> str | None:
    word = option.split(maxsplit=1)[0].rstrip(",")
    for line in warnings:
        text = line.partition("] ")[2].partition("] ")[2]
        if word in text and re.search(rf'(^|"){name}\b', text):
            return re.sub(r'^(Socket ")?[\w]+"?: ', "", text)
    return None


def compare(place: Place) -> list[Row]:
    """Start both, look at each option and each command, and end both."""
    both = [place.circusd("plain", plain=True), place.circusd("papa")]
    environment = place.python.parents[1]
    for circusd, papa in zip(both, (False, True), strict=True):
        _start(circusd, environment, papa)
    for circusd in both:
        _wait_until_started(circusd)
    started = [
        {name: _observe(circusd, name) for name in circusd.ask("list")["watchers"] if name != "circusd-stats"}
        for circusd in both
    ]
    rows = [_circus_row(option, both, started) for option in CIRCUS]
    rows += [
        Row("[env]", "NAME = VALUE", _differences(*(_environment(on["cmd"]) for on in started)), None),
        Row(
            "[env:PATTERN,…]", "NAME = VALUE", _differences(*(_environment(on["env_of_some"]) for on in started)), None
        ),
    ]
    warnings = both[1].warnings()
    answers = [[_answer(circusd, command, asked) for command, asked in COMMANDS] for circusd in both]
    for circusd in both:
        circusd.do("stop")
    for section, options in (("[watcher:NAME]", WATCHER), ("[socket:NAME]", SOCKET)):
        for option in options:
            name = ("s_" if options is SOCKET else "") + _name(option)
            seen = [
                on[name] | (_streams(circusd, name) if name != "cmd" else {})
                for on, circusd in zip(started, both, strict=True)
            ]
            rows.append(Row(section, option, _differences(*seen), _told(warnings, name, option)))
    for (command, asked), *said in zip(COMMANDS, *answers, strict=True):
        rows.append(
            Row("circusctl", _typed(command, asked), "" if said[0] == said[1] else f"{said[0]} is {said[1]}", None)
        )
    for circusd in both:
        circusd.kill()
    more = [Row(*row) for row in surroundings.compare(place)]
    order = ("[circus]", "circusd", "[env]", "[env:PATTERN,…]", "[plugin:NAME]", "[watcher:NAME]", "[socket:NAME]")
    return sorted([*rows, *more], key=lambda row: (*order, "circusctl").index(row.section))


def _typed(command: str, asked: Mapping[str, Any]) -> str:
    """A command as it is typed; the values of its options are an example."""
    words = [command, *(word for key, word in (("name", "NAME"), ("cmd", "COMMAND")) if key in asked)]
    words += [str(asked[key]) for key in ("signum", "nb") if key in asked]
    words += [f"{key} {value}" for key, value in asked.get("options", {}).items()]
    return " ".join([*words, *asked.get("keys", [])])


def _environment(seen: Mapping[str, Any]) -> dict[str, Any]:
    return {key: seen.get(f"{key} of .1") for key in ("environment", "arguments")}


def _circus_row(option: str, both: list[Circusd], started: list[dict[str, Any]]) -> Row:
    seen = []
    for circusd, watchers in zip(both, started, strict=True):
        names = sorted(watchers)
        pid = (circusd.folder / "pid").exists()
        owner = (circusd.folder / "ctl").stat().st_uid
        seen.append({"watchers": names, "pid": pid, "owner": owner, "umask": watchers["cmd"].get("umask of .1")})
    return Row("[circus]", option, _differences(*seen), None)


def _answer(circusd: Circusd, command: str, asked: dict[str, Any]) -> Any:
    """A command's answer, without what is another each time."""
    if command == "add" and "papa" in circusd.folder.name:
        asked = {**asked, "options": {**asked.get("options", {}), "use_papa": True}}
    said = wait_until(
        lambda: (now := circusd.ask(command, **asked, waiting=True)) and not _busy(now) and now, command, _PATIENCE
    )
    said = {key: value for key, value in said.items() if key not in ("id", "time", "tb")}
    said.get("statuses", {}).pop("stdin_socket", None)  # told in its own row
    if said["status"] == "error":
        said["reason"] = said["reason"].rpartition("}': ")[2]
    text = json.dumps(_plain_text(circusd, said), sort_keys=True)
    return json.loads(re.sub(r"-?\d+(\.\d+)?", "0", text))


def _busy(said: dict[str, Any]) -> bool:
    """Whether a command was refused because another one runs, which plain Circus does in each of its looks."""
    return "already running" in str(said.get("reason"))


def table(rows: list[Row]) -> str:
    """The table as Markdown."""
    lines = ["| where | option or command | with `use_papa` |", "|---|---|---|"]
    for row in rows:
        option = row.option.replace("|", "\\|")
        lines.append(f"| `{row.section}` | `{option}` | {row.verdict} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the table into the page."""
    with Place(VERSIONS[-1]) as place:
        rows = compare(place)
    head, _, rest = PAGE.read_text().partition(BEGIN)
    assert rest, f"{PAGE} has no place for the table"
    PAGE.write_text(head + BEGIN + "\n" + table(rows) + "\n" + END + rest.partition(END)[2])
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
