"""D-Bus as other programs speak it: busctl, gdbus, GLib, dbus-next, python-sdbus, and bytes of the other order."""

import asyncio
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sdbus
from dbus_next.aio import MessageBus
from dbus_next.errors import DBusError

from papa_dbus import __version__
from papa_dbus.bus import Message, MessageFlag, MessageType, Variant
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from papa_dbus.service.dbus import answers, standard
from papa_dbus.service.dbus.objects import child_path
from tests.bus.client import Client
from tests.bus.daemon import Papad
from tests.dbus_messages import collect
from tests.papactl import Papactl
from tests.support import PATIENCE, until

INTERFACES = Path(__file__).parents[2] / "papa_dbus"
PROPERTIES = "org.freedesktop.DBus.Properties"
PEER = "org.freedesktop.DBus.Peer"
MANAGER = "org.freedesktop.DBus.ObjectManager"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
ERROR = "org.freedesktop.DBus.Error."
WEB = child_path("process", "web")
KERNELS = ["Version", "ApiVersion", "Features", "Started", "SocketCount", "ValueCount", "ProcessCount", "BufferedBytes"]


@pytest.fixture
def web(papactl: Papactl) -> Iterator[str]:
    """A process that runs."""
    papactl("run", "web", "--", "sleep", "1000")
    yield "web"
    papactl("kill", "-9", "web")


def busctl(papad: Papad, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """busctl on the test's bus."""
    command = ["busctl", f"--address={papad.address}", "--timeout=20", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def gdbus(papad: Papad, verb: str, path: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """gdbus on the test's bus."""
    command = ["gdbus", verb, "--address", papad.address, "--dest", BUS_NAME, "--object-path", path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


async def error_of(client: Client, path: str, interface: str | None, member: str, signature: str, *body: Any) -> str:
    """The name of the error that a call is answered with."""
    call = Message(
        destination=BUS_NAME, path=path, interface=interface, member=member, signature=signature, body=list(body)
    )
    assert client.bus._connection is not None
    reply = await asyncio.wait_for(client.bus._connection.ask(call), PATIENCE)
    assert reply is not None
    assert reply.message_type is MessageType.ERROR, reply.body
    return str(reply.error_name)


# --------------------------------------------------------------------- as the specification says


@pytest.mark.parametrize(
    ("path", "member", "body", "name"),
    [
        (OBJECT_PATH, "Get", ["no.such", "Version"], "UnknownInterface"),
        (OBJECT_PATH, "Get", [BUS_NAME, "Nope"], "UnknownProperty"),
        (OBJECT_PATH, "Get", ["", "Nope"], "UnknownProperty"),
        (OBJECT_PATH, "Get", [PEER, "Version"], "UnknownProperty"),
        (OBJECT_PATH, "GetAll", ["no.such"], "UnknownInterface"),
        (OBJECT_PATH, "GetAll", [f"{BUS_NAME}.Process"], "UnknownInterface"),
        (WEB, "GetAll", [BUS_NAME], "UnknownInterface"),
        (OBJECT_PATH, "Set", [BUS_NAME, "Version", Variant("s", "x")], "PropertyReadOnly"),
        (OBJECT_PATH, "Set", ["", "Version", Variant("s", "x")], "PropertyReadOnly"),
        (OBJECT_PATH, "Set", [BUS_NAME, "Nope", Variant("s", "x")], "UnknownProperty"),
        (OBJECT_PATH, "Set", ["no.such", "Version", Variant("s", "x")], "UnknownInterface"),
        (WEB, "Set", [f"{BUS_NAME}.Process", "PID", Variant("u", 1)], "PropertyReadOnly"),
        ("/org/papa", "GetAll", [""], "UnknownInterface"),
        (f"{OBJECT_PATH}/process/nosuch", "GetAll", [""], "UnknownObject"),
        ("/no/such", "Get", [BUS_NAME, "Version"], "UnknownObject"),
    ],
)
async def test_errors_of_properties(
    client: Client, web: str, path: str, member: str, body: list[Any], name: str
) -> None:
    signature = {"Get": "ss", "GetAll": "s", "Set": "ssv"}[member]
    assert await error_of(client, path, PROPERTIES, member, signature, *body) == ERROR + name


async def test_an_empty_interface_name_means_all(client: Client, web: str) -> None:
    for path, some in ((OBJECT_PATH, KERNELS), (WEB, ["Name", "PID", "State"])):
        everything = await client.call("GetAll", "s", "", interface=PROPERTIES, path=path)
        assert set(some) <= set(everything)
    assert await client.call("Get", "ss", "", "Version", interface=PROPERTIES) == __version__
    for interface in (PEER, INTROSPECTABLE, PROPERTIES, MANAGER):  # they are there, and have none
        assert not await client.call("GetAll", "s", interface, interface=PROPERTIES)


@pytest.mark.parametrize("path", ["/", "/org", OBJECT_PATH, WEB, "/no/such/path", f"{OBJECT_PATH}/process/nosuch"])
async def test_a_peer_answers_at_any_path(client: Client, web: str, path: str) -> None:
    assert await client.call("Ping", interface=PEER, path=path) is None
    identity = await client.call("GetMachineId", interface=PEER, path=path)
    assert len(identity) == 32
    assert set(identity) <= set("0123456789abcdef")


def test_a_machine_without_an_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    older = tmp_path / "older"
    monkeypatch.setattr(standard, "_MACHINE_IDS", (str(tmp_path / "none"), str(older)))
    with pytest.raises(answers.Refused, match="no identity"):
        standard._machine_id()
    older.write_text("0123456789abcdef0123456789abcdef\n")
    assert standard._machine_id() == "0123456789abcdef0123456789abcdef"


async def test_paths_without_an_object(client: Client, web: str) -> None:
    for path, below in (
        ("/", "org"), ("/org", "papa"), ("/org/papa", "Kernel"), (OBJECT_PATH, "process"),
        (f"{OBJECT_PATH}/process", "web"), (f"{OBJECT_PATH}/socket", ""), (WEB, ""),
    ):  # fmt: skip
        xml = await client.call("Introspect", interface=INTROSPECTABLE, path=path)
        assert (f'<node name="{below}"/>' in xml) == bool(below)
        assert PEER in xml
    for path in ("/no", "/org/papa/Kernel2", f"{OBJECT_PATH}/value", f"{OBJECT_PATH}/process/nosuch", f"{WEB}/x"):
        assert await error_of(client, path, INTROSPECTABLE, "Introspect", "") == f"{ERROR}UnknownObject"
    for path in ("/", f"{OBJECT_PATH}/process", WEB):  # objects are managed at one path
        assert await error_of(client, path, MANAGER, "GetManagedObjects", "") == f"{ERROR}UnknownInterface"
    managed = await client.call("GetManagedObjects", interface=MANAGER)
    assert list(managed) == [WEB]
    assert list(managed[WEB]) == [f"{BUS_NAME}.Process"]


async def test_calls_without_an_interface(client: Client, web: str) -> None:
    connection = client.bus._connection
    assert connection is not None
    for path, member, signature, body in (
        (OBJECT_PATH, "ListProcesses", "as", [[]]), (OBJECT_PATH, "Ping", "", []), (WEB, "GetAll", "s", [""]),
        ("/", "Introspect", "", []), (OBJECT_PATH, "GetManagedObjects", "", []),
    ):  # fmt: skip
        call = Message(destination=BUS_NAME, path=path, member=member, signature=signature, body=body)
        reply = await asyncio.wait_for(connection.ask(call), PATIENCE)
        assert reply is not None
        assert reply.message_type is MessageType.METHOD_RETURN, reply.body
    assert await error_of(client, OBJECT_PATH, None, "Nope", "") == f"{ERROR}UnknownMethod"
    assert await error_of(client, OBJECT_PATH, BUS_NAME, "Nope", "") == f"{ERROR}UnknownMethod"
    assert await error_of(client, OBJECT_PATH, "no.such", "Ping", "") == f"{ERROR}UnknownInterface"


async def test_no_answer_to_who_wants_none(papad: Papad) -> None:
    await _call_without_wanting_an_answer(papad)
    collect()


async def _call_without_wanting_an_answer(papad: Papad) -> None:
    bus = await MessageBus(bus_address=papad.address).connect()
    heard: list[int] = []

    def hear(message: Message) -> None:
        heard.append(message.reply_serial)

    bus.add_message_handler(hear)
    at = {"destination": BUS_NAME, "path": OBJECT_PATH, "interface": BUS_NAME}
    for member, signature, body in (("SetValue", "ss", ["a", "1"]), ("Nope", "", []), ("SetValue", "s", ["a"])):
        quiet = MessageFlag.NO_REPLY_EXPECTED
        await bus.send(Message(**at, member=member, signature=signature, body=body, flags=quiet))
    last = Message(**at, member="GetValue", signature="s", body=["a"], serial=bus.next_serial())
    reply = await asyncio.wait_for(bus.call(last), PATIENCE)
    assert reply.body == ["1"]  # the calls of one sender stay in their order
    bus.disconnect()
    await bus.wait_for_disconnect()
    assert heard == [last.serial]


def big_endian(kind: int, serial: int, fields: list[tuple[int, str, str]], body: bytes = b"") -> bytes:
    """A message as a machine of the other byte order sends it."""
    array = b""
    for code, type_, text in fields:
        array += bytes(-len(array) % 8) + bytes((code, 1, ord(type_), 0))
        data = text.encode()
        array += (bytes((len(data),)) if type_ == "g" else struct.pack(">I", len(data))) + data + b"\0"
    header = b"B" + bytes((kind, 0, 1)) + struct.pack(">III", len(body), serial, len(array)) + array
    return header + bytes(-len(header) % 8) + body


def test_a_caller_of_the_other_byte_order(papad: Papad, papactl: Papactl) -> None:
    def text(value: str) -> bytes:
        return struct.pack(">I", len(value)) + value.encode() + b"\0"

    path = papad.address.partition("path=")[2].partition(",")[0]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(path)
        uid = str(os.getuid()).encode().hex()
        sock.sendall(f"\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n".encode())
        at = [(1, "o", "/org/freedesktop/DBus"), (6, "s", "org.freedesktop.DBus")]
        sock.sendall(big_endian(1, 1, [*at, (2, "s", "org.freedesktop.DBus"), (3, "s", "Hello")]))
        at = [(1, "o", OBJECT_PATH), (6, "s", BUS_NAME), (2, "s", BUS_NAME)]
        body = text("other") + bytes(-len(text("other")) % 4) + text("order")
        sock.sendall(big_endian(1, 2, [*at, (3, "s", "SetValue"), (8, "g", "ss")], body))
        sock.sendall(big_endian(1, 3, [*at, (3, "s", "GetValue"), (8, "g", "s")], text("other")))
        answer = b""
        while b"order\0" not in answer:
            piece = sock.recv(65536)
            assert piece, answer
            answer += piece
    assert papactl("get", "other").stdout == b"order\n"


# --------------------------------------------------------------------------------- busctl, gdbus


def test_busctl(papad: Papad, web: str) -> None:
    assert f"{WEB}\n" in busctl(papad, "tree", "--list", BUS_NAME).stdout
    shown = busctl(papad, "introspect", BUS_NAME, WEB).stdout
    assert 'property  s         "web"' in shown
    assert "emits-change" in shown
    assert busctl(papad, "get-property", BUS_NAME, OBJECT_PATH, BUS_NAME, "ProcessCount").stdout == "u 1\n"
    refused = busctl(papad, "set-property", BUS_NAME, OBJECT_PATH, BUS_NAME, "Version", "s", "x")
    assert "can only be read" in refused.stderr
    everything = busctl(papad, "call", BUS_NAME, OBJECT_PATH, PROPERTIES, "GetAll", "s", "").stdout
    assert everything.startswith("a{sv} 8 ")
    assert busctl(papad, "call", BUS_NAME, "/no/such", PEER, "Ping").returncode == 0


def test_gdbus(papad: Papad, web: str) -> None:
    assert gdbus(papad, "call", OBJECT_PATH, "--method", f"{PEER}.Ping").stdout == "()\n"
    everything = gdbus(papad, "call", OBJECT_PATH, "--method", f"{PROPERTIES}.GetAll", "").stdout
    assert f"'Version': <'{__version__}'>" in everything
    shown = gdbus(papad, "introspect", "/", "--recurse").stdout
    assert f"node {WEB} {{" in shown
    assert "readonly s State = 'running';" in shown
    for number, user in enumerate(("<'daemon'>", "<<'daemon'>>", "<uint32 1>")):
        made = gdbus(
            papad, "call", OBJECT_PATH, "--method", f"{BUS_NAME}.MakeProcess", f"p{number}", "['sleep', '1000']",
            f"{{'uid': {user}}}",
        )  # fmt: skip
        assert "'uid': <uint32 1>" in made.stdout
        assert f"'object_path': <objectpath '{child_path('process', f'p{number}')}'>" in made.stdout
    made = gdbus(papad, "call", OBJECT_PATH, "--method", f"{BUS_NAME}.SetValue", "a", "x y")
    assert made.stdout == "()\n"
    failed = gdbus(papad, "call", OBJECT_PATH, "--method", f"{BUS_NAME}.GetValue", "nosuch")
    assert "org.papa.Error.NotFound" in failed.stderr


def test_glib_follows_the_objects(papad: Papad, web: str, papactl: Papactl) -> None:
    follower = str(Path(__file__).parent / "object_manager.py")
    program = ["/usr/bin/python3", follower, papad.address, str(int(PATIENCE))]
    glib = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert glib.stdin is not None
    assert glib.stdout is not None
    try:
        assert glib.stdout.readline() == f"added {WEB} {BUS_NAME}.Process running\n"
        assert glib.stdout.readline().startswith("ready :")
        papactl("run", "job", "--", "sh", "-c", "exit 3")
        papactl("socket", "make", "s", "--port", "0")
        papactl("wait", "job", status=3)
        papactl("remove", "job")
        papactl("socket", "remove", "s")
        job, sock = child_path("process", "job"), child_path("socket", "s")
        told = [glib.stdout.readline().rstrip("\n") for _ in range(5)]
        assert [line for line in told if job in line] == [
            f"added {job} {BUS_NAME}.Process running",
            f"changed {job} exited 3",
            f"removed {job}",
        ]
        assert [line for line in told if sock in line] == [f"added {sock} {BUS_NAME}.Socket -", f"removed {sock}"]
    finally:
        glib.stdin.close()
        assert glib.wait(PATIENCE) == 0
        glib.stdout.close()


def test_glib_uses_objects_by_their_interfaces_files(papad: Papad, papactl: Papactl) -> None:
    papactl("socket", "make", "s", "--port", "0")
    papactl("run", "web", "--", "sh", "-c", "echo hello; exec sleep 1000")
    user = str(Path(__file__).parent / "object_methods.py")
    program = ["/usr/bin/python3", user, papad.address, str(INTERFACES), str(int(PATIENCE))]
    glib = subprocess.run(program, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert (glib.returncode, glib.stderr) == (0, "")
    assert sorted(glib.stdout.splitlines()) == sorted(
        [
            "socket ()", "process running drop 0", "output hello", "exited web -15 True",
            f"removed {child_path('socket', 's')}", f"removed {WEB}",
        ]
    )  # fmt: skip


def test_a_c_program_reads_output_by_gdbus(papad: Papad, papactl: Papactl, tmp_path: Path) -> None:
    """It knows nothing but docs/reference/output-socket.md."""
    source, program = Path(__file__).parent / "read_output.c", tmp_path / "read_output"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "gio-unix-2.0"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert flags.returncode == 0, flags.stderr
    built = subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", "-o", program, source, *flags.stdout.split()],
        capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert (built.returncode, built.stderr) == (0, "")
    papactl("run", "job", "--", "sh", "-c", "echo one; echo two >&2; exit 3")
    read = subprocess.run([program, papad.address, "job"], capture_output=True, text=True, timeout=PATIENCE)
    assert (read.returncode, read.stderr) == (0, "")
    assert read.stdout == "stdout 1 one\nstderr 2 two\nexited 3 1\nfinished\n"
    assert b'"processes": []' in papactl("list", "--json").stdout  # all is acknowledged, its end too


def test_tools_without_descriptors_have_watch(papad: Papad, web: str) -> None:
    """busctl shows the descriptor's number, and its end closes the watch; gdbus cannot take one."""
    opened = busctl(papad, "call", BUS_NAME, OBJECT_PATH, BUS_NAME, "OpenOutput", "asa{sv}", "1", "web", "0")
    assert (opened.stderr, opened.stdout[:4]) == ("", "tash")
    gdbus(papad, "call", OBJECT_PATH, "--method", f"{BUS_NAME}.OpenOutput", "['web']", "{}")
    watched = busctl(papad, "call", BUS_NAME, OBJECT_PATH, BUS_NAME, "Watch", "asa{sv}", "1", "web", "0")
    assert watched.stdout.endswith(' 1 "web"\n')


def test_gdbus_codegen_understands_the_interfaces(tmp_path: Path) -> None:
    files = list(INTERFACES.glob("org.papa.Kernel*.xml"))
    assert {file.stem for file in files} == {BUS_NAME, f"{BUS_NAME}.Process", f"{BUS_NAME}.Socket"}
    made = subprocess.run(
        ["gdbus-codegen", "--output-directory", tmp_path, "--interface-prefix", f"{BUS_NAME}.", "--c-namespace", "Papa",
         "--generate-c-code", "papa", "--generate-docbook", "doc", *files],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    header = (tmp_path / "papa.h").read_text()
    for function in (
        "papa_process_call_watch_sync",
        "call_open_output_sync",
        "papa_socket_call_open_sync",
        "make_processes",
    ):
        assert function in header
    assert "Since 1" in (tmp_path / f"doc-{BUS_NAME}.Process.xml").read_text()


# ------------------------------------------------------------------------ libraries of Python's


async def test_dbus_nexts_high_level_client(papad: Papad, web: str, client: Client) -> None:
    await _use_dbus_nexts_high_level_client(papad, client)
    collect()


async def _use_dbus_nexts_high_level_client(papad: Papad, client: Client) -> None:
    bus = await MessageBus(bus_address=papad.address).connect()
    try:
        node = await bus.introspect(BUS_NAME, OBJECT_PATH)
        item = bus.get_proxy_object(BUS_NAME, OBJECT_PATH, node)
        kernel: Any = item.get_interface(BUS_NAME)
        assert await kernel.get_version() == __version__
        await kernel.call_set_value("a", "1")
        assert await kernel.call_list_values([]) == {"a": "1"}
        properties: Any = item.get_interface(PROPERTIES)
        assert set(await properties.call_get_all("")) == set(KERNELS)
        with pytest.raises(DBusError, match="can only be read"):
            await properties.call_set(BUS_NAME, "Version", Variant("s", "x"))
        manager: Any = item.get_interface(MANAGER)
        assert list(await manager.call_get_managed_objects()) == [WEB]
        added: list[str] = []
        manager.on_interfaces_added(lambda path, interfaces: added.append(path))
        # A call on the same connection: the match of the signal is there once it is answered.
        await kernel.call_list_values([])
        await client.make_process("other", "true")
        await until(lambda: added == [child_path("process", "other")], "the new object")
        web_node = await bus.introspect(BUS_NAME, WEB)
        process: Any = bus.get_proxy_object(BUS_NAME, WEB, web_node).get_interface(f"{BUS_NAME}.Process")
        assert await process.get_name() == "web"
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()


class SdKernel(sdbus.DbusObjectManagerInterface, interface_name=BUS_NAME):
    """The kernel as python-sdbus has an object."""

    @sdbus.dbus_method(input_signature="ss", method_name="SetValue")
    def set_value(self, name: str, value: str) -> None:
        raise NotImplementedError

    @sdbus.dbus_method(input_signature="s", result_signature="s", method_name="GetValue")
    def get_value(self, name: str) -> str:
        raise NotImplementedError

    @sdbus.dbus_property(property_signature="s", property_name="Version")
    def version(self) -> str:
        raise NotImplementedError


def test_python_sdbus(papad: Papad, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", papad.address)
    kernel = SdKernel(BUS_NAME, OBJECT_PATH, sdbus.sd_bus_open_user())
    kernel.dbus_ping()
    assert len(kernel.dbus_machine_id()) == 32
    kernel.set_value("a", "1")
    assert kernel.get_value("a") == "1"
    assert kernel.version == __version__
    assert kernel.properties_get_all_dict(on_unknown_member="ignore")["version"] == __version__
    assert list(kernel.get_managed_objects()) == [WEB]
    assert f'<interface name="{BUS_NAME}">' in kernel.dbus_introspect()
    with pytest.raises(sdbus.SdBusBaseError, match="not there"):
        kernel.get_value("nosuch")
