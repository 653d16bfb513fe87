"""The schema says what the contract says."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from papa_dbus import schema
from papa_dbus.client import aio
from papa_dbus.client.papa_line import _options
from papa_dbus.service.linecommands import MakeProcess, parse
from papa_dbus.service.objects import PROCESS_INTERFACE, SOCKET_INTERFACE, read_contract
from papa_dbus.service.specs import ProcessSpec

PACKAGE = Path(__file__).parents[2] / "papa_dbus"
CONTRACT = (PACKAGE / "org.papa.Kernel.xml").read_text()
#: A name and its type, as the contract's comments have them.
TYPED = re.compile(r"\b([a-z_]+) (v\(s\|u\)|a\{s[st]\}|as|[sbuqtiv])(?=[ ,.:;]|$)", re.MULTILINE)


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
    properties = {key.property: key.signature for key in table.values() if key.property}
    assert properties | derived == read_contract()[interface].properties


@pytest.mark.parametrize("option", [*schema.SOCKET_OPTIONS.values(), *schema.PROCESS_OPTIONS.values()], ids=str)
def test_text_is_read_as_it_is_written(option: schema.Option) -> None:
    samples = {"s": "x", "a{ss}": "x", "b": True, "v": "x", "a{st}": 5, "as": ("x", "y")}
    for value in (*option.choices, samples.get(option.signature, 7)):
        assert option.form.read(option.form.write(value)) == value


def test_a_line_has_options_as_papad_reads_them() -> None:
    given = {"env": {"A": "b c"}, "umask": 0o7, "stdout": "null", "sockets": ["x", "y"], "journal": True}
    line = " ".join(["make process p", *_options(given), "true"])
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
