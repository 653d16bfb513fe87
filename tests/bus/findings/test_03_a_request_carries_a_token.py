"""What makes something is asked for with a token, the same one if it is asked again, so that it is made once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Message, Variant
from papa_dbus.client import aio
from papa_dbus.errors import InvalidArgs, NoReply
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.specs import ProcessSpec
from tests.bus.fakepapad import Answer, fake_papad
from tests.bus.findings.inside import papad_inside
from tests.bus.isolated import PrivateBus, SupervisedPapad
from tests.bus.test_bus_restart import Broker
from tests.support import PATIENCE, until

_SOCKET = {"name": Variant("s", "web"), "family": Variant("s", "inet"), "type": Variant("s", "stream"),
           "fileno": Variant("u", 7)}  # fmt: skip
_PROCESS = {
    "name": Variant("s", "p"), "pid": Variant("u", 7), "running": Variant("b", True), "started": Variant("t", 1),
    "args": Variant("as", ["x"]), "uid": Variant("u", 0), "gid": Variant("u", 0), "working_dir": Variant("s", "/"),
    "bufsize": Variant("t", 1), "buffered": Variant("t", 0), "dropped": Variant("t", 0), "last_seq": Variant("t", 0),
}  # fmt: skip


def _token_of(call: Message) -> Any:
    token = call.body[-1].get("token")
    return token and token.value


def _no_answer(_: Message) -> Answer:
    return None


def _process(_: Message) -> Answer:
    return "a{sv}", [_PROCESS]


def _socket(_: Message) -> Answer:
    return "a{sv}", [_SOCKET]


def _older(answer: Answer) -> Any:
    """Answer as a papad that knows no tokens."""
    return lambda call: InvalidArgs("unknown option 'token'; there are: env, uid") if _token_of(call) else answer


async def test_a_job_runs_once_over_a_kill(tmp_path: Path) -> None:
    bus = PrivateBus(tmp_path)
    papad = SupervisedPapad(bus.address, tmp_path)
    fault, ran = tmp_path / "fault", tmp_path / "ran"
    fault.touch()
    try:
        papad.start(PAPA_CRASH_POINT=f"process runs:{fault}")
        async with aio.connect(bus.address, timeout=PATIENCE) as kernel:
            making = asyncio.create_task(kernel.make_process("job", ["/bin/sh", "-c", f"echo $$ >> {ran}"]))
            await asyncio.to_thread(papad.wait_until_dead)
            await asyncio.to_thread(papad.start)
            made = await making
            await kernel.make_process("last", ["/bin/true"])
            await kernel.wait("last")
        assert ran.read_text() == f"{made.pid}\n"
    finally:
        papad.stop()
        bus.stop()


async def test_a_job_runs_once_over_a_lost_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus goes between the start and its answer; over the next one the first one's answer comes."""
    broker, ran = Broker(tmp_path), tmp_path / "ran"
    made: list[ProcessInfo] = []
    try:
        async with papad_inside(broker.address) as papad, aio.connect(broker.address, timeout=PATIENCE) as kernel:
            make_process = papad.kernel.make_process

            async def make_and_lose_the_bus(spec: ProcessSpec) -> ProcessInfo:
                made.append(await make_process(spec))
                if len(made) == 1:
                    await until(lambda: not papad.kernel.list_processes()[0].running, "the end of the job")
                    broker.stop()
                    broker.start()
                return made[-1]

            monkeypatch.setattr(papad.kernel, "make_process", make_and_lose_the_bus)
            answer = await kernel.make_process("job", ["/bin/sh", "-c", f"echo $$ >> {ran}"])
            assert [info.pid for info in made] == [answer.pid] * 2
        assert ran.read_text() == f"{answer.pid}\n"
    finally:
        broker.stop()


@pytest.mark.parametrize("kind", ["MakeSocket", "MakeProcess"])
async def test_all_repeats_of_a_call_have_its_token(bus_address: str, kind: str) -> None:
    answers = {"MakeSocket": _no_answer, "MakeProcess": _no_answer}
    async with fake_papad(bus_address, **answers) as first, aio.connect(bus_address, timeout=PATIENCE) as kernel:
        make = kernel.make_socket("web") if kind == "MakeSocket" else kernel.make_process("p", ["x"])
        making = asyncio.create_task(make)
        token = _token_of(await first.until(kind))
        assert 1 <= len(token) <= 64
        assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
        await first.bus.close()
        async with fake_papad(bus_address, MakeSocket=_socket, MakeProcess=_process) as second:
            async with asyncio.timeout(PATIENCE):
                await making
                await (kernel.make_socket("web") if kind == "MakeSocket" else kernel.make_process("p", ["x"]))
            again, other = map(_token_of, second.of(kind))
            assert again == token
            assert other != token


async def test_an_older_papad_is_asked_without_a_token_from_then_on(bus_address: str) -> None:
    answers = {"MakeProcess": _older(("a{sv}", [_PROCESS])), "MakeSocket": _older(("a{sv}", [_SOCKET]))}
    async with fake_papad(bus_address, **answers) as papad, aio.connect(bus_address) as kernel:
        await kernel.make_process("p", ["x"])
        await kernel.make_process("p", ["x"])
        await kernel.make_socket("web")
        assert [bool(_token_of(call)) for call in papad.calls] == [True, False, False, False]


async def test_another_fault_of_an_option_is_the_callers(bus_address: str) -> None:
    async with (
        fake_papad(bus_address, MakeSocket=lambda _: InvalidArgs("option 'host': no")) as papad,
        aio.connect(bus_address) as kernel,
    ):
        with pytest.raises(InvalidArgs, match="host"):
            await kernel.make_socket("web", host="-")
        assert len(papad.calls) == 1


async def test_an_older_papad_is_not_asked_twice_for_a_process(bus_address: str) -> None:
    async with fake_papad(bus_address, MakeProcess=_older(None)) as papad, aio.connect(bus_address) as kernel:
        making = asyncio.create_task(kernel.make_process("p", ["x"]))
        await papad.until("MakeProcess", 2)
        await papad.bus.close()
        async with fake_papad(bus_address, MakeProcess=_process) as second:
            with pytest.raises(NoReply, match="it may have been made"):
                async with asyncio.timeout(PATIENCE):
                    await making
            assert not second.calls


async def test_an_older_papad_is_asked_again_for_a_socket(bus_address: str) -> None:
    async with fake_papad(bus_address, MakeSocket=_older(None)) as papad, aio.connect(bus_address) as kernel:
        making = asyncio.create_task(kernel.make_socket("web"))
        await papad.until("MakeSocket", 2)
        await papad.bus.close()
        async with fake_papad(bus_address, MakeSocket=_older(("a{sv}", [_SOCKET]))):
            async with asyncio.timeout(PATIENCE):
                assert (await making).name == "web"
