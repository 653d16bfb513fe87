"""Of dbus-next only what is public is used: its private names change with any release."""

import ast
from collections.abc import Iterator
from pathlib import Path

import dbus_next
import pytest

PROJECT = Path(__file__).parents[3]
MODULES = sorted(file for folder in ("papa_dbus", "tests", "benchmarks") for file in (PROJECT / folder).rglob("*.py"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names() -> set[str]:
    """Find the private names that dbus-next has: functions, classes, attributes."""
    files = Path(dbus_next.__file__).parent.rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = {getattr(node, "attr", None) or getattr(node, "name", None) for node in nodes}
    return {name for name in names if name is not None and is_private(name)}


PRIVATE = private_names()


def touched(source: str) -> set[str]:
    """Find what a module touches of dbus-next's private names.

    On ``self``, and on another module of ours, such a name is our own, but not in a class derived from dbus-next's.
    """
    tree = ast.parse(source)
    imported = dict(imports(tree))
    if not any(name.startswith(("dbus_next", "papa_dbus.bus")) for name in imported.values()):
        return set()
    theirs = {name for name in imported.values() if name.startswith("dbus_next")}
    found = {name for name in theirs if any(map(is_private, name.split(".")))}
    for node in ast.walk(tree):
        found |= {name for name in names_used(node, imported) if name in PRIVATE}
        if isinstance(node, ast.ClassDef) and any(
            origin(base, imported).startswith("dbus_next") for base in node.bases
        ):
            found |= names_within(node) & PRIVATE
    return found


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Find what is imported: the name that it has in the module, and its full one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.split(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def origin(expression: ast.expr, imported: dict[str, str]) -> str:
    """Return the full name of what an expression begins with, if it is imported; else its name, or ''."""
    while isinstance(expression, ast.Attribute):
        expression = expression.value
    return imported.get(expression.id, expression.id) if isinstance(expression, ast.Name) else ""


def names_used(node: ast.AST, imported: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if not itself and not origin(node.value, imported).startswith("papa_dbus.service"):
            yield node.attr
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
        yield from (word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str))


def names_within(definition: ast.ClassDef) -> set[str]:
    """Return the names of a class's functions and of the attributes that they use."""
    nodes = list(ast.walk(definition))
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return functions | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_nothing_private_of_dbus_next_is_used(file: Path) -> None:
    assert touched(file.read_text()) == set()


_DERIVED = "import dbus_next\nclass A(dbus_next.aio.MessageBus):\n    def _finalize(self): self._sock.close()"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from dbus_next._private.address import parse_address", {"dbus_next._private.address.parse_address"}),
        ("from dbus_next.auth import _AuthResponse", {"dbus_next.auth._AuthResponse"}),
        ("from papa_dbus.bus import Message\nMessage('a')._marshall()", {"_marshall"}),
        ("import dbus_next\ngetattr(dbus_next.Message('a'), '_marshall')()", {"_marshall"}),
        (_DERIVED, {"_finalize", "_sock"}),
        (_DERIVED.replace("(dbus_next.aio.MessageBus)", ""), set()),
        ("import socketserver\nsocketserver.thing._sock", set()),
    ],
)
def test_what_is_private_is_found(source: str, names: set[str]) -> None:
    assert touched(source) == names
