"""MakeProcesses: many processes in one call, each with its own result or its own error."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.bus import Variant
from papa_dbus.client import aio
from papa_dbus.client.aio import Process, ProcessRequest
from papa_dbus.errors import Exists, Limit, NotSupported, Spawn
from papa_dbus.service import limits
from papa_dbus.service.items.specs import ProcessSpec
from tests.bus.client import Client, connected
from tests.bus.daemon import Papad
from tests.bus.findings.inside import papad_inside
from tests.support import PATIENCE, turns

SLEEP = ["sleep", "1000"]
#: A name, a command and options.
Request = tuple[str, list[str], dict[str, Variant]]


async def make(client: Client, *requests: Request) -> list[list[Any]]:
    """Call MakeProcesses."""
    results: list[list[Any]] = await client.call("MakeProcesses", "a(sasa{sv})", [list(each) for each in requests])
    return results


async def test_each_has_its_own_result_or_error(client: Client) -> None:
    await client.make_process("there", "sleep", "1000")
    results = await make(
        client,
        ("one", SLEEP, {"umask": Variant("u", 0o27)}),
        ("no such", SLEEP, {}),
        ("missing", ["/no/such/program"], {}),
        ("wrong", SLEEP, {"nosuch": Variant("s", "x")}),
        ("there", ["sleep", "1001"], {}),
        ("two", SLEEP, {}),
        ("one", SLEEP, {"umask": Variant("u", 0o27)}),
        ("one", SLEEP, {}),
    )
    assert [(result[0], result[2]) for result in results] == [
        ("one", ""),
        ("no such", "org.freedesktop.DBus.Error.InvalidArgs"),
        ("missing", "org.papa.Error.Spawn"),
        ("wrong", "org.freedesktop.DBus.Error.InvalidArgs"),
        ("there", "org.papa.Error.Exists"),
        ("two", ""),
        ("one", ""),
        ("one", "org.papa.Error.Exists"),
    ]
    assert all(bool(text) == bool(error) != bool(made) for _, made, error, text in results)
    assert "/no/such/program" in results[2][3]
    assert "option 'nosuch'" in results[3][3]
    listed = await client.call("ListProcesses", "as", [])
    assert set(listed) == {"there", "one", "two"}
    assert listed["one"] == results[0][1] == results[6][1]
    assert listed["two"]["running"]


async def test_none_are_asked_for(client: Client) -> None:
    assert await make(client) == []


async def test_a_call_asks_for_512_processes_at_most(client: Client) -> None:
    requests: list[Request] = [(f"p{n}", ["true"], {}) for n in range(limits.MAX_REQUESTS_OF_CALL + 1)]
    with pytest.raises(Limit, match="MakeProcesses: 513 processes are asked for; make 512 at most in a call"):
        await make(client, *requests)
    assert await client.call("ListProcesses", "as", []) == {}


async def test_arguments_are_cut_as_in_a_list(client: Client) -> None:
    [[_, made, _, _]] = await make(client, ("p", ["sh", "-c", "sleep 1000", "x" * 5000], {}))
    assert made["args"] == ["sh", "-c", "sleep 1000", "…"]


async def test_asked_again_with_the_same_tokens_nothing_runs_twice(client: Client) -> None:
    requests = [(f"p{n}", SLEEP, {"token": Variant("s", f"t{n}")}) for n in range(3)]
    first = await make(client, *requests)
    os.kill(first[0][1]["pid"], signal.SIGKILL)
    await client.until_ended("p0")
    again = await make(client, *requests)
    assert [made["pid"] for _, made, _, _ in again] == [made["pid"] for _, made, _, _ in first]
    assert [made["running"] for _, made, _, _ in again] == [False, True, True]


async def test_so_many_of_a_call_are_started_at_a_time(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    starting, most, let_go = 0, 0, asyncio.Event()
    requests: list[Request] = [(f"p{n}", SLEEP, {}) for n in range(3 * limits.MAX_STARTS_OF_CALL)]
    results: list[list[Any]] = []

    async def hold(spec: ProcessSpec) -> None:
        nonlocal starting, most
        starting += 1
        most = max(most, starting)
        await let_go.wait()
        starting -= 1
        raise Spawn(f"process '{spec.name}': no")

    async with papad_inside(bus_address) as papad:
        monkeypatch.setattr(papad.kernel, "make_process", hold)
        async for client in connected(bus_address):
            making = asyncio.create_task(make(client, *requests))
            async with asyncio.timeout(PATIENCE):
                while starting < limits.MAX_STARTS_OF_CALL:
                    await asyncio.sleep(0)  # paces the loop: until these wait
            assert await client.call("ListValues", "as", []) == {}  # its sender's next call does not wait
            let_go.set()
            results += await making
    assert most == limits.MAX_STARTS_OF_CALL
    assert [result[3] for result in results] == [f"process 'p{n}': no" for n in range(len(requests))]


async def test_others_are_served_meanwhile(client: Client, other: Client) -> None:
    making = asyncio.create_task(make(client, *((f"p{n}", ["true"], {}) for n in range(300))))
    await turns()
    assert (await other.make_process("other", "true"))["name"] == "other"
    assert not making.done()
    assert all(not error for _, _, error, _ in await making)


async def test_each_counts_as_a_call_that_is_under_way(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PENDING_OF_SENDER", 8 * 66_000)
    async with papad_inside(bus_address):
        async for client in connected(bus_address):
            with pytest.raises(Limit, match="too many calls of yours are under way"):
                await make(client, *((f"p{n}", ["true"], {}) for n in range(9)))
            assert len(await make(client, *((f"p{n}", ["true"], {}) for n in range(7)))) == 7


async def test_a_defect_concerns_one_of_them(
    bus_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with papad_inside(bus_address) as papad:
        really = papad.kernel.make_process

        async def fail(spec: ProcessSpec) -> Any:
            if spec.name == "bad":
                raise ZeroDivisionError("secret")
            return await really(spec)

        monkeypatch.setattr(papad.kernel, "make_process", fail)
        async for client in connected(bus_address):
            bad, good = await make(client, ("bad", SLEEP, {}), ("good", SLEEP, {}))
            assert bad[2] == "org.freedesktop.DBus.Error.Failed"
            assert bad[3] == "internal error; the journal of papad has the details"
            assert good[1]["running"]
    assert "ZeroDivisionError: secret" in caplog.text


async def test_the_python_client(papad: Papad, tmp_path: Path) -> None:
    async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
        assert "make-processes" in (await kernel.info()).features
        requests = [
            ProcessRequest("a", SLEEP, working_dir=str(tmp_path)),
            ProcessRequest("b", ["/no/such/program"]),
            ProcessRequest("a", SLEEP),
        ]
        made, missing, other = await kernel.make_processes(*requests)
        assert isinstance(made, Process)
        assert made == (await kernel.list_processes())["a"]
        assert isinstance(missing, Spawn)
        assert isinstance(other, Exists)
        assert await kernel.make_processes() == []
        os.kill(made.pid, signal.SIGKILL)


async def test_what_an_older_papad_does_not_have_is_not_supported(papad: Papad) -> None:
    async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
        with pytest.raises(NotSupported, match="has no method 'MakeSomethingElse'"):
            await kernel.link.call("MakeSomethingElse", "s", "x")
