"""The objects of sockets and processes: their methods, and their properties, of which there is one for every key."""

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Variant
from papa_dbus.errors import InvalidArgs, NotFound, PapaError
from papa_dbus.names import BUS_NAME
from papa_dbus.schema import PROCESS_KEYS, SOCKET_KEYS, Key
from papa_dbus.service.dbus.objects import PROCESS_INTERFACE, SOCKET_INTERFACE, child_path
from tests.bus.client import Client
from tests.bus.scripted_child import ScriptedChild

PROPERTIES = "org.freedesktop.DBus.Properties"
#: What a property says if nothing is to be said, by type.
NOTHING: Mapping[str, Any] = {"s": "", "b": False, **dict.fromkeys("uqti", 0)}


async def of_process(client: Client, name: str, member: str, signature: str = "", *body: Any) -> Any:
    """Call a method of a process's object."""
    path = child_path("process", name)
    return await client.call(member, signature, *body, interface=PROCESS_INTERFACE, path=path)


async def of_socket(client: Client, name: str, member: str) -> Any:
    """Call a method of a socket's object."""
    return await client.call(member, interface=SOCKET_INTERFACE, path=child_path("socket", name))


async def properties(client: Client, kind: str, name: str) -> dict[str, Any]:
    """Read an object's properties."""
    found: dict[str, Any] = await client.call("GetAll", "s", "", interface=PROPERTIES, path=child_path(kind, name))
    return found


# ------------------------------------------------------------------------ methods


async def test_a_process_is_watched_by_its_object(client: Client, tmp_path: Path) -> None:
    child = ScriptedChild(tmp_path, "web.0", code=7)
    await client.make_process("web.0", *child.command)
    await client.make_process("web.00", "echo", "another")
    child.say("hello")
    number = await of_process(client, "web.0", "Watch", "a{sv}", {"window": Variant("t", 4096)})
    await client.until_output(b"hello\n")
    child.end()
    [exited] = await client.until("Exited")
    assert (exited[:2], exited[4]) == ([number, "web.0"], 7)
    assert client.output() == b"hello\n"
    await client.call("Acknowledge", "ta{st}", number, {"web.0": exited[2]})
    assert set(await client.call("ListProcesses", "as", [])) == {"web.00"}


async def test_observing_by_an_object_takes_nothing(client: Client) -> None:
    await client.make_process("p", "echo", "hello")
    await of_process(client, "p", "Watch", "a{sv}", {"mode": Variant("s", "observe")})
    await client.until("Exited")
    assert client.output() == b"hello\n"
    assert (await client.listed("p"))["buffered"] == 6


async def test_a_pidfd_of_an_object(client: Client) -> None:
    await client.make_process("p", "sleep", "1000")
    fd = await of_process(client, "p", "OpenPidfd")
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)
    await client.until_ended("p")
    with pytest.raises(NotFound, match="process 'p' has ended"):
        await of_process(client, "p", "OpenPidfd")


async def test_a_process_is_removed_by_its_object(client: Client) -> None:
    made = await client.make_process("p", "sh", "-c", "echo hello; exec sleep 1000")
    await client.until_buffered("p", 6)
    assert await of_process(client, "p", "Remove") is None
    assert (await client.listed("p"))["buffered"] == 0
    os.kill(made["pid"], signal.SIGKILL)


async def test_a_name_that_is_anothers_pid_is_a_name(client: Client) -> None:
    running = await client.make_process("p", "sleep", "1000")
    name = str(running["pid"])
    await client.make_process(name, "echo", "hello")
    await client.until_buffered(name, 6)
    await of_process(client, name, "Watch", "a{sv}", {})
    await client.until("Exited")
    await of_process(client, name, "Remove")
    assert set(await client.call("ListProcesses", "as", [])) == {"p"}


async def test_a_socket_is_opened_and_removed_by_its_object(client: Client, tmp_path: Path) -> None:
    made = await client.call("MakeSocket", "sa{sv}", "web", {})
    await client.call("MakeSocket", "sa{sv}", "u", {"path": Variant("s", str(tmp_path / "u"))})
    with socket.socket(fileno=await of_socket(client, "web", "Open")) as sock:
        assert sock.getsockname()[1] == made["port"]
    assert (tmp_path / "u").exists()
    for name in ("web", "u"):
        assert await of_socket(client, name, "Remove") is None
    assert not (tmp_path / "u").exists()
    assert await client.call("ListSockets", "as", []) == {}


async def test_faults_of_objects_methods(client: Client) -> None:
    await client.make_process("p", "sleep", "1000")
    with pytest.raises(InvalidArgs, match="Watch takes 'a{sv}', not 'asa{sv}'"):
        await of_process(client, "p", "Watch", "asa{sv}", [], {})
    with pytest.raises(InvalidArgs, match="option 'nosuch'"):
        await of_process(client, "p", "Watch", "a{sv}", {"nosuch": Variant("b", True)})
    with pytest.raises(PapaError, match="there is no object"):
        await of_process(client, "q", "Remove")
    with pytest.raises(PapaError, match="has no interface"):
        await client.call("Open", interface=SOCKET_INTERFACE, path=child_path("process", "p"))


# --------------------------------------------------------------------- properties


def shown(listed: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Say what an object shows of what a list has."""
    return {
        key.property: listed.get(name, NOTHING.get(key.signature) if key.absent is None else key.absent)
        for name, key in keys.items()
        if key.property
    }


async def test_every_key_of_a_process_is_a_property(client: Client) -> None:
    options = {
        "stdout": Variant("s", "null"), "stderr": Variant("s", "stdout"), "overflow": Variant("s", "block"),
        "bufsize": Variant("t", 4096),
    }  # fmt: skip
    await client.make_process("told", "sh", "-c", "exit 3", **options)
    await client.make_process("plain", "sh", "-c", "echo hello; exec sleep 1000")
    await client.until_ended("told")
    await client.until_buffered("plain", 6)
    listed = await client.call("ListProcesses", "as", [])
    assert {"stdout", "stderr", "overflow", "exit_timestamp"} <= set(listed["told"])
    assert not {"stdout", "stderr", "overflow", "exit_timestamp"} & set(listed["plain"])
    for name in ("told", "plain"):
        assert await properties(client, "process", name) == shown(listed[name], PROCESS_KEYS)
    of = await properties(client, "process", "told")
    assert (of["Stdout"], of["Stderr"], of["Overflow"], of["BufferSize"]) == ("null", "stdout", "block", 4096)
    assert of["ExitTimestamp"] >= of["Started"]
    of = await properties(client, "process", "plain")
    assert (of["Stdout"], of["Stderr"], of["Overflow"], of["ExitTimestamp"]) == ("pipe", "pipe", "drop", 0)
    assert of["WrittenBytes"] == 6


async def test_every_key_of_a_socket_is_a_property(client: Client, tmp_path: Path) -> None:
    await client.call("MakeSocket", "sa{sv}", "web", {})
    options = {"path": Variant("s", str(tmp_path / "u")), "umask": Variant("u", 0o27)}
    await client.call("MakeSocket", "sa{sv}", "u", options)
    for name, made in (await client.call("ListSockets", "as", [])).items():
        assert await properties(client, "socket", name) == shown(made, SOCKET_KEYS) | {"Passed": False}
    assert (await properties(client, "socket", "u"))["UMask"] == 0o27


async def test_the_time_of_the_end_is_told(client: Client, other: Client) -> None:
    await other.bus.add_match(sender=BUS_NAME, interface=PROPERTIES, member="PropertiesChanged")
    await client.make_process("p", "true")
    await client.watch("p")
    [exited] = await client.until("Exited")
    [changed] = await other.wait(lambda: [b for b in other.of("PropertiesChanged") if "State" in b[1]], "State")
    assert changed[1]["ExitTimestamp"].value == exited[3]
    assert (await client.listed("p"))["exit_timestamp"] == exited[3]
