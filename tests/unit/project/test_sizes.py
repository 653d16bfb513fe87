"""Modules and functions are small enough to be read at once."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "papa_dbus"
MAX_MODULE, MAX_FUNCTION = 300, 40
#: Modules that may have more lines, and why.
LARGER: dict[str, str] = {}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from ``def`` to its end, without its docstring: a command's is its help."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or 0) - docstring.lineno + 1)


def test_no_module_is_long() -> None:
    lengths = {str(file.relative_to(PACKAGE)): file.read_text().count("\n") for file in PACKAGE.rglob("*.py")}
    assert {name for name, lines in lengths.items() if lines > MAX_MODULE} == set(LARGER)


def test_no_function_is_long() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert lines_of(node) <= MAX_FUNCTION, f"{file.relative_to(PACKAGE)}: {node.name}"
