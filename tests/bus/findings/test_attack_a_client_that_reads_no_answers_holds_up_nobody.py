"""Who calls, or acknowledges by guesswork, and reads nothing holds up nobody else, at the buses' own limits."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Bus, Message, MessageFlag, Variant
from papa_dbus.errors import Limit
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from papa_dbus.service import limits
from tests.bus.consumer import Consumer, consumer
from tests.bus.daemon import Papad, hosted_pids, start_papad
from tests.bus.isolated import PrivateBus
from tests.support import until

#: More than dbus-daemon takes of one sender (127 MiB), in answers of 2 MB.
CALLS, VALUES, VALUE = 100, 20, "x" * 100_000
GUESSES = 400
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


@pytest.fixture(params=["dbus-daemon", pytest.param("dbus-broker", marks=pytest.mark.root)])
def papad(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Papad]:
    bus = PrivateBus(tmp_path, request.param)
    papad = start_papad(bus.address, tmp_path / "line")
    yield papad
    pids = hosted_pids(papad.process.pid)
    log = papad.stop()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    bus.stop()
    assert "Traceback" not in log, log


@contextlib.asynccontextmanager
async def deaf(address: str) -> AsyncIterator[Bus]:
    """A client that reads nothing."""
    bus = Bus(address)
    await bus.start()
    stop_reading(bus)
    try:
        yield bus
    finally:
        await bus.close()


def stop_reading(bus: Bus) -> None:
    connection: Any = bus._connection
    asyncio.get_running_loop().remove_reader(connection.fileno())
    connection._may_read = lambda: False


def call(member: str, signature: str, *body: object, flags: MessageFlag = MessageFlag.NONE) -> Message:
    return Message(
        destination=BUS_NAME,
        path=OBJECT_PATH,
        interface=BUS_NAME,
        member=member,
        signature=signature,
        body=list(body),
        flags=flags,
    )


async def fill(good: Consumer) -> None:
    for number in range(VALUES):
        await good.call("SetValue", "ss", f"v{number}", VALUE)


async def test_answers_that_are_not_read(papad: Papad) -> None:
    async with consumer(papad.address) as good, deaf(papad.address) as bad:
        await fill(good)
        for _ in range(CALLS):
            bad.send(call("ListValues", "as", []))
        for _ in range(20):  # meanwhile those calls have their turns
            assert await good.call("ListProcesses", "as", []) == {}
            assert len(await good.call("ListValues", "as", [])) == VALUES


@pytest.mark.parametrize("mode", ["observe", "consume"])
async def test_acknowledgements_by_guesswork(papad: Papad, mode: str) -> None:
    """An observer may acknowledge anything, a consumer guesses."""
    async with consumer(papad.address) as good, deaf(papad.address) as bad:
        options = {"bufsize": Variant("t", 8_000_000)}
        if mode == "consume":
            options["overflow"] = Variant("s", "block")
        await good.make_process("p", "cat", "/dev/zero", **options)
        bad.send(call("Watch", "asa{sv}", ["p"], {"mode": Variant("s", mode), "follow": Variant("b", True)}))
        acknowledged = 0

        async def guess() -> bool:
            nonlocal acknowledged
            for seq in [2**63] if mode == "observe" else range(acknowledged + 1, acknowledged + 65):
                bad.send(
                    call("Acknowledge", "ta{st}", 1, {"p": seq}, flags=MessageFlag.NO_REPLY_EXPECTED), urgent=False
                )
            bad.flush()
            listed = await good.call("ListProcesses", "as", ["p"])
            acknowledged = listed["p"]["acknowledged"]
            return bool(listed["p"]["written"] > limits.MAX_FLIGHT_OF_CLIENT)

        await until(guess, "more output than may be on its way")
        for _ in range(GUESSES):
            await guess()


@pytest.fixture
def on_dbus_daemon(tmp_path: Path) -> Iterator[Papad]:
    bus = PrivateBus(tmp_path)
    papad = start_papad(bus.address, tmp_path / "line")
    yield papad
    papad.stop()
    bus.stop()


async def test_who_reads_again_gets_each_answer(on_dbus_daemon: Papad) -> None:
    async with consumer(on_dbus_daemon.address) as good, consumer(on_dbus_daemon.address) as slow:
        await fill(good)
        slow.stall()
        answers = [asyncio.ensure_future(slow.call("ListValues", "as", [])) for _ in range(30)]
        for _ in range(20):
            await good.call("ListProcesses", "as", [])
        slow.go_on()
        for answer in answers:
            assert len(await answer) == VALUES


async def test_many_clients_that_read_nothing_have_so_much_together(on_dbus_daemon: Papad) -> None:
    """Whoever reads gets small answers then, and is told why no large one."""
    async with contextlib.AsyncExitStack() as stack:
        good = await stack.enter_async_context(consumer(on_dbus_daemon.address))
        await fill(good)
        for _ in range(limits.MAX_QUEUED_WITH_READERS_OF_USER // (VALUES * len(VALUE)) + 1):
            bad = await stack.enter_async_context(deaf(on_dbus_daemon.address))
            for _ in range(3):
                bad.send(call("ListValues", "as", []))

        async def much_lies_there() -> bool:
            stats = await good.bus.call(*_BUS[:2], f"{_BUS[0]}.Debug.Stats", "GetConnectionStats", "s", [BUS_NAME])
            there: int = stats.body[0]["IncomingBytes"].value
            return there > limits.MAX_QUEUED_WITH_READERS_OF_USER - 2 * VALUES * len(VALUE)

        await until(much_lies_there, "what is not read is not there")

        async def refused() -> bool:
            try:
                await good.call("ListValues", "as", [])
            except Limit as error:
                return "not read" in str(error)
            return False

        await until(refused, "no large answer is refused")
        for _ in range(20):
            assert await good.call("ListProcesses", "as", []) == {}
    async with consumer(on_dbus_daemon.address) as good:
        await until(lambda: good.call("ListValues", "as", []), "what lay there for those who left counts on")
