"""The schema says what the contract says."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from papa_dbus import schema
from papa_dbus.client import aio
from papa_dbus.client.compat.line_words import option_words
from papa_dbus.service.dbus.objects import PROCESS_INTERFACE, SOCKET_INTERFACE, read_contract
from papa_dbus.service.items.specs import ProcessSpec
from papa_dbus.service.line.commands import MakeProcess, parse
from tests.support import PATIENCE

PACKAGE = Path(__file__).parents[2] / "papa_dbus"
CONTRACT = (PACKAGE / "org.papa.Kernel.xml").read_text()
#: A name and its type, as the contract's comments have them.
TYPED = re.compile(r"\b([a-z_]+) (v\(s\|u\)|a\{s[st]\}|as|[sbuqtivo])(?=[ ,.:;]|$)", re.MULTILINE)


def told_of(method: str, what: str) -> dict[str, str]:
    """Return the options or result keys that the contract's comment before a method names, with their types."""
    comment = CONTRACT.partition(f'<method name="{method}">')[0].rpartition("<!--")[2]
    told = re.split(r"\b(options|result keys): |Asking again|-->", comment)
    return {name: kind.replace("(s|u)", "") for name, kind in TYPED.findall(told[told.index(what) + 1])}


@pytest.mark.parametrize(
    ("method", "table"),
    [
        ("MakeSocket", schema.SOCKET_OPTIONS),
        ("MakeProcess", schema.PROCESS_OPTIONS),
        ("Watch", schema.WATCH_OPTIONS),
    ],
)
def test_the_options_are_the_contracts(method: str, table: Mapping[str, schema.Option]) -> None:
    assert {name: option.signature for name, option in table.items()} == told_of(method, "options")


@pytest.mark.parametrize(
    ("method", "table"), [("MakeSocket", schema.SOCKET_KEYS), ("MakeProcess", schema.PROCESS_KEYS)]
)
def test_the_keys_of_results_are_the_contracts(method: str, table: Mapping[str, schema.Key]) -> None:
    assert {name: key.signature for name, key in table.items()} == told_of(method, "result keys")


@pytest.mark.parametrize(
    ("interface", "table", "derived"),
    [(SOCKET_INTERFACE, schema.SOCKET_KEYS, {"Passed": "b"}), (PROCESS_INTERFACE, schema.PROCESS_KEYS, {})],
)
def test_the_properties_are_the_contracts(
    interface: str, table: Mapping[str, schema.Key], derived: dict[str, str]
) -> None:
    """``derived``: that a unit has passed a socket is seen by its unit alone."""
    properties = {key.property: key.signature for name, key in table.items() if name != "object_path"}
    assert properties | derived == read_contract()[interface].properties


@pytest.mark.parametrize("option", [*schema.SOCKET_OPTIONS.values(), *schema.PROCESS_OPTIONS.values()], ids=str)
def test_text_is_read_as_it_is_written(option: schema.Option) -> None:
    samples = {"s": "x", "a{ss}": "x", "b": True, "v": "x", "a{st}": 5, "as": ("x", "y")}
    for value in (*option.choices, samples.get(option.signature, 7)):
        assert option.form.read(option.form.write(value)) == value


def test_a_line_has_options_as_papad_reads_them() -> None:
    given = {"env": {"A": "b c"}, "umask": 0o7, "stdout": "null", "sockets": ["x", "y"], "journal": True}
    line = " ".join(["make process p", *option_words(given), "true"])
    command = parse(line.encode())
    assert isinstance(command, MakeProcess)
    assert command.spec == ProcessSpec("p", ("true",), **given | {"sockets": ("x", "y")})  # type: ignore[arg-type]


def test_the_clients_arguments_are_the_options() -> None:
    for method, request, table in (
        (aio.Kernel.make_socket, schema.SocketRequest, schema.SOCKET_OPTIONS),
        (aio.Kernel.make_process, schema.ProcessRequest, schema.PROCESS_OPTIONS),
    ):
        arguments = inspect.signature(method).parameters
        assert list(arguments) == ["self", *(field.name for field in fields(request))]
        assert {each.name for each in arguments.values() if each.kind is each.KEYWORD_ONLY} == set(table) - {"token"}
        assert all(f"``{name}``" in (method.__doc__ or "") for name in set(table) - {"token"})


#: In how many modules beside the schema an option stands that has a name of its own: where papad acts on it (cgroups,
#: systemd, processes, sockets, child), where it has a default or goes with others (specs), and where somebody else has
#: another word for it (Circus; the module papa of 1.0.6; `output` of the line protocol; papactl's --directory).
SPELLED = {
    "memory_max": 2, "cpu_quota": 2, "tasks_max": 2, "overflow": 4, "bufsize": 6, "reuseport": 5, "backlog": 5,
    "working_dir": 10, "rlimits": 13,
}  # fmt: skip


def words_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Attribute(attr=word) | ast.keyword(arg=str(word)) | ast.arg(arg=word) | ast.Name(id=word):
                yield word
            case ast.Constant(value=str(word)):
                yield word


def test_an_option_stands_in_the_schema_and_where_it_acts() -> None:
    words = [set(words_of(file)) for file in PACKAGE.rglob("*.py") if file.stem != "schema"]
    assert {option: sum(option in each for each in words) for option in SPELLED} == SPELLED


OPTION = '    nice: int | None = _option("u", "how much it gives way", most=19)\n'
KEY = '    nice: int | None = field(default=None, metadata=_key("u", "Nice", in_line=True))\n'
SHOWS_IT = """
import inspect
from papa_dbus import schema
from papa_dbus.bus import Variant
from papa_dbus.client import aio
from papa_dbus.client.cli.commands import papactl
from papa_dbus.client.compat.line_words import option_words
from papa_dbus.client.records import Process, variants
from papa_dbus.errors import InvalidArgs
from papa_dbus.service.dbus import conversion
from papa_dbus.service.items import rows as items_rows
from papa_dbus.service.line.help import help_text
from papa_dbus.service.line.commands import parse
from papa_dbus.service.line.replies import process_line
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.specs import ProcessSpec

spec = ProcessSpec("p", ("true",), nice=7)
assert parse(b"make process p nice=7 true").spec == spec
assert conversion.options(schema.PROCESS_OPTIONS, {"nice": Variant("u", 7)}) == {"nice": 7}
assert items_rows.load(ProcessSpec, items_rows.dump_fields(spec)) == spec
try:
    ProcessSpec("p", ("true",), nice=20)
except InvalidArgs as error:
    assert str(error) == "option 'nice': 20 is out of range (0 to 19)", error
assert "  nice         how much it gives way\\n" in help_text(["make", "process"])

info = ProcessInfo(
    name="p", pid=1, running=True, started=0, args=("true",), uid=0, gid=0, working_dir="/", bufsize=0, buffered=0,
    dropped=0, last_seq=0, **spec.shown,
)
assert conversion.process_result(info)["nice"] == Variant("u", 7)
assert conversion.process_properties(info)["Nice"] == 7
assert " nice=7 " in process_line(info)
assert Process.of(conversion.process_result(info)).nice == 7

assert inspect.signature(aio.Kernel.make_process).parameters["nice"].default is None
assert variants(schema.ProcessRequest("p", ["true"], nice=7)) == {"nice": Variant("u", 7)}
assert option_words({"nice": 7}) == ["nice=7"]
assert "--nice" in [word for option in papactl.commands["run"].params for word in option.opts]
"""


def test_a_new_option_is_a_field_of_the_schema(tmp_path: Path) -> None:
    """A copy of the package in which nothing but the schema knows it. It still acts nowhere."""
    assert "nice" not in schema.PROCESS_OPTIONS, "there is one of that name now: choose another"
    shutil.copytree(PACKAGE, tmp_path / "papa_dbus", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "papa_dbus/schema.py"
    text = file.read_text()
    for before, new in (("    journal: bool | None = ", OPTION), ("    journal: bool = ", KEY)):
        text = text.replace(before, new + before)
    file.write_text(text)
    subprocess.run([sys.executable, "-c", SHOWS_IT], check=True, cwd=tmp_path, timeout=3 * PATIENCE)
