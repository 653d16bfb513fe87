"""The direction of the imports: an import goes to a smaller number of LAYERS, and one place has each dependency."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "papa_dbus"
ARCHITECTURE = PACKAGE.parent / "docs/architecture.md"
#: Packages, and modules that stand beside them. What has the same number knows nothing of each other.
LAYERS = {
    # both sides
    "": 0,  # papa_dbus itself: the version
    "errors": 0,
    "names": 0,
    "peer_owner": 0,
    "text": 0,
    "forms": 0,
    "state_table": 0,
    "bus": 1,
    "schema": 1,
    "output_frames": 1,
    # papad
    "service": 0,
    "service.caller": 1,
    "service.clock": 1,
    "service.background": 1,
    "service.limits": 2,
    "service.rlimits": 2,
    "service.remedies": 2,
    "service.audit": 2,
    "service.log_budget": 2,
    "service.crash_points": 2,
    "service.private_bus": 2,
    "service.group_list": 2,
    "service.lookups": 2,
    "service.pacing": 2,
    "service.shares": 2,
    "service.steps": 2,
    "service.fork": 3,
    "service.access": 3,
    "service.items": 4,
    "service.systemd": 4,
    "service.output": 5,
    "service.process": 6,
    "service.journal": 6,
    "service.kernel": 7,
    "service.dbus": 8,
    "service.line": 8,
    "service.app": 9,
    "service.__main__": 10,
    # the clients
    "client": 0,
    "client.records": 2,
    "client.line_assembler": 2,
    "client.discovery": 2,
    "client.stirring": 1,
    "client.output_socket": 3,
    "client.open_watches": 4,
    "client.link": 5,
    "client.acknowledger": 6,
    "client.progress": 3,
    "client.subscription": 7,
    "client.watch": 8,
    "client.aio": 9,
    "client.compat": 10,
    "client.circus": 11,
    "client.cli": 11,
}
#: Who alone may import what.
ONLY = {
    "dbus_next": ["bus"],
    "systemd": ["service.systemd"],
    "click": ["client.cli"],
    "rich": ["client.cli"],
}
#: What of papad knows that there is a bus: the domain does not.
KNOWS_THE_BUS = {
    *("service.access", "service.systemd", "service.dbus", "service.private_bus"),
    *("service.app", "service.__main__"),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    """Return a module's name without "papa_dbus"."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(file) for file in MODULES}


def imports(file: Path) -> Iterator[str]:
    """Yield what a module imports, with the names that it takes from there."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(file: Path) -> Iterator[str]:
    """Yield the modules of this project that a module imports."""
    for name in imports(file):
        root, _, rest = name.partition(".")
        if root == "papa_dbus":
            yield rest if rest in NAMES else rest.rpartition(".")[0]


def part(name: str) -> str:
    """Return the key of LAYERS for a module."""
    while name not in LAYERS:
        name, dot, _ = name.rpartition(".")
        assert dot, "no package of LAYERS"
    return name


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_each_import_goes_down(file: Path) -> None:
    importer = part(name_of(file))
    for name in ours(file):
        target = part(name)
        assert target == importer or LAYERS[target] < LAYERS[importer], f"{importer} imports {name}"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_each_module_is_in_a_layer(file: Path) -> None:
    """Fail if a module has no line of its own in LAYERS and stands in no package that has one."""
    name = name_of(file)
    assert part(name) not in ("service", "client", "") or name in LAYERS


def test_the_table_is_in_the_architecture() -> None:
    told: dict[str, int] = {}
    for number, *columns in re.findall(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", ARCHITECTURE.read_text(), re.MULTILINE):
        for package, column in zip(("", "service.", "client."), columns, strict=True):
            told |= {package + name: int(number) for name in re.findall(r"`(\w+)`", column)}
    assert told == {name: number for name, number in LAYERS.items() if name not in ("", "service", "client")}


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_one_place_for_each_dependency(file: Path) -> None:
    roots = {name.split(".")[0] for name in imports(file)}
    for root in roots & set(ONLY):
        assert part(name_of(file)) in ONLY[root], root


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_service_and_client_do_not_know_each_other(file: Path) -> None:
    other = {"service": "client", "client": "service"}.get(name_of(file).split(".")[0], "none")
    assert not [name for name in ours(file) if name.split(".")[0] == other]


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_the_domain_knows_no_bus(file: Path) -> None:
    importer = part(name_of(file))
    if importer.startswith("service") and importer not in KNOWS_THE_BUS:
        assert not [name for name in ours(file) if part(name) == "bus"]


def test_a_package_of_papads_imports_nothing_by_itself() -> None:
    """The fork server pays for each import."""
    for file in (PACKAGE / "service").rglob("__init__.py"):
        assert not list(imports(file)), file


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
    """Yield the modules of this project that a module imports when it is run."""
    tree = ast.parse(file.read_text())
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("papa_dbus"):
            base = node.module.removeprefix("papa_dbus").removeprefix(".")
            targets = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names} & NAMES
            yield from targets or ({base} & NAMES)
