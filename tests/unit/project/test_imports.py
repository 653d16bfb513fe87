"""The direction of the imports: downwards only, and one door for each dependency."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "papa_dbus"
DOMAIN = {
    "kernel",
    "sockets",
    "values",
    "processes",
    "spawn",
    "forks",
    "launcher",
    "errands",
    "exits",
    "paths",
    "lookups",
    "child",
    "output",
    "logfiles",
    "recovery",
    "registry",
    "steps",
    "tokens",
    "store",
    "watches",
    "specs",
    "options",
    "limits",
    "rlimits",
    "audit",
    "shares",
    "journal",
    "journal_feed",
}
ACCESS = {"access", "peers", "users"}  # asked by both doors
BUS_DOOR = {"dbus", "objects", "wire", "subscriptions", "announce", "admission", "turns", "queues", "polkit"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def line_door() -> set[str]:
    return {
        file.stem
        for file in (PACKAGE / "service").glob("*.py")
        if file.stem.startswith(("line", "telnet")) or file.stem == "help"
    }


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_one_door_for_each_dependency(file: Path) -> None:
    roots = {name.split(".")[0] for name in imports(file)}
    assert "dbus_next" not in roots or re.fullmatch(r"papa_dbus\.bus(_\w+)?", name_of(file))
    assert "systemd" not in roots or name_of(file) == "papa_dbus.service.systemd"
    assert not roots & {"click", "rich"} or name_of(file).startswith("papa_dbus.client.cli")


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_service_and_client_do_not_know_each_other(file: Path) -> None:
    other = {"service": "client", "client": "service"}.get(name_of(file).split(".")[1] if "." in name_of(file) else "")
    assert not any(name.startswith(f"papa_dbus.{other}") for name in imports(file))


@pytest.mark.parametrize("module", sorted(DOMAIN))
def test_the_domain_knows_no_door(module: str) -> None:
    above = BUS_DOOR | line_door() | ACCESS | {"systemd", "journald", "ownbus", "__main__"}
    for name in imports(PACKAGE / "service" / f"{module}.py"):
        assert not name.startswith("papa_dbus.bus"), name
        assert name.removeprefix("papa_dbus.service.").split(".")[0] not in above, name
        assert name not in ("asyncio.streams", "asyncio.StreamReader", "asyncio.StreamWriter"), name


def test_the_front_doors_do_not_know_each_other() -> None:
    for module in BUS_DOOR:
        for name in imports(PACKAGE / "service" / f"{module}.py"):
            assert name.removeprefix("papa_dbus.service.").split(".")[0] not in line_door(), name
    for module in line_door():
        for name in imports(PACKAGE / "service" / f"{module}.py"):
            assert name.removeprefix("papa_dbus.service.").split(".")[0] not in BUS_DOOR, name


@pytest.mark.parametrize("module", sorted(ACCESS))
def test_access_knows_neither_door_nor_kernel(module: str) -> None:
    known = ACCESS | {"audit", "grouplist", "log_budget", "lookups"}
    for name in imports(PACKAGE / "service" / f"{module}.py"):
        if name.startswith("papa_dbus.service."):
            assert name.split(".")[2] in known, name


def test_what_both_sides_stand_on_imports_nothing_of_ours() -> None:
    for module in ("names", "errors", "forms", "framing", "peer_owner", "schema", "text"):
        ours = {name for name in imports(PACKAGE / f"{module}.py") if name.startswith("papa_dbus")}
        assert not ours or (module == "schema" and all(name.startswith("papa_dbus.forms") for name in ours))


def test_imports_form_no_circle() -> None:
    """Type-checking imports aside, which exist for annotations only."""
    graph = {name_of(file): set(runtime_imports(file)) for file in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name in graph and name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def runtime_imports(file: Path) -> Iterator[str]:
    known = {name_of(module) for module in MODULES}
    tree = ast.parse(file.read_text())
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            targets = {f"{node.module}.{alias.name}" for alias in node.names} & known
            yield from targets or ({node.module} & known)
