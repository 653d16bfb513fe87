"""Runs inside a container, as one of its users: a client at both front ends of the system's kernel that says what it
was let do.

``calls`` tries each call there is. ``stay`` connects, watches, and tells what it may do at each line of its input.
Prints lines of JSON.
"""

import asyncio
import json
import sys
from typing import Any

from papa_dbus.bus import Bus, Message, Variant, address_of
from papa_dbus.errors import PapaError

NAME, PATH = "org.papa.Kernel", "/org/papa/Kernel"
STANDARD = "org.freedesktop.DBus."
#: Each method: its interface, what it takes, and whether it only reads.
CALLS: dict[str, tuple[str, str, list[Any], bool]] = {
    "MakeSocket": (NAME, "sa{sv}", ["s", {}], False),
    "ListSockets": (NAME, "as", [[]], True),
    "OpenSocket": (NAME, "s", ["s"], False),
    "RemoveSockets": (NAME, "as", [["s"]], False),
    "SetValue": (NAME, "ss", ["v", "a secret"], False),
    "GetValue": (NAME, "s", ["v"], True),
    "ListValues": (NAME, "as", [[]], True),
    "RemoveValues": (NAME, "as", [["v"]], False),
    "MakeProcess": (NAME, "sasa{sv}", ["mine", ["/bin/sleep", "600"], {}], False),
    "ListProcesses": (NAME, "as", [[]], True),
    "OpenProcess": (NAME, "s", ["mine"], False),
    "Watch": (NAME, "asa{sv}", [["p"], {}], False),
    "Watch observe": (NAME, "asa{sv}", [["p"], {"mode": Variant("s", "observe")}], True),
    "Acknowledge": (NAME, "ta{st}", [10**6, {}], True),
    "Unwatch": (NAME, "t", [10**6], True),
    "RemoveProcesses": (NAME, "as", [["mine"]], False),
    "Get": (STANDARD + "Properties", "ss", [NAME, "ProcessCount"], True),
    "GetAll": (STANDARD + "Properties", "s", [NAME], True),
    "Set": (STANDARD + "Properties", "ssv", [NAME, "ProcessCount", Variant("u", 0)], False),
    "GetManagedObjects": (STANDARD + "ObjectManager", "", [], True),
    "Introspect": (STANDARD + "Introspectable", "", [], True),
    "Ping": (STANDARD + "Peer", "", [], True),
    "GetMachineId": (STANDARD + "Peer", "", [], True),
    "ExitIfIdle": (NAME, "", [], False),
}
LINES = [b"make socket l", b"list sockets", b"remove socket l", b"set lv x", b"get lv", b"set lv", b"list values"]
LINES += [b"make process lp /bin/true", b"list processes", b"remove process lp", b"help"]


async def call(bus: Bus, name: str) -> str:
    """What comes of a call: ``ok``, or the error's code."""
    interface, signature, body, _ = CALLS[name]
    try:
        reply = await bus.call(NAME, PATH, interface, name.split(maxsplit=1)[0], signature, body, 20)
    except PapaError as error:
        return error.code
    for fd in reply.unix_fds:
        open(fd, "rb").close()
    return "ok"


class Line:
    """A connection to 20202."""

    async def open(self) -> bytes:
        """Connect; gives the first reply."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", 20202)
        return await self._read()

    async def _read(self) -> bytes:
        async with asyncio.timeout(20):
            try:
                return await self._reader.readuntil(b"> ")
            except asyncio.IncompleteReadError as error:
                return error.partial

    async def ask(self, line: bytes) -> str:
        """The reply to a line."""
        self._writer.write(line + b"\n")
        return (await self._read()).decode().removesuffix("\n> ")

    async def ended(self) -> bool:
        """Whether nothing more comes."""
        async with asyncio.timeout(20):
            return await self._reader.read() == b""

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def try_calls(bus: Bus) -> dict[str, Any]:
    return {name: await call(bus, name) for name in CALLS}


async def try_lines() -> dict[str, str]:
    line = Line()
    first = await line.open()
    if not first.startswith(b"Papa is home"):
        refused = {"first": first.decode(), "ended": str(await line.ended())}
        line.close()
        return refused
    replies = {text.decode(): await line.ask(text) for text in LINES}
    line.close()
    return replies


async def stay(bus: Bus) -> None:
    heard: list[Message] = []
    bus.on_signal.append(lambda signal: heard.append(signal) if signal.member == "Output" else None)
    line = Line()
    welcome = await line.open()
    watch = await bus.call(NAME, PATH, NAME, "Watch", "asa{sv}", [["p"], {"mode": Variant("s", "observe")}], 20)
    print(json.dumps({"welcome": welcome.startswith(b"Papa is home"), "watch": watch.body[1]}), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        said: dict[str, Any] = {"bus": await call(bus, "ListValues"), "line": await line.ask(b"list values")}
        said["heard"] = [record[3].decode() for signal in heard for record in signal.body[2]]
        said["ended"] = await line.ended() if said["line"].startswith("Error") else False
        print(json.dumps(said), flush=True)
    line.close()


async def main(what: str) -> None:
    bus = Bus(address_of("system"))
    await bus.start()
    if what == "calls":
        print(json.dumps({"bus": await try_calls(bus), "line": await try_lines()}))
    else:
        await stay(bus)
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
