"""However much a client asks of papad, another one is answered, and no call is refused that need not wait."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from papa_dbus.errors import Limit
from papa_dbus.service import limits
from papa_dbus.service.items.specs import ProcessSpec
from tests.bus.client import Client, connected
from tests.bus.findings.inside import papad_inside
from tests.support import PATIENCE

_DRIVER = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


async def routed(client: Client) -> None:
    """Wait until the bus has passed on what a client has sent."""
    await client.bus.call(*_DRIVER, "GetId")


async def test_one_call_does_not_wait_for_anothers_five_hundred(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with papad_inside(bus_address) as papad:
        served = []

        def each_value(patterns: list[str]) -> Iterator[tuple[str, str]]:
            served.append(patterns[0])
            loop = asyncio.get_running_loop()
            until = loop.time() + 0.001
            while loop.time() < until:
                pass
            return iter(())

        monkeypatch.setattr(papad.kernel, "each_value", each_value)
        async for flooder in connected(bus_address):
            async for asker in connected(bus_address):
                loop, connection = asyncio.get_running_loop(), papad.bus._connection
                assert connection is not None
                loop.remove_reader(connection.fileno())  # all of it is there when papad looks
                calls = [asyncio.ensure_future(flooder.call("ListValues", "as", ["flood"])) for _ in range(500)]
                await asyncio.sleep(0)
                await routed(flooder)
                question = asyncio.ensure_future(asker.call("ListValues", "as", ["question"]))
                await asyncio.sleep(0)
                await routed(asker)
                loop.add_reader(connection.fileno(), connection.read)
                await question
                await asyncio.gather(*calls)
        assert len(served) == 501
        assert served.index("question") < 250


async def test_calls_that_wait_are_counted_for_each_sender(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("_OF_SENDER", 8), ("_OF_USER", 16), ("", 32)):
        monkeypatch.setattr(limits, f"MAX_PENDING{name}", most * 66_000)
    async with papad_inside(bus_address) as papad:
        async for wild in connected(bus_address):
            async for other in connected(bus_address):
                pid = (await other.make_process("p", "sh", "-c", "echo x; exec sleep 1000"))["pid"]
                watch = await other.watch("p")
                [[_, _, records]] = await other.until("Output")
                finish, make_process = asyncio.Event(), papad.kernel.make_process

                async def slowly(spec: ProcessSpec, finish: Any = finish, make_process: Any = make_process) -> Any:
                    await finish.wait()
                    return await make_process(spec)

                monkeypatch.setattr(papad.kernel, "make_process", slowly)
                makings = [asyncio.ensure_future(wild.make_process(f"p{n}", "true")) for n in range(12)]
                done, waiting = await asyncio.wait(makings, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                while len(done) < 4:
                    more, waiting = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                    assert more
                    done |= more
                assert {type(making.exception()) for making in done} == {Limit}
                # What need not wait is answered, and another client's call has room to wait.
                for client in (wild, other):
                    assert list(await client.call("ListProcesses", "as", [])) == ["p"]
                await other.call("Acknowledge", "ta{st}", watch, {"p": records[-1][0]})
                last = asyncio.ensure_future(other.make_process("q", "true"))
                await other.call("ListProcesses", "as", [])
                assert not last.done()
                finish.set()
                await asyncio.gather(*waiting, last)
                assert pid
