"""org.freedesktop.LogControl1: how much papad logs is read and set while it runs."""

import subprocess

import pytest

from papa_dbus.bus import Variant
from papa_dbus.errors import InvalidArgs, PapaError
from papa_dbus.service.dbus.log_control import INTERFACE, PATH
from tests.bus.client import Client
from tests.bus.daemon import Papad
from tests.support import PATIENCE

PROPERTIES = "org.freedesktop.DBus.Properties"


async def get(client: Client, name: str) -> str:
    """Read a property."""
    return str(await client.call("Get", "ss", INTERFACE, name, interface=PROPERTIES, path=PATH))


async def put(client: Client, name: str, value: Variant) -> None:
    """Set a property."""
    await client.call("Set", "ssv", INTERFACE, name, value, interface=PROPERTIES, path=PATH)


async def test_what_is_logged_is_read(client: Client) -> None:
    assert await client.call("GetAll", "s", INTERFACE, interface=PROPERTIES, path=PATH) == {
        "LogLevel": "info", "LogTarget": "console", "SyslogIdentifier": "papad",
    }  # fmt: skip


@pytest.mark.parametrize("level", ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"])
async def test_each_level_can_be_set(client: Client, level: str) -> None:
    await put(client, "LogLevel", Variant("s", level))
    assert await get(client, "LogLevel") == level


async def test_little_is_logged_but_always_who_did_what(papad: Papad, client: Client) -> None:
    await client.make_process("before", "true")
    await client.until_ended("before")
    await put(client, "LogLevel", Variant("s", "err"))
    await client.make_process("after", "true")
    await client.until_ended("after")
    log = papad.log.read_text()
    assert "process 'before' (PID" in log
    assert "process 'after' (PID" not in log  # how it ended
    assert "process 'after' made by uid" in log
    assert ": err\n" in log.partition("papad's log level changed by uid")[2]


async def test_what_is_not_a_level(client: Client) -> None:
    for value in (Variant("s", "loud"), Variant("u", 7), Variant("as", [])):
        with pytest.raises(InvalidArgs, match="property 'LogLevel': .* is none of emerg, alert"):
            await put(client, "LogLevel", value)
    for name in ("LogTarget", "SyslogIdentifier"):
        with pytest.raises(PapaError, match=f"property '{name}' can only be read"):
            await put(client, name, Variant("s", "kmsg"))
    assert await get(client, "LogLevel") == "info"


async def test_it_is_where_others_look_for_it(papad: Papad, client: Client) -> None:
    command = ["busctl", f"--address={papad.address}", "tree", "--list", "org.papa.Kernel"]
    tree = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.splitlines()
    assert PATH in tree
    assert "/org/papa/Kernel" in tree
    assert await client.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager") == {}
    with pytest.raises(PapaError, match="has no interface"):
        await client.call("Get", "ss", "org.papa.Kernel", "Version", interface=PROPERTIES, path=PATH)
