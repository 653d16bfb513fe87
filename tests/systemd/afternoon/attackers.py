"""The clients on the bus that play by no rules: ``attackers.py KIND FOLDER``, until it is killed or the bus ends it.

Those of the group papa may do all they do; strangers may do nothing. A program that ends is started again.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import socket
import struct
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from papa_dbus.bus import Bus, Message, MessageFlag, Variant, address_of
from papa_dbus.bus import header as bus_header
from papa_dbus.errors import AccessDenied, PapaError
from tests.systemd.caller import CALLS, NAME, PATH

WATCHES, WIDE_WATCHES = 1000, 50
GUESTS = 50
#: Calls of one connection under way: dbus-daemon lets 128 wait for an answer, max_replies_per_connection.
UNDER_WAY = 100
WINDOW = 64 * 1024 * 1024
MIB = 1024 * 1024

Call = tuple[str, str, str, list[Any]]


async def connect() -> Bus:
    """Connect to the system's bus."""
    bus = Bus(address_of("system"))
    await bus.start()
    return bus


async def kernel_call(bus: Bus, member: str, signature: str, *body: Any) -> Any:
    """Call the kernel; the answer's first value, None for an error."""
    try:
        answer = await bus.call(NAME, PATH, NAME, member, signature, body, 60)
    except PapaError:
        return None
    return answer.body[0] if answer.body else True


def quiet(member: str, signature: str, body: list[Any], flags: MessageFlag = MessageFlag.NONE) -> Message:
    """Make a call that wants no answer; dbus-daemon bounds those that want one."""
    flags |= MessageFlag.NO_REPLY_EXPECTED
    return Message(NAME, PATH, NAME, member, flags=flags, signature=signature, body=body)


def cut(bus: Bus) -> None:
    """Leave without a word, as one does who is killed.

    The descriptor stays until ``close``: its number would be another guest's by then, who would lose its reader.
    """
    connection = bus._connection
    if connection is not None:
        with contextlib.suppress(OSError):  # it has gone
            connection.socket.shutdown(socket.SHUT_RDWR)


# ------------------------------------------------------------------ members


async def stall(folder: Path) -> None:
    """Watch a thousand times, some of it all there is, and read nothing of that."""
    bus = await connect()

    def watch(pattern: str, mode: str) -> None:
        options = {"window": Variant("t", WINDOW), "mode": Variant("s", mode)}
        bus.send(quiet("Watch", "asa{sv}", [[pattern], options]))

    for n in range(WATCHES - WIDE_WATCHES):
        watch(f"w.{n % 200}", "observe" if n % 2 else "consume")
    print("papad has", (await kernel_call(bus, "ListSockets", "as", [])) is not None, flush=True)
    for n in range(WIDE_WATCHES):
        watch("w.*", "observe" if n % 2 else "consume")
    written = asyncio.get_running_loop().create_future()
    bus.send(quiet("ListValues", "as", [["nothing"]]), lambda: written.set_result(None))
    await written
    os.kill(os.getpid(), signal.SIGSTOP)


def every_kind(folder: Path) -> Iterator[Call]:
    """Each call that there is, for ever, in any order, and those that cost much."""
    prefixes = [f"nothing-{n}*" for n in range(1024)]
    unseen = {f"{n}": Variant(f"a({_random_types(60)})", []) for n in range(20)}
    for n in itertools.count():
        calls = [(name.split()[0], *CALLS[name][:3]) for name in CALLS if name != "MakeProcess"]
        slow_user = {"uid": Variant("s", f"directory-{n}")}
        calls += [
            ("MakeProcess", NAME, "sasa{sv}", ["f.true", ["/bin/true"], {}]),
            ("MakeProcess", NAME, "sasa{sv}", [f"f.who{n}", ["/bin/true"], slow_user]),
            ("MakeProcess", NAME, "sasa{sv}", [f"f.no{n}", ["/no/such/program"], {}]),
            ("MakeSocket", NAME, "sa{sv}", [f"f.h{n}", {"host": Variant("s", f"h{n}.example")}]),
            ("MakeSocket", NAME, "sa{sv}", ["f.x", unseen]),
            ("Watch", NAME, "asa{sv}", [["w.*"], {"mode": Variant("s", "observe")}]),
            ("Acknowledge", NAME, "ta{st}", [n, {f"w.{m}": 2**60 for m in range(200)}]),
            *[("SetValue", NAME, "ss", [f"f.{n % 500}-{m}", "x" * 100]) for m in range(20)],
            *[(member, NAME, "as", [prefixes]) for member in ("ListValues", "ListProcesses", "ListSockets")],
        ]
        if n % 20 == 0:
            there = str(folder / "hang")
            calls += [
                ("SetValue", NAME, "ss", ["f.large", "x" * MIB]),
                ("MakeProcess", NAME, "sasa{sv}", [f"f.d{n}", ["/bin/true"], {"working_dir": Variant("s", there)}]),
                (
                    "MakeSocket",
                    NAME,
                    "sa{sv}",
                    [f"f.p{n}", {"path": Variant("s", f"{there}/{n}"), "family": Variant("s", "unix")}],
                ),
            ]
        random.shuffle(calls)
        yield from calls


async def flood(folder: Path) -> None:
    """Have as many calls under way as the bus allows, on two connections, and some that want no answer."""
    calls = every_kind(folder)

    async def work(bus: Bus) -> None:
        for member, interface, signature, body in calls:
            try:
                for fd in (await bus.call(NAME, PATH, interface, member, signature, body, 60)).unix_fds:
                    os.close(fd)
            except PapaError:
                await asyncio.sleep(0)  # refused: again

    async def throw(bus: Bus) -> None:
        for member, interface, signature, body in calls:
            call = quiet(member, signature, body)
            call.interface = interface
            bus.send(call)
            await asyncio.sleep(0.01)  # paces the calls

    buses = [await connect() for _ in range(2)]
    await asyncio.gather(*[work(bus) for bus in buses for _ in range(UNDER_WAY)], throw(buses[0]))


async def guests(folder: Path) -> None:
    """Come, watch all or make something, and leave without a word; fifty at a time."""

    async def guest(number: int) -> None:
        for n in itertools.count():
            bus = await connect()
            calls: list[Coroutine[Any, Any, Any]] = [
                kernel_call(bus, "MakeSocket", "sa{sv}", f"g.{number}", {}),
                kernel_call(bus, "MakeProcess", "sasa{sv}", f"g.{number}-{n % 3}", ["/bin/sleep", "1"], {}),
                kernel_call(
                    bus, "Watch", "asa{sv}", ["w.*"], {"mode": Variant("s", random.choice(["consume", "observe"]))}
                ),
            ]
            asking = asyncio.gather(*calls)
            await asyncio.wait([asking], timeout=random.uniform(0.05, 1))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await leave(bus)

    await asyncio.gather(*[guest(number) for number in range(GUESTS)])


async def leave(bus: Bus) -> None:
    """Leave, now and then without a word."""
    if random.random() < 0.5:
        cut(bus)
    await bus.close()


# ---------------------------------------------------------------- strangers


async def stranger_calls(folder: Path) -> None:
    """Make each call that there is, and large ones, although all are refused."""
    bus = await connect()
    calls = every_kind(folder)
    refused = 0

    async def work() -> None:
        nonlocal refused
        for member, interface, signature, body in calls:
            try:
                await bus.call(NAME, PATH, interface, member, signature, body, 60)
            except AccessDenied:
                refused += 1
            except PapaError:
                await asyncio.sleep(0)

    async def throw_large() -> None:
        for _ in range(5):
            bus.send(quiet("SetValue", "ss", ["x", "x" * 22 * MIB]))
            await asyncio.sleep(2)  # paces the calls

    await asyncio.gather(*[work() for _ in range(UNDER_WAY)], throw_large())


async def stranger_parks(folder: Path) -> None:
    """Send calls that wait for a person who never types a password: its own agent never answers polkit."""
    buses = [await connect() for _ in range(4)]
    for bus in buses:
        await _be_agent(bus)
        call = quiet("ListValues", "as", [[]], MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION)
        for n in range(4200):
            call.serial = 0
            bus.send(call)
            if n % 100 == 0:
                await asyncio.sleep(0.005)  # paces the calls
    print("parked", flush=True)
    await asyncio.Event().wait()


async def _be_agent(bus: Bus) -> None:
    """Become this process's authentication agent, and never answer (on_call does nothing)."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    values = {"pid": Variant("u", os.getpid()), "start-time": Variant("t", started), "uid": Variant("i", os.getuid())}
    authority = (
        "org.freedesktop.PolicyKit1",
        "/org/freedesktop/PolicyKit1/Authority",
        "org.freedesktop.PolicyKit1.Authority",
    )
    try:
        await bus.call(
            *authority,
            "RegisterAuthenticationAgent",
            "(sa{sv})ss",
            [["unix-process", values], "C", "/org/papa/Test/Agent"],
        )
    except PapaError as error:
        if "already" not in str(error):
            raise


async def stranger_signatures(folder: Path) -> None:
    """Send variants of types that nobody has seen before: a hundred times a second sixty of them."""
    bus = await connect()
    bodies = [_unseen_body() for _ in range(120)]
    assert bus._connection is not None
    sock = bus._connection.socket
    sock.setblocking(True)
    message = quiet("X", "av", [[]])
    for n in itertools.count():
        body = bodies[n % len(bodies)]
        sock.sendall(bus_header.header(1, 1, len(body), 1000 + n, message) + body)
        await asyncio.sleep(0.01)  # paces the calls


def _random_types(count: int) -> str:
    return "".join(random.choice("ybnqiuxtdsogv") for _ in range(count))


def _unseen_body() -> bytes:
    """Sixty variants in an array, each an empty array of structures of 250 types."""
    out = bytearray(4)
    for _ in range(60):
        signature = f"a({_random_types(250)})"
        out += bytes([len(signature)]) + signature.encode() + b"\0"
        out += bytes(-len(out) & 3) + bytes(4)
        out += bytes(-len(out) & 7)
    struct.pack_into("<I", out, 0, len(out) - 4)
    return bytes(out)


KINDS: dict[str, Callable[[Path], Coroutine[Any, Any, None]]] = {
    "stall": stall,
    "flood": flood,
    "guests": guests,
    "stranger-calls": stranger_calls,
    "stranger-parks": stranger_parks,
    "stranger-signatures": stranger_signatures,
    "stranger-guests": guests,
}

if __name__ == "__main__":
    asyncio.run(KINDS[sys.argv[1]](Path(sys.argv[2])))
