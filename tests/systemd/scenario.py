"""Runs inside a container: a socket and two processes from making to removing, each call made until papad has answered.

papad is killed once on the way, at a step that the test has chosen. Prints one line of JSON with what came of it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from papa_dbus.bus import Bus, BusLost, address_of
from papa_dbus.errors import NoReply, NotFound, PapaError, Unreachable

NAME = ("org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel")
SCRIPT = 'echo ran >> "$0"; echo one; echo two >&2; read go < "$0.gate"; echo three; exit 5'


async def call(bus: Bus, member: str, signature: str, *body: Any) -> Any:
    """A call that is made again until papad has answered it."""
    end = time.monotonic() + 60
    while True:
        try:
            return (await bus.call(*NAME, member, signature, body, 10)).body
        except PapaError as error:
            away = isinstance(error, BusLost | NoReply | Unreachable) or error.code == "internal"
            if time.monotonic() > end or not away:
                raise
            await asyncio.sleep(0.05)  # paces the looks


async def consume(  # noqa: C901 (a client's whole life, in order)
    bus: Bus, signals: "asyncio.Queue[Any]", gate: Path
) -> dict[str, Any]:
    """Read process p to its end, acknowledge each record, and take up the watch again where papad has gone.

    The process waits at the gate until its first two records are here.
    """
    records: dict[int, tuple[str, str]] = {}
    waits = True
    exited = None
    watch = 0
    while True:
        with contextlib.suppress(NotFound):  # it may be this papad's, and would hold everything back
            await call(bus, "Unwatch", "t", watch)
        try:
            watch = (await call(bus, "Watch", "asa{sv}", ["p"], {}))[0]
        except NotFound:
            return {"records": [records[seq] for seq in sorted(records)], "exited": exited}
        while True:
            message = await asyncio.wait_for(signals.get(), 30)
            if message.member == "NameOwnerChanged":
                if message.body[0] == NAME[0] and message.body[2]:
                    break
                continue
            if message.interface != NAME[0] or message.body[0] != watch:
                continue
            seq = message.body[2]
            if message.member == "Output":
                for number, _, stream, data in message.body[2]:
                    records[number] = (stream, data.decode())
                    seq = number
                if waits and len(records) == 2:
                    gate.write_text("go\n")
                    waits = False
            elif message.member == "Exited":
                exited = message.body[4:]
            try:
                await bus.call(*NAME, "Acknowledge", "ta{st}", [watch, {"p": seq}], 10)
            except PapaError:
                continue  # it comes again from the next papad
            if message.member == "Exited":
                return {"records": [records[number] for number in sorted(records)], "exited": exited}


async def main(marker: Path) -> None:
    bus = Bus(address_of("system"))
    signals: asyncio.Queue[Any] = asyncio.Queue()
    bus.on_signal.append(signals.put_nowait)
    await bus.start()
    rule = f"type='signal',member='NameOwnerChanged',arg0='{NAME[0]}'"
    await bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [rule])
    await call(bus, "SetValue", "ss", "v", "kept")
    socket = (await call(bus, "MakeSocket", "sa{sv}", "s", {}))[0]
    again = (await call(bus, "MakeSocket", "sa{sv}", "s", {}))[0]
    gate = marker.with_name(f"{marker.name}.gate")
    os.mkfifo(gate)
    await call(bus, "MakeProcess", "sasa{sv}", "p", ["sh", "-c", SCRIPT, str(marker)], {})
    seen = await consume(bus, signals, gate)
    await call(bus, "MakeProcess", "sasa{sv}", "q", ["sleep", "600"], {})
    q = (await call(bus, "ListProcesses", "as", ["q"]))[0]["q"]["pid"].value
    await call(bus, "RemoveProcesses", "as", ["q"])
    os.kill(q, signal.SIGKILL)
    with contextlib.suppress(NotFound):  # removed, and killed before it could say so
        await call(bus, "RemoveSockets", "as", ["s"])
    value = (await call(bus, "GetValue", "s", "v"))[0]
    await call(bus, "RemoveValues", "as", ["v"])
    end = time.monotonic() + 20
    while (left := (await call(bus, "ListProcesses", "as", []))[0]) and time.monotonic() < end:
        await asyncio.sleep(0.05)  # paces the looks
    await bus.close()
    seen |= {
        "same port": socket["port"].value == again["port"].value,
        "value": value,
        "left": list(left),
        "ran": marker.read_text().count("ran"),
    }
    print(json.dumps(seen))  # noqa: T201 (its result)


asyncio.run(main(Path(sys.argv[1])))
