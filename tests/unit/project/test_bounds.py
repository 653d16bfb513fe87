"""docs/bounds.md says what the code does: each number, and no bound left out."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
FILES = {file.relative_to(PROJECT) for file in (PROJECT / "papa_dbus").rglob("*.py")}
ROWS = re.findall(r"^\| .+? \| ([\d,.]+) \| `([\w.]+)` \|", (PROJECT / "docs/bounds.md").read_text(), re.MULTILINE)
#: Where a row's module is looked for: it stands there without the one of these that it begins with.
PACKAGES = ("papa_dbus.service", "papa_dbus.client", "papa_dbus")
#: A constant is taken for a bound if it is called like one, or is in limits.py.
A_BOUND = re.compile(r"(^|_)(MAX|MOST|TIMEOUT|PATIENCE|KEPT|LINGER|WATER|BACKLOG)(_|$)|^_LOOKS_SECONDS$")
#: Those that look like one and have no row, and why.
NO_ROW = {
    # It follows from another one, or says how work is cut into pieces: nothing is refused or lost beyond it.
    "bus.writer.LOW_WATER": "where reading begins again that HIGH_WATER has ended",
    "dbus.in_flight.KEPT_COST": "what one record counts in MAX_FLIGHT",
    "process.pipe_poller.MAX_COALESCE_DELAY": "a delay, after which all is read",
    "process.pipe_poller.MAX_PER_ITERATION": "pipes that are read at a turn; the others have the next one",
    "output.records.MAX_BATCH": "records that are read in one piece",
    "line.replies._MAX_ERROR": "the text of an error, which is papad's own, is cut",
    "output.watches.MAX_EVENTS": "events that are taken at a time",
    "systemd.manager._JOB_TIMEOUT": "papad tells systemd of a reload then, whether its job is done or not",
    "systemd.cgroups._MOST_PAGES": "bytes to which Linux may round a limit of memory",
    # It is Linux's, systemd's or the D-Bus Specification's own.
    "bus.connection._MAX_SERIAL": "of the D-Bus Specification: the next one is 1 again",
    "bus.reader._MAX_MESSAGE": "of the D-Bus Specification: the bus passes none that is larger",
    "group_list._MAX_GROUPS": "NGROUPS_MAX",
    "systemd.fd_bundle._MOST": "SCM_MAX_FD",
    "systemd.scopes._MAX_UNIT_NAME": "UNIT_NAME_MAX: a scope's name is shortened",
    "systemd.fd_store._MAX_NAMES": "of the environment (execve(2)): in the text below the first table",
    "limits.DEFAULT_BACKLOG": "in the text below the first table",
    "line.bind.BACKLOG": "connections that Linux has wait until papad accepts them",
    # The other end is the bus, Linux or papad itself.
    "bus.transport._MAX_AUTH_LINE": "a line of the bus's, which is believed",
    "peer_owner._TIMEOUT": "Linux answers at once",
    "line.server.STOP_TIMEOUT": "papad's own end: a command that has not ended by then is cancelled",
    # How long, or for how much, a client of this project waits by itself.
    "bus.unixexec.CONNECT_TIMEOUT": "ssh may ask a person for a password",
    "circus.controller.COMMAND_TIMEOUT": "papa-circusd, while another command of circusd's runs",
    "cli.completion._TIMEOUT": "the completion of names in a shell",
    "compat.papa._COMMAND_TIMEOUT": "the drop-in, as CALL_TIMEOUT",
    "progress._KEPT": "what a client remembers of what it has read, as MAX_RECORDS",
}


@pytest.mark.parametrize(("number", "constant"), ROWS, ids=[constant for _, constant in ROWS])
def test_each_number_is_the_codes(number: str, constant: str) -> None:
    module, _, name = constant.rpartition(".")
    assert getattr(importlib.import_module(full_name(module)), name) == float(number.replace(",", ""))


def full_name(module: str) -> str:
    """Find a module of a row."""
    [found] = [file for package in PACKAGES if (file := Path(f"{package}.{module}".replace(".", "/") + ".py")) in FILES]
    return ".".join(found.with_suffix("").parts)


def constants() -> Iterator[str]:
    """Find the constants that look like a bound, by module and name."""
    for file in (PROJECT / "papa_dbus").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(each, ast.Name) and (A_BOUND.search(each.id) or _is_limit(file, each.id)):
                        yield f"{short_name(file)}.{each.id}"


def short_name(file: Path) -> str:
    """Return a module's name without the package that it is looked for in."""
    name = ".".join(file.relative_to(PROJECT).with_suffix("").parts)
    [package, *_] = [package for package in PACKAGES if name.startswith(f"{package}.")]
    return name.removeprefix(f"{package}.")


def _is_limit(file: Path, name: str) -> bool:
    return file.name == "limits.py" and name.isupper()


def test_every_bound_is_told() -> None:
    told = {constant for _, constant in ROWS}
    assert {constant for constant in constants() if constant not in told} == set(NO_ROW)
