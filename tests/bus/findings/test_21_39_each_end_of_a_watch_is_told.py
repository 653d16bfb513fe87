"""A client is told that its watch is over, and why, after the watch's last Output or Exited."""

import asyncio
from pathlib import Path

import pytest

from papa_dbus.bus import Variant
from papa_dbus.errors import NotFound
from papa_dbus.service.access.policy import Access, Right
from papa_dbus.service.caller import Caller
from tests.bus.client import Client
from tests.bus.consumer import Gate, consumer
from tests.bus.daemon import Papad
from tests.bus.findings.inside import papad_inside
from tests.bus.scripted_child import ScriptedChild
from tests.support import until

OBSERVE = Variant("s", "observe")
#: Ends, and leaves a descendant that holds its output open until a gate is opened.
LEAVES = "({gate}; echo late; {more}) & echo words; exit 3"


async def test_a_consumer_is_told_once_all_was_acknowledged(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo words; exit 3")
    number = await client.watch("p")
    [[_, _, seq, _, _, _]] = await client.until("Exited")
    assert not client.of("WatchEnded")
    await client.call("Acknowledge", "ta{st}", number, {"p": seq})
    assert await client.until("WatchEnded") == [[number, "finished"]]
    with pytest.raises(NotFound):
        await client.call("Acknowledge", "ta{st}", number, {"p": seq})


async def test_an_observer_is_told_once_all_was_sent(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo words; exit 3")
    number = await client.watch("p", mode=OBSERVE)
    assert await client.until("WatchEnded") == [[number, "finished"]]
    assert [signal.member for signal in client.signals][-2:] == ["Exited", "WatchEnded"]
    assert client.output() == b"words\n"


async def test_who_follows_or_says_unwatch_is_not_told(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo words; exit 3")
    await client.watch("p", mode=OBSERVE, follow=Variant("b", True))
    await client.until("Exited")
    number = await client.watch("p")
    await client.call("Unwatch", "t", number)
    number = await client.watch("p", mode=OBSERVE)
    assert await client.until("WatchEnded") == [[number, "finished"]]


async def test_39_a_watch_that_begins_after_the_end_was_acknowledged(client: Client, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    await client.make_process("p", "sh", "-c", LEAVES.format(gate=gate.wait(), more="exit 0"))
    first = await client.watch("p")
    [[_, _, seq, _, _, _]] = await client.until("Exited")
    await client.call("Acknowledge", "ta{st}", first, {"p": seq})
    second = await client.watch("p")
    await gate.open()
    await client.until_output(b"late")
    seq = client.of("Output")[-1][2][-1][0]
    await client.call("Acknowledge", "ta{st}", second, {"p": seq})
    assert await client.until("WatchEnded", 2) == [[first, "finished"], [second, "finished"]]
    assert await client.call("ListProcesses", "as", []) == {}


async def watch_what_is_acknowledged(
    papad: Papad, client: Client, gate: Gate
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Watch by line a process that has ended, with all acknowledged; a child of it waits at the gate."""
    await client.make_process("p", "sh", "-c", f"({gate.wait()}) & exit 3")
    await client.until_ended("p")
    first = await client.watch("p")
    [[_, _, seq, _, _, _]] = await client.until("Exited")
    await client.call("Acknowledge", "ta{st}", first, {"p": seq})
    reader, writer = await asyncio.open_unix_connection(papad.socket)
    await reader.readuntil(b"> ")
    writer.write(b"watch process p\n")
    assert await reader.readuntil(b"\n") == b"Watching 1\n"
    return reader, writer


async def test_39_the_same_through_20202(papad: Papad, client: Client, tmp_path: Path) -> None:
    """With nothing to be acknowledged, nobody has to say a word."""
    gate = Gate(tmp_path)
    reader, writer = await watch_what_is_acknowledged(papad, client, gate)
    await gate.open()
    assert await reader.readuntil(b"> ") == b"Nothing left to watch\n> "
    writer.close()
    await writer.wait_closed()


async def test_39_a_removal_through_20202(papad: Papad, client: Client, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    reader, writer = await watch_what_is_acknowledged(papad, client, gate)
    await client.call("RemoveProcesses", "as", ["p"])
    assert await reader.readuntil(b"> ") == b"Nothing left to watch: removed\n> "
    writer.close()
    await writer.wait_closed()
    await gate.open()


async def test_a_process_that_is_removed_after_its_end_was_acknowledged(client: Client, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    await client.make_process("p", "sh", "-c", f"({gate.wait()}) & exit 3")
    first = await client.watch("p")
    [[_, _, seq, _, _, _]] = await client.until("Exited")
    await client.call("Acknowledge", "ta{st}", first, {"p": seq})
    second = await client.watch("p")
    await client.call("RemoveProcesses", "as", ["p"])
    assert await client.until("WatchEnded", 2) == [[first, "finished"], [second, "removed"]]
    await gate.open()


class _Revocable(Access):
    """The test says whether callers are served."""

    may = True

    def admits(self, caller: Caller, right: Right = Right.MANAGE) -> bool:
        return self.may

    async def belongs(self, caller: Caller) -> bool:
        return self.may


async def test_21_one_who_may_hear_no_more(bus_address: str, tmp_path: Path) -> None:
    access, scripted_child = _Revocable(), ScriptedChild(tmp_path)
    async with papad_inside(bus_address, access) as papad, consumer(bus_address) as client:
        await client.make_process("parrot", *scripted_child.command)
        number = await client.consume("parrot")
        scripted_child.say("heard")
        await client.wait(lambda: client.got, "output")
        await until(lambda: not papad.kernel.list_processes()[0].buffered, "acknowledgement")
        access.may = False
        scripted_child.say("not heard")
        await client.wait(lambda: client.ends, "end")
        assert client.ends == [(number, "revoked")]
        assert client.got == {"parrot": 6}
        assert papad.kernel.list_processes()[0].buffered == 10
        scripted_child.end()
