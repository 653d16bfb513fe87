"""What a circusd has around it, with use_papa beside without: its log, its plugins, httpd, what it was started with."""

import json
import re
from typing import Any

from tests.circus.sidebyside import FILES, Circusd, Place
from tests.support import PATIENCE, wait_until
from tests.systemd.container import PROJECT

#: How both are started: another nice, processors and limits than papad's.
PREFIX = (
    "nice", "-n", "5", "taskset", "-c", "0", "prlimit", "--nofile=5000:5000", "--stack=4194304:8388608", "--",
)  # fmt: skip

#: Options of [circus], which cannot be had together with those of tests.circus.options.
CIRCUS = {
    "debug": "debug = true",
    "debug_gc": "debug_gc = true",
    "loggerconfig": "loggerconfig = {folder}/logging.json",
    "httpd": "httpd = true",
    "httpd_host": "httpd_host = 127.0.0.1",
    "httpd_port": "httpd_port = 0",
}
PLUGIN = "[plugin:heard]\nuse = heard.Heard\nfile = {folder}/heard\nPYTHONPATH = " + str(FILES) + "\n"

_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"own": {"format": "%(asctime)s OWN[%(process)d] [%(levelname)s] %(message)s"}},
    "handlers": {"own": {"class": "logging.FileHandler", "filename": "{folder}/log", "formatter": "own"}},
    "root": {"handlers": ["own"], "level": "DEBUG"},
}


def _start(circusd: Circusd, papa: bool) -> None:
    text = json.dumps(_LOGGING).replace("{folder}", str(circusd.folder))
    (circusd.folder / "logging.json").write_text(text)
    circus = "".join(f"{lines.format(folder=circusd.folder)}\n" for lines in CIRCUS.values())
    if papa:
        circus += "papa_prefix = around\n"  # what the one before has left is its own
    sections = PLUGIN.format(folder=circusd.folder)
    sections += f"[watcher:own]\ncmd = python3 {FILES}/probe.py {circusd.folder}/own\n"
    sections += f"hooks.before_start = noting.note_circusd\n[env:own]\nNOTES = {circusd.folder}\n"
    circusd.configure(sections.replace("[env", "use_papa = true\n[env") if papa else sections, circus)
    circusd.begin(*PREFIX, variables={"PYTHONPATH": f"{PROJECT}:{FILES}"})


def _observe(circusd: Circusd) -> dict[str, Any]:
    """What can be seen of it, by the option that it shows."""
    own, heard = circusd.folder / "own", circusd.folder / "heard"
    wait_until(own.exists, circusd.words)
    seen = json.loads(own.read_text())
    wait_until(heard.exists, circusd.words)
    circusd.do("restart", name="own")
    circusd.do("stop", name="own")
    ended = "watcher.own.stop"
    wait_until(lambda: ended in heard.read_text(), heard.read_text)
    sockets = circusd.ask("listsockets")["sockets"]
    address = [(sock["name"], sock.get("host")) for sock in sockets]
    words = circusd.words()
    return {
        "debug": sorted(set(re.findall(r"\[(DEBUG|INFO)\]", words))),
        "debug_gc": (circusd.folder / "circusd").read_text(),
        "loggerconfig": " OWN[" in words,
        "httpd": circusd.status("circushttpd"),
        "httpd_host": address,
        "httpd_port": address,
        "plugin": (circusd.status("plugin:heard"), sorted(set(heard.read_text().split()))),
        "nofile": seen["limits"]["nofile"],
        "others": (seen["nice"], seen["processors"], seen["limits"]["stack"]),
    }


def compare(place: Place) -> list[tuple[str, str, str, str | None]]:
    """Start both, look at each, end both; a row's section, option, difference and what is told of it."""
    both = [place.circusd("plain", plain=True), place.circusd("papa")]
    for circusd, papa in zip(both, (False, True), strict=True):
        _start(circusd, papa)
    plain, papa_ = [_observe(circusd) for circusd in both]
    warnings = both[1].warnings()
    for circusd in both:
        circusd.do("stop")
        circusd.kill()

    def row(section: str, option: str, key: str, told: str | None = None) -> tuple[str, str, str, str | None]:
        differs = "" if plain[key] == papa_[key] else f"{plain[key]!r} is {papa_[key]!r}"
        found = [line.partition("] ")[2].partition("] ")[2] for line in warnings]
        return section, option, differs, next((f"{told}: …" for line in found if told and line.startswith(told)), None)

    return [
        *(row("[circus]", option, option) for option in CIRCUS),
        row("circusd", "limit of open files (LimitNOFILE=, ulimit -n)", "nofile"),
        row("circusd", "nice, processors, other limits", "others", "processes in papa do not have from circusd"),
        row("[plugin:NAME]", "use, and options of its own", "plugin"),
        _interface(place),
    ]


def _interface(place: Place) -> tuple[str, str, str, str | None]:
    """A socket of one interface: plain Circus wants a module of Python 2 for it."""
    section = "[socket:one]\ninterface = lo\nhost = 127.0.0.1\nport = 0\n"
    plain, papa = place.circusd("plain", plain=True), place.circusd("papa")
    plain.configure(section)
    plain.launch().wait(PATIENCE)
    assert "No module named 'IN'" in plain.words()
    papa.configure(section + "use_papa = true\n", "papa_prefix = interface\n")
    papa.begin()
    bound = place.papa("p.list_sockets('interface.one')")["interface.one"]["interface"] == "lo"
    papa.quit()
    differs = "refused is " + ("bound" if bound else "not bound")
    told = "plain Circus does not start (No module named 'IN'); with use_papa it has the interface" if bound else None
    return "[socket:NAME]", "interface", differs, told


def known_options(place: Place) -> dict[str, set[str]]:
    """The names of all options that this Circus reads, by section, from its own code."""
    code = (
        "import inspect, json, re, circus.config as c, circus.sockets as s, circus.watcher as w;"
        "text = inspect.getsource(c);"
        "print(json.dumps({"
        "'circus': re.findall(r\"dget\\('circus', '(\\w+)'\", text),"
        "'watcher': [*inspect.signature(w.Watcher.__init__).parameters, *c.watcher_defaults()],"
        "'socket': re.findall(r\"config.get\\('(\\w+)'\", inspect.getsource(s)),"
        "}))"
    )
    return {section: set(names) for section, names in json.loads(place.python_says(code)).items()}
