"""Run as another user: what somebody without rights can send to papad. Arguments: what, the bus's address, numbers.

Says a line once it has sent everything, and ends when its standard input does.
"""

import asyncio
import random
import struct
import sys

from papa_dbus.bus import Bus, Message, MessageFlag
from papa_dbus.bus import header as bus_header
from papa_dbus.names import BUS_NAME, OBJECT_PATH

_QUIETLY = MessageFlag.NO_REPLY_EXPECTED
_PERSON = MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION


def _call(member: str, **fields: object) -> Message:
    given = {"path": OBJECT_PATH, "interface": BUS_NAME, "flags": _QUIETLY, **fields}
    return Message(destination=BUS_NAME, member=member, **given)


async def _connected(address: str) -> Bus:
    bus = Bus(address)
    await bus.start()
    return bus


async def _sent(bus: Bus) -> None:
    """Wait until the bus has read all of it."""
    await bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId")


async def wait_for_persons(address: str, connections: int, calls: int) -> None:
    """Send calls that wait for a person's password."""
    for _ in range(connections):
        bus = await _connected(address)
        for _ in range(calls):
            bus.send(_call("ListValues", signature="as", body=[[]], flags=_QUIETLY | _PERSON))
        await _sent(bus)
        _KEPT.append(bus)


async def new_signatures(address: str, calls: int, signatures: int) -> None:
    """Send calls whose variants have so many different signatures together."""
    bus = await _connected(address)
    source = random.Random(5)  # noqa: S311 (the same each time)
    made_up = [f"a({''.join(source.choices('ybnqiuxtdsogv', k=250))})" for _ in range(signatures)]
    header = _call("X", signature="av", body=[[]])
    serial = 1_000_000
    for number in range(calls):
        body = bytearray(4)
        for place in range(60):
            signature = made_up[(number * 60 + place) % signatures].encode()
            body += b"%c%b\0" % (len(signature), signature)
            body += bytes(-len(body) & 3) + bytes(4)
            body += bytes(-len(body) & 7)
        struct.pack_into("<I", body, 0, len(body) - 4)
        serial += 1
        data = bus_header.header(1, _QUIETLY.value, len(body), serial, header) + body
        await asyncio.get_running_loop().sock_sendall(bus._connection.socket, data)  # type: ignore[union-attr]
    await _sent(bus)
    _KEPT.append(bus)


async def nonsense(address: str, calls: int, leavers: int) -> None:
    """Send calls that papad cannot understand, and calls of connections that leave at once."""
    bus = await _connected(address)
    for number in range(calls):
        bus.send(_call("X", path="/" + "a" * 66_000))
        if number % 10 == 0:
            await _sent(bus)
    for _ in range(leavers):
        leaver = await _connected(address)
        for _ in range(20):
            leaver.send(_call("X", path="/o"))
        await leaver.close()
    await _sent(bus)
    _KEPT.append(bus)


_KEPT: list[Bus] = []


async def _main() -> None:
    what, address, *numbers = sys.argv[1:]
    await globals()[what](address, *map(int, numbers))
    sys.stdout.write("sent\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


asyncio.run(_main())
