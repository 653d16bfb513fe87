"""The bus says that it could not deliver a signal: nobody else can, and end the watch of another."""

from papa_dbus.bus import Message, MessageType
from papa_dbus.bus.bus import DRIVER
from papa_dbus.names import BUS_NAME
from tests.bus.client import Client


async def test_an_error_of_another_client_ends_no_watch(client: Client, other: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo one; exec sleep 600")
    await client.watch("p")
    await client.until_output(b"one")
    owner = (await other.bus.call(*DRIVER, "GetNameOwner", "s", [BUS_NAME])).body[0]
    for serial in range(1, 200):
        error = Message(
            message_type=MessageType.ERROR,
            destination=owner,
            reply_serial=serial,
            error_name="org.freedesktop.DBus.Error.LimitsExceeded",
        )
        other.bus.send(error)
    await other.call("ListValues", "as", [])  # papad has read them
    await client.call("ListValues", "as", [])
    assert not client.of("WatchEnded")
    await client.call("RemoveProcesses", "as", ["p"])
