"""OpenOutput against a real papad on a real message bus, by a client that is not the library's."""

import asyncio
import os
import re
import signal
import socket
import struct
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from papa_dbus import output_frames
from papa_dbus.bus import Message, MessageFlag, Variant
from papa_dbus.client import aio
from papa_dbus.errors import AccessDenied, InvalidArgs, Limit, NotFound
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from papa_dbus.service import limits
from papa_dbus.service.access.policy import Access, Right
from papa_dbus.service.caller import Caller
from papa_dbus.service.dbus import output_socket
from papa_dbus.service.dbus.objects import child_path
from tests.bus.client import Client, connected
from tests.bus.consumer import Gate, consumer
from tests.bus.daemon import Papad
from tests.bus.findings.inside import Inside, papad_inside
from tests.bus.isolated import SupervisedPapad
from tests.bus.rawoutput import ANSWER, CUT, EOF, GREETING, RawOutput, acknowledgement, closing, opened, output
from tests.bus.scripted_child import ScriptedChild
from tests.support import PATIENCE, until, wait_until

SOCKETPAIR = socket.socketpair
OBSERVE = Variant("s", "observe")
FOLLOW = Variant("b", True)
PROCESS = f"{BUS_NAME}.Process"


def sockets_of(pid: int) -> int:
    """How many sockets a process has."""
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(fd.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


@pytest.fixture
async def client(papad: Papad) -> AsyncIterator[Client]:
    """A client of that papad; after it papad has no socket more than before."""
    before = sockets_of(papad.process.pid)
    async for client in connected(papad.address):
        yield client
    wait_until(lambda: sockets_of(papad.process.pid) <= before, lambda: f"{before} sockets of papad's")


@pytest.fixture
def parrot(tmp_path: Path) -> Iterator[ScriptedChild]:
    """A process that prints what it is told, once a test has made it."""
    parrot = ScriptedChild(tmp_path, code=3)
    yield parrot
    parrot.end()


async def until_gone(client: Client, number: int) -> None:
    """Wait until papad has a client's watch no more."""

    async def gone() -> bool:
        try:
            await client.call("Acknowledge", "ta{st}", number, {})
        except NotFound:
            return True
        return False

    await until(gone, f"the end of watch {number}")


# ------------------------------------------------------------------------------------- what is sent


async def test_frames_of_a_consumer(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo one; echo two >&2; exit 3")
    async with output(client, "p") as raw:
        assert raw.names == ["p"]
        exited = await raw.next("exited")
        records = [record for kind, *body in raw.frames if kind == "output" for record in body[1]]
        assert [(seq, stream, data) for seq, _, stream, data in records] == [(1, 0, b"one\n"), (2, 1, b"two\n")]
        assert (exited[1], exited[2], exited[4], exited[5]) == ("p", 3, 3, 1)
        listed = await client.listed("p")
        assert listed["exit_timestamp"] == exited[3] >= records[-1][1]
        await raw.acknowledge(p=1)
        assert await raw.next("answer") == ANSWER
        assert (await client.listed("p"))["buffered"] == 4
        await raw.acknowledge()
        assert await raw.next("answer") == ANSWER
        await raw.acknowledge(p=3)
        assert await raw.until_end() == [ANSWER, ("ended", "finished"), EOF]
    assert await client.call("ListProcesses", "as", []) == {}
    assert not client.signals or {signal.member for signal in client.signals}.isdisjoint({"Output", "WatchEnded"})


async def test_a_process_s_object_opens_it(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo one")
    path, arguments = child_path("process", "p"), [{"mode": OBSERVE}]
    reply = await client.bus.call(BUS_NAME, path, PROCESS, "OpenOutput", "a{sv}", arguments, PATIENCE)
    raw = RawOutput(reply.body[0], ["p"], reply.unix_fds[0])
    with closing(raw):
        assert (await raw.until_end())[-2:] == [("ended", "finished"), EOF]
        assert raw.data() == b"one\n"


async def test_an_observer_follows(client: Client) -> None:
    async with output(client, "p*", mode=OBSERVE, follow=FOLLOW) as raw:
        assert raw.names == []
        for name in ("p1", "other", "p2"):
            await client.make_process(name, "sh", "-c", f"echo {name}; exec sleep 1000")
        await raw.until_output(b"p1\n")
        await raw.until_output(b"p2\n")
        assert b"other" not in raw.data()
        assert (await client.listed("p1"))["buffered"] == 3


async def test_the_window_stops_a_socket(client: Client, parrot: ScriptedChild) -> None:
    await client.make_process("parrot", *parrot.command)
    async with output(client, "parrot", window=Variant("t", 1000)) as raw:
        for number in range(1, 4):  # each of them a record
            parrot.say(f"{number}" * 599)
            await client.until_written("parrot", 600 * number)
        await raw.until_output(b"11\n")
        for number in (1, 2):
            await raw.acknowledge()
            assert await raw.frame() == ANSWER  # the next is not sent before this one is acknowledged
            await raw.acknowledge(parrot=number)
            await raw.until_output(b"%d\n" % (11 * (number + 1)))
        await raw.acknowledge(parrot=3)
        parrot.end()
        await raw.next("exited")
        await raw.acknowledge(parrot=4)
        assert (await raw.until_end())[-2:] == [("ended", "finished"), EOF]


async def test_a_record_larger_than_the_window_is_sent(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "head -c 500000 /dev/zero")
    async with output(client, "p", window=Variant("t", 1)) as raw:
        while (frame := await raw.frame())[0] != "exited":
            if frame[0] == "output":
                assert len(frame[2]) == 1
                await raw.acknowledge(p=frame[2][0][0])
        assert raw.data() == bytes(500_000)
        await raw.acknowledge(p=frame[2])
        assert (await raw.until_end())[-2:] == [("ended", "finished"), EOF]


async def test_what_was_dropped_is_told(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "head -c 300000 /dev/zero", bufsize=Variant("t", 1000))
    await client.until_ended("p")
    async with output(client, "p") as raw:
        exited = await raw.next("exited")
        lost = [frame for frame in raw.frames if frame[0] == "dropped"]  # more than one if some was written meanwhile
        assert lost[0][1:3] == ("p", 1)
        assert sum(size for *_, size in lost) + len(raw.data()) == 300_000
        assert exited[2] == max(lost[-1][3], raw.last if raw.data() else 0) + 1
        await raw.acknowledge(p=exited[2])
        assert await raw.until_end() == [ANSWER, ("ended", "finished"), EOF]


# --------------------------------------------------------------------------------- acknowledgements


async def test_wrong_acknowledgements_are_answered_with_an_error(client: Client, parrot: ScriptedChild) -> None:
    await client.make_process("parrot", *parrot.command)
    async with output(client, "parrot") as raw:
        parrot.say("one")
        seq = await raw.until_output(b"one\n")
        for up_to, error in (
            ({"parrot": seq + 1}, "org.freedesktop.DBus.Error.InvalidArgs"),
            ({"parrot": 2**64 - 1}, "org.freedesktop.DBus.Error.InvalidArgs"),
            ({"other": 1}, "org.papa.Error.NotFound"),
            ({"parrot": seq, "other": 1}, "org.papa.Error.NotFound"),
        ):
            await raw.acknowledge(**up_to)
            answer = await raw.next("answer")
            assert answer[1] == error
            assert "parrot" in answer[2] or "other" in answer[2]
        assert (await client.listed("parrot"))["buffered"] == 4  # nothing of it was noted
        await raw.send(acknowledgement(parrot=seq) + acknowledgement(nosuch=1) + acknowledgement(parrot=0))
        answers = [await raw.next("answer") for _ in range(3)]  # each has one, in order
        assert [answer[1] for answer in answers] == ["", "org.papa.Error.NotFound", ""]
        await client.until_buffered("parrot", 0)
        parrot.say("two")
        await raw.until_output(b"two\n")
        await raw.acknowledge(parrot=raw.last)
        assert await raw.next("answer") == ANSWER
        # On the bus it is the same watch.
        await client.call("Acknowledge", "ta{st}", raw.number, {"parrot": raw.last})
        with pytest.raises(InvalidArgs):
            await client.call("Acknowledge", "ta{st}", raw.number, {"parrot": raw.last + 1})


async def test_an_acknowledgement_in_pieces(client: Client, parrot: ScriptedChild) -> None:
    await client.make_process("parrot", *parrot.command)
    async with output(client, "parrot") as raw:
        parrot.say("one")
        seq = await raw.until_output(b"one\n")
        for byte in acknowledgement(parrot=seq):
            await raw.send(bytes([byte]))
        assert await raw.next("answer") == ANSWER
        assert (await client.listed("parrot"))["buffered"] == 0


async def test_one_that_floods_papad_with_acknowledgements(client: Client, other: Client) -> None:
    """It reads its answers, and asks for more all the time; another one is served meanwhile."""
    await client.make_process("flood", "sleep", "1000")
    await client.make_process("p", "sh", "-c", "head -c 3000000 /dev/zero; exit 3", bufsize=Variant("t", 4_000_000))
    async with output(client, "flood") as raw:
        many, answers = acknowledgement(flood=0) * 1000, 0

        async def flood() -> None:
            while True:
                await raw.send(many)

        async def read() -> None:
            nonlocal answers
            while True:
                assert await raw.next("answer") == ANSWER
                answers += 1
                raw.frames.clear()

        tasks = [asyncio.create_task(flood()), asyncio.create_task(read())]
        await until(lambda: answers > 1000, "answers")
        async with output(other, "p") as good:
            while (frame := await good.frame())[0] != "exited":
                if frame[0] == "output":
                    await good.acknowledge(p=frame[2][-1][0])
            assert good.data() == bytes(3_000_000)
        before = answers
        await until(lambda: answers > before, "more answers")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_one_that_reads_no_answers(client: Client, papad: Papad) -> None:
    """It is not read from any more; once it reads, each acknowledgement has its answer."""
    await client.make_process("p", "sleep", "1000")
    async with output(client, "p") as raw:
        one, sent = acknowledgement(p=0), 0
        refused = 0
        while refused < 20:
            try:
                while True:
                    sent += raw.socket.send(one * 1000)
                    refused = 0
            except BlockingIOError:
                await client.call("ListValues", "as", [])  # papad has had a turn
                refused += 1
        assert sent < 20_000_000
        if sent % len(one):
            await raw.send(one[sent % len(one) :])
            sent += len(one) - sent % len(one)
        for _ in range(sent // len(one)):
            assert await raw.next("answer") == ANSWER


# -------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize("mode", ["consume", "observe"])
async def test_an_end_by_removal(client: Client, tmp_path: Path, mode: str) -> None:
    gate = Gate(tmp_path)
    await client.make_process("p", "sh", "-c", f"({gate.wait()}) & exit 3")
    async with output(client, "p") as first:
        exited = await first.next("exited")
        await first.acknowledge(p=exited[2])
        assert (await first.until_end())[-2:] == [("ended", "finished"), EOF]
    async with output(client, "p", mode=Variant("s", mode)) as raw:
        await client.call("RemoveProcesses", "as", ["p"])
        assert (await raw.until_end())[-2:] == [("ended", "removed"), EOF]
    await gate.open()


async def test_an_observers_end(client: Client) -> None:
    await client.make_process("p", "sh", "-c", "echo words; exit 3")
    async with output(client, "p", mode=OBSERVE) as raw:
        left = await raw.until_end()
        assert [frame[0] for frame in left] == ["output", "exited", "ended", "eof"]
        assert left[-2] == ("ended", "finished")


class _Revocable(Access):
    """The test says whether callers are served, and whether they may do more than inspect."""

    may = manages = True

    def admits(self, caller: Caller, right: Right = Right.MANAGE) -> bool:
        return self.may and (self.manages or right is Right.INSPECT)

    async def belongs(self, caller: Caller) -> bool:
        return self.may and self.manages


async def test_one_who_may_hear_no_more_is_told_and_gets_nothing_more(bus_address: str, parrot: ScriptedChild) -> None:
    access = _Revocable()
    async with papad_inside(bus_address, access) as papad:
        async for client in connected(bus_address):
            await client.make_process("parrot", *parrot.command)
            async with output(client, "parrot") as raw, output(client, "parrot", mode=OBSERVE) as reader:
                parrot.say("heard")
                seq = await raw.until_output(b"heard\n")
                await reader.until_output(b"heard\n")
                access.may = False
                await raw.acknowledge(parrot=seq)  # that much was its own
                assert await raw.next("answer") == ANSWER
                parrot.say("not heard")
                assert await raw.until_end() == [("ended", "revoked"), EOF]
                assert await reader.until_end() == [("ended", "revoked"), EOF]
                assert papad.kernel.list_processes()[0].buffered == 10


async def test_a_stranger_is_given_no_socket(bus_address: str, parrot: ScriptedChild) -> None:
    access = _Revocable()
    async with papad_inside(bus_address, access) as papad:
        async for client in connected(bus_address):
            await client.make_process("parrot", *parrot.command)
            access.manages = False
            with pytest.raises(AccessDenied):
                await opened(client, "parrot")
            async with output(client, "parrot", mode=OBSERVE) as raw:  # who may inspect may observe
                parrot.say("one")
                await raw.until_output(b"one\n")
            access.may = False
            for mode in ("consume", "observe"):
                with pytest.raises(AccessDenied):
                    await opened(client, "parrot", mode=Variant("s", mode))
            access.may = access.manages = True
            await until(partial(no_sockets, papad), "no socket")


async def test_a_watch_that_cannot_go_on_says_so(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CURSORS_OF_CLIENT", 3)
    async with papad_inside(bus_address):
        async for client in connected(bus_address):
            async with output(client, "p*", mode=OBSERVE, follow=FOLLOW) as raw:
                for number in range(4):
                    await client.make_process(f"p{number}", "sleep", "1000")
                assert (await raw.until_end())[-2:] == [("ended", "failed"), EOF]


async def test_what_was_sent_before_the_end_can_be_read_after_it(client: Client) -> None:
    """A client that is late finds all of it, and then the end."""
    size = 600_000
    await client.make_process("p", "sh", "-c", f"head -c {size} /dev/zero; exit 3")
    await client.until_ended("p")
    async with output(client, "p", mode=OBSERVE) as raw:
        await client.until_ended("p")  # papad has filled the socket, and waits
        left = await raw.until_end()
        assert left[-2:] == [("ended", "finished"), EOF]
        assert len(raw.data()) == size


async def test_the_last_words_are_not_kept_for_ever(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_socket, "_LAST_WORDS", 0.1)
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            size = 250_000  # is sent at once, and is more than the socket holds
            await client.make_process("p", "sh", "-c", f"head -c {size} /dev/zero")
            await client.until_ended("p")
            monkeypatch.setattr(socket, "socketpair", small_sockets)
            raw = await opened(client, "p", mode=OBSERVE)
            with closing(raw):
                assert papad.server._subscriptions._sockets._shares.held == 1
                await until(lambda: papad.server._subscriptions._sockets.remains._left, "end of the socket")
                assert await raw.until_end() == [GREETING, CUT]
                await until(partial(no_sockets, papad), "that nothing is left in it")


def small_sockets() -> tuple[socket.socket, socket.socket]:
    """A socket pair that holds little."""
    own, theirs = SOCKETPAIR()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    return own, theirs


async def test_a_client_that_closes_its_socket(client: Client, parrot: ScriptedChild) -> None:
    await client.make_process("parrot", *parrot.command)
    parrot.say("one")
    async with output(client, "parrot") as raw, output(client, "parrot") as second:
        await raw.until_output(b"one\n")
        raw.close()
        await until_gone(client, raw.number)
        await second.acknowledge(parrot=await second.until_output(b"one\n"))
        assert await second.next("answer") == ANSWER
        await client.until_buffered("parrot", 0)  # the other does not hold it any more
        second.close()
        await until_gone(client, second.number)
        parrot.say("two")
    async with output(client, "parrot") as third:
        await third.until_output(b"two\n")
        assert third.data() == b"two\n"


async def test_unwatch_closes_the_socket(client: Client, parrot: ScriptedChild) -> None:
    await client.make_process("parrot", *parrot.command)
    async with output(client, "parrot") as raw, output(client, "parrot") as second:
        parrot.say("one")
        await raw.until_output(b"one\n")
        await client.call("Unwatch", "t", raw.number)
        assert await raw.until_end() == [EOF]
        await second.acknowledge(parrot=await second.until_output(b"one\n"))
        assert await second.next("answer") == ANSWER
        await client.until_buffered("parrot", 0)


async def test_what_was_sent_can_be_read_after_unwatch(client: Client) -> None:
    size = 1_000_000
    await client.make_process("p", "sh", "-c", f"head -c {size} /dev/zero; exec sleep 1000")
    await client.until_written("p", size)
    async with output(client, "p") as raw:
        await raw.next("output")
        await client.call("Unwatch", "t", raw.number)
        assert (await raw.until_end())[-1] in (EOF, CUT)
        assert 0 < len(raw.data()) < size


@pytest.mark.root
async def test_whoever_has_the_socket_has_the_watch(client: Client, parrot: ScriptedChild) -> None:
    """A client's child that is a user without rights acknowledges."""
    await client.make_process("parrot", *parrot.command)
    async with output(client, "parrot") as raw:
        parrot.say("one")
        frame = acknowledgement(parrot=await raw.until_output(b"one\n"))
        sender = await asyncio.create_subprocess_exec(
            "cat", stdin=PIPE, stdout=raw.socket.fileno(), user=65534, group=65534
        )
        await sender.communicate(frame)
        assert await raw.next("answer") == ANSWER
        await client.until_buffered("parrot", 0)


async def test_a_client_that_leaves_the_bus(client: Client, papad: Papad, parrot: ScriptedChild) -> None:
    await client.make_process("parrot", *parrot.command)
    parrot.say("one")
    leaver = Client(papad.address)
    await leaver.bus.start()
    raw = await opened(leaver, "parrot")
    with closing(raw):
        await raw.until_output(b"one\n")
        await leaver.bus.close()
        assert await raw.until_end() == [EOF]
    async with output(client, "parrot") as second:
        await second.until_output(b"one\n")


async def test_nobody_who_takes_the_socket(client: Client, papad: Papad) -> None:
    """A call that wants no answer, and one that is wrong, leave no watch and no socket."""
    await client.make_process("p", "sleep", "1000")
    before = sockets_of(papad.process.pid)
    for _ in range(3):
        client.bus.send(
            Message(
                destination=BUS_NAME, path=OBJECT_PATH, interface=BUS_NAME, member="OpenOutput", signature="asa{sv}",
                body=[["p"], {}], flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )  # fmt: skip
    with pytest.raises(NotFound):
        await opened(client, "nosuch")
    with pytest.raises(InvalidArgs):
        await opened(client, "p", mode=Variant("s", "sideways"))
    await until(lambda: sockets_of(papad.process.pid) <= before, "no socket more")


# ---------------------------------------------------------------------------------- clients gone wrong


@pytest.mark.parametrize("size", [1, 7, 8, 9, 20])
async def test_a_client_that_dies_in_the_middle_of_a_frame(client: Client, parrot: ScriptedChild, size: int) -> None:
    await client.make_process("parrot", *parrot.command)
    parrot.say("one")
    async with output(client, "parrot") as raw, output(client, "parrot") as second:
        seq = await raw.until_output(b"one\n")
        await raw.send(acknowledgement(parrot=seq)[:size])
        raw.close()
        await until_gone(client, raw.number)
        assert (await client.listed("parrot"))["buffered"] == 4  # half an acknowledgement is none
        await second.acknowledge(parrot=await second.until_output(b"one\n"))
        assert await second.next("answer") == ANSWER
        assert (await client.listed("parrot"))["buffered"] == 0


GARBAGE = {
    "a web page": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(100),
    "a frame of papad's": struct.pack("<IB3x", 8, 5) + b"finished",
    "a kind that is not there": struct.pack("<IB3x", 2, 99) + b"\0\0",
    "too large a frame": struct.pack("<IB3x", 32_769, 16),
    "the largest number": b"\xff" * 8,
    "too many processes": struct.pack("<IB3x", 2, 16) + struct.pack("<H", 65),
    "a name that is too short": struct.pack("<IB3x", 13, 16) + struct.pack("<HQH", 1, 1, 2) + b"p",
    "a name that is no text": struct.pack("<IB3x", 13, 16) + struct.pack("<HQH", 1, 1, 1) + b"\xff",
    "something behind the processes": struct.pack("<IB3x", 5, 16) + b"\0\0abc",
    "no body": struct.pack("<IB3x", 0, 16),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_ends_its_own_watch(client: Client, papad: Papad, parrot: ScriptedChild, garbage: bytes) -> None:
    await client.make_process("parrot", *parrot.command)
    async with output(client, "parrot") as raw, output(client, "parrot") as second:
        parrot.say("one")
        seq = await raw.until_output(b"one\n")
        await raw.acknowledge(parrot=seq)
        assert await raw.next("answer") == ANSWER
        await raw.send(garbage)
        assert await raw.until_end() == [EOF]
        await until_gone(client, raw.number)
        parrot.say("two")
        await second.until_output(b"two\n")
        await second.acknowledge(parrot=second.last)
        assert await second.next("answer") == ANSWER
    assert papad.log.read_text().count("sends what makes no sense") == 1


async def test_garbage_does_not_fill_the_log(client: Client, papad: Papad) -> None:
    await client.make_process("p", "sleep", "1000")
    for _ in range(30):
        async with output(client, "p", mode=OBSERVE) as raw:
            await raw.send(b"\xff" * 8)
            assert await raw.until_end() == [EOF]
    assert papad.log.read_text().count("sends what makes no sense") == 10


async def test_one_that_never_acknowledges(client: Client, other: Client, papad: Papad) -> None:
    """It neither acknowledges nor reads, in many watches: others have everything, and papad's memory is as before."""
    size, window = 8_000_000, Variant("t", 8_000_000)
    await client.make_process("p", "sh", "-c", f"head -c {size} /dev/zero; exec sleep 1000", bufsize=Variant("t", size))
    await client.until_written("p", size)
    before = memory_of(papad.process.pid)
    outputs = [await opened(client, "p", window=window) for _ in range(100)]
    with closing(*outputs):
        async with output(other, "p") as good:
            while len(good.data()) < size:
                frame = await good.next("output")
                await good.acknowledge(p=frame[2][-1][0])
            assert await good.next("answer") == ANSWER
        grown = memory_of(papad.process.pid) - before
        assert grown < 64_000_000  # of 800 MB that they might have
        # One that reads at last has all of it.
        late = outputs[0]
        while len(late.data()) < size:
            frame = await late.next("output")
            await late.acknowledge(p=frame[2][-1][0])
        assert late.data() == bytes(size)


def memory_of(pid: int) -> int:
    """The bytes of memory that a process has to itself."""
    [kib] = re.findall(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) * 1024


async def test_a_thousand_watches_of_one_that_stops_reading(client: Client, papad: Papad, tmp_path: Path) -> None:
    """256 by sockets and the rest by the bus, of a client that reads neither; another one of its user is served."""
    size, gate = 3_000_000, Gate(tmp_path)
    script = f"{gate.wait()}; head -c {size} /dev/zero; exit 3"
    await client.make_process("p", "sh", "-c", script, bufsize=Variant("t", size))
    window = Variant("t", 67_108_864)
    async with consumer(papad.address) as stalled:
        outputs = [await opened(stalled, "p", window=window) for _ in range(limits.MAX_OUTPUT_SOCKETS_OF_CLIENT)]
        with closing(*outputs):
            for _ in range(1000 - len(outputs)):
                await stalled.watch("p", window=window)
            stalled.stall()
            before = memory_of(papad.process.pid)
            await gate.open()
            async with output(client, "p", window=window) as good:
                while (frame := await good.frame())[0] != "exited":
                    if frame[0] == "output":
                        await good.acknowledge(p=frame[2][-1][0])
                        assert await client.call("ListValues", "as", []) == {}  # its calls are answered as well
                assert good.data() == bytes(size)
                await good.acknowledge(p=frame[2])
                assert (await good.until_end())[-2:] == [("ended", "finished"), EOF]
            assert memory_of(papad.process.pid) - before < 100_000_000  # of 3 GB that they might have
            assert sum(len(received(each)) for each in outputs) <= limits.MAX_FLIGHT_OF_USER + limits.MAX_SHARES_OF_USER
        stalled.go_on()
        await stalled.call("ListValues", "as", [])


def received(raw: RawOutput) -> bytes:
    """What lies in a socket."""
    data = b""
    try:
        while piece := raw.socket.recv(1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data


# ------------------------------------------------------------------------------------------- bounds


async def test_more_sockets_than_a_client_may_have(client: Client, other: Client) -> None:
    await client.make_process("p", "sleep", "1000")
    most = limits.MAX_OUTPUT_SOCKETS_OF_CLIENT
    outputs = [await opened(client, "p") for _ in range(most)]
    with closing(*outputs):
        with pytest.raises(Limit, match=f"{most} sockets"):
            await opened(client, "p")
        number = await client.watch("p")
        assert number == outputs[-1].number + 2
        async with output(other, "p"):  # another client is not concerned
            pass
        outputs[7].close()
        await until_gone(client, outputs[7].number)
        async with output(client, "p"):
            pass


@pytest.mark.parametrize("how", ["read", "close"])
async def test_what_is_left_in_the_socket_of_an_ended_watch_counts(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Else one could have papad fill as many sockets as it has descriptors: Linux keeps what is not read."""
    monkeypatch.setattr(limits, "MAX_OUTPUT_SOCKETS_OF_USER", 3)
    async with papad_inside(bus_address) as papad:
        async for client in connected(bus_address):
            await client.make_process("p", "sh", "-c", "head -c 100000 /dev/zero; exec sleep 1000")
            await client.until_buffered("p", 100_000)
            outputs: list[RawOutput] = []
            async for leaver in connected(bus_address):  # another who is gone, and still has its socket
                outputs.append(await opened(leaver, "p", mode=OBSERVE))
                await until(partial(has_sent, papad, outputs[0]), "output")
            outputs.append(await opened(client, "p", mode=OBSERVE))
            with closing(*outputs):
                await until(partial(has_sent, papad, outputs[1]), "output")
                await client.call("Unwatch", "t", outputs[1].number)
                with pytest.raises(Limit):
                    await opened(client, "p")
                for each in outputs:
                    if how == "read":
                        assert (await each.until_end())[-1] == EOF
                        assert each.data() == bytes(100_000)
                    else:
                        each.close()
                    async with output(client, "p"):
                        pass
            await until(partial(no_sockets, papad), "end of the sockets")


async def test_the_sockets_of_a_user_and_of_all_are_bounded(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No client and no user has more than is left for the others."""
    for of, most in (("OF_CLIENT", 100), ("OF_USER", 8)):
        monkeypatch.setattr(limits, f"MAX_OUTPUT_SOCKETS_{of}", most)
    for in_all, expected in ((100, [4, 2, 1]), (8, [4, 0, 0])):
        monkeypatch.setattr(limits, "MAX_OUTPUT_SOCKETS", in_all)
        async with papad_inside(bus_address) as papad:
            outputs: list[RawOutput] = []
            async for first in connected(bus_address):
                await first.make_process("p", "sleep", "1000")
                async for second in connected(bus_address):
                    async for third in connected(bus_address):
                        got = [await as_many_as_possible(each, outputs) for each in (first, second, third)]
                        assert got == expected
            with closing(*outputs):
                for each in outputs:
                    assert await each.until_end() == [GREETING, EOF]
                await until(partial(no_sockets, papad), "end of the sockets")


def no_sockets(papad: Inside) -> bool:
    """Whether it has closed all sockets of OpenOutput."""
    return not papad.server._subscriptions._sockets._shares.held


def has_sent(papad: Inside, output: RawOutput) -> bool:
    """Whether it has sent output on a socket."""
    return papad.server._subscriptions._by_number[output.number].in_socket > 0


async def as_many_as_possible(client: Client, outputs: list[RawOutput]) -> int:
    """Open sockets until there are too many."""
    count = 0
    while True:
        try:
            outputs.append(await opened(client, "p"))
        except Limit:
            return count
        count += 1


async def test_beyond_the_bound_the_client_uses_signals(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_OUTPUT_SOCKETS_OF_CLIENT", 2)
    async with papad_inside(bus_address), aio.connect(bus_address, timeout=PATIENCE) as kernel:
        watches = []
        for number in range(5):
            await kernel.make_process(f"p{number}", ["sh", "-c", f"echo {number}; exit 3"])
            watches.append(kernel.watch(f"p{number}"))
            await watches[-1].open()
        assert len(kernel.link.watches._sockets) == 2
        for number, watch in enumerate(watches):
            async with asyncio.timeout(PATIENCE):
                events = [event async for event in watch]
            assert [getattr(event, "data", b"") for event in events] == [b"%d\n" % number, b""]
        assert await kernel.list_processes() == {}


@pytest.mark.parametrize("first", [struct.pack("<IB3xI", 4, 1, 2), struct.pack("<IB3x", 1024 * 1024 + 1, 2)])
async def test_a_papad_whose_frames_are_others_is_heard_by_signals(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    """A version that is not known, and a frame that is too large."""
    monkeypatch.setattr(output_frames, "greeting", lambda: first)
    async with papad_inside(bus_address), aio.connect(bus_address, timeout=PATIENCE) as kernel:
        await kernel.make_process("p", ["sh", "-c", "echo one; exit 3"])
        async with asyncio.timeout(PATIENCE):
            events = [event async for event in kernel.watch("p")]
        assert [getattr(event, "data", b"") for event in events] == [b"one\n", b""]
        assert await kernel.list_processes() == {}


# ------------------------------------------------------------------------------------------ papad ends


async def again(papad: SupervisedPapad, how: str) -> None:
    """Have another papad take over."""
    if how == "reload":
        await asyncio.to_thread(papad.reload)
        return
    await asyncio.to_thread(papad.kill if how == "kill" else papad.terminate)
    await asyncio.to_thread(papad.start)


@pytest.fixture
async def supervised(bus_address: str, tmp_path: Path) -> AsyncIterator[SupervisedPapad]:
    """A papad that finds its descriptors again."""
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    yield papad
    assert "Traceback" not in papad.stop()


@pytest.mark.parametrize("how", ["restart", "reload", "kill"])
async def test_a_raw_client_goes_on_after_each_end_of_papad(
    supervised: SupervisedPapad, parrot: ScriptedChild, how: str
) -> None:
    """It goes on after what it has acknowledged: nothing is lost, and nothing comes twice."""
    async for client in connected(supervised.address):
        await client.make_process("parrot", *parrot.command)
        got: list[tuple[int, bytes]] = []
        for number in range(4):
            async with output(client, "parrot") as raw:
                parrot.say(f"{number}a")
                await raw.until_output(b"a\n")
                got += [(raw.last, raw.data())]
                await raw.acknowledge(parrot=raw.last)
                assert await raw.next("answer") == ANSWER
                parrot.say(f"{number}b")
                await raw.until_output(b"b\n")  # and is not acknowledged
                await again(supervised, how)
                assert (await raw.until_end())[-1] in (EOF, CUT)
            async with output(client, "parrot") as raw:
                await raw.until_output(b"b\n")
                got += [(raw.last, raw.data())]
                await raw.acknowledge(parrot=raw.last)
                assert await raw.next("answer") == ANSWER
        assert got == [(n + 1, f"{n // 2}{'ab'[n % 2]}\n".encode()) for n in range(8)]
        parrot.end()
        async with output(client, "parrot") as raw:
            exited = await raw.next("exited")
            assert exited[2] == 9
            await raw.acknowledge(parrot=9)
            assert (await raw.until_end())[-2:] == [("ended", "finished"), EOF]
        assert await client.call("ListProcesses", "as", []) == {}


WRITER = """
n=0
while ! [ -e {end} ]; do
    echo line $n
    n=$((n+1))
    [ $((n % 50)) = 0 ] && sleep 0.01  # paces the load
done
exit 3
"""


@pytest.mark.parametrize("way", ["socket", "signals"])
@pytest.mark.parametrize("how", ["restart", "reload", "kill"])
async def test_the_library_reads_on(supervised: SupervisedPapad, tmp_path: Path, how: str, way: str) -> None:
    """papad ends several times under a busy watch: each line comes once, in order."""
    async with aio.connect(supervised.address, timeout=PATIENCE) as kernel:
        by_signals(kernel, way == "signals")
        await kernel.make_process("p", ["sh", "-c", WRITER.format(end=tmp_path / "end")])
        text, code, ends, after = b"", None, 0, 0
        async with asyncio.timeout(3 * PATIENCE):
            async for event in kernel.watch("p"):
                match event:
                    case aio.Record():
                        text += event.data
                    case aio.Exited():
                        code = event.exit_code
                    case _:
                        raise AssertionError(event)
                if ends == 4:
                    (tmp_path / "end").touch()
                elif len(text) > after:
                    assert bool(kernel.link.watches._sockets) == (way == "socket")
                    await again(supervised, how)
                    ends, after = ends + 1, len(text) + 5000
        assert text == b"".join(b"line %d\n" % n for n in range(text.count(b"\n")))
        assert (code, ends) == (3, 4)


def by_signals(kernel: aio.Kernel, on: bool) -> None:
    """Have a client do without sockets: it tries again whether papad has them after each of its ends."""
    if on:
        kernel.link.watches._bus = _NoDescriptors(kernel.link.bus)  # type: ignore[assignment]


class _NoDescriptors:
    """A bus that passes none."""

    passes_descriptors = False

    def __init__(self, bus: Any) -> None:
        self._bus = bus

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


async def test_no_descriptor_is_left_in_papad(client: Client, papad: Papad) -> None:
    """Whatever way a watch ends."""
    pid = papad.process.pid
    await client.make_process("p", "sleep", "1000")
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(20):
        async with output(client, "p"), output(client, "p") as second, output(client, "p") as third:
            await third.send(b"\xff" * 8)
            await client.call("Unwatch", "t", second.number)
    await until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= descriptors, f"{descriptors} descriptors")
    os.kill((await client.listed("p"))["pid"], signal.SIGKILL)
