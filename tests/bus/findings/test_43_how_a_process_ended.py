"""How a process ended is never a guess: State and ExitKnown say what is known."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.client.records import Process
from papa_dbus.service.fork.exit_status import WITHOUT_INFO
from tests.bus.client import Client, connected
from tests.bus.isolated import SupervisedPapad
from tests.papactl import Papactl

PROPERTIES = "org.freedesktop.DBus.Properties"
PROCESS = "org.papa.Kernel.Process"
NAMES = ("Running", "State", "ExitCode", "ExitKnown")


@pytest.fixture
def supervised(bus_address: str, tmp_path: Path) -> Iterator[SupervisedPapad]:
    """A papad that cannot know the exit code of a process which is not its child, as on an older Linux."""
    papad = SupervisedPapad(bus_address, tmp_path, environment={WITHOUT_INFO: "1"})
    papad.start()
    yield papad
    papad.stop()


@pytest.fixture
async def caller(bus_address: str, supervised: SupervisedPapad) -> AsyncIterator[Client]:
    """A client that hears what everybody may."""
    async for client in connected(bus_address):
        rule = f"type='signal',interface='{PROPERTIES}'"
        await client.bus.call(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [rule]
        )
        yield client


async def properties(client: Client, name: str) -> dict[str, Any]:
    path = f"/org/papa/Kernel/process/{name}"
    found = await client.call("GetAll", "s", PROCESS, interface=PROPERTIES, path=path)
    return {key: found[key] for key in NAMES}


async def end_of(client: Client, name: str) -> dict[str, Any]:
    """Wait for the signal that tells of a process's end."""
    path = f"/org/papa/Kernel/process/{name}"

    def told() -> dict[str, Any] | None:
        for heard in client.signals:
            if heard.path == path and heard.member == "PropertiesChanged" and not heard.body[1]["Running"].value:
                return {key: variant.value for key, variant in heard.body[1].items()}
        return None

    found: dict[str, Any] = await client.wait(told, f"end of {name}")
    return found


async def test_43_each_way_to_end_is_told_apart(supervised: SupervisedPapad, caller: Client) -> None:
    papactl = Papactl(supervised.address)
    pids = {}
    for name, command in (
        ("well", ["sh", "-c", "echo out"]),
        ("badly", ["sh", "-c", "echo out; exit 3"]),
        ("killed", ["sh", "-c", "echo out; kill -TERM $$"]),
        ("unseen", ["sh", "-c", "echo out; exec sleep 600"]),
    ):
        pids[name] = (await caller.make_process(name, *command))["pid"]
    ends = {name: await end_of(caller, name) for name in ("well", "badly", "killed")}
    assert all(end.pop("ExitTimestamp") for end in ends.values())
    assert ends == {
        "well": {"Running": False, "State": "exited", "ExitCode": 0, "ExitKnown": True},
        "badly": {"Running": False, "State": "exited", "ExitCode": 3, "ExitKnown": True},
        "killed": {"Running": False, "State": "killed", "ExitCode": -signal.SIGTERM, "ExitKnown": True},
    }
    running = {"Running": True, "State": "running", "ExitCode": 0, "ExitKnown": False}
    assert await properties(caller, "unseen") == running
    supervised.kill()
    os.kill(pids["unseen"], signal.SIGKILL)
    supervised.start()
    listed = await caller.call("ListProcesses", "as", [])
    if listed["unseen"]["running"]:
        await end_of(caller, "unseen")
        listed = await caller.call("ListProcesses", "as", [])
    said = {name: (it["state"], it.get("exit_code"), it["exit_known"]) for name, it in listed.items()}
    assert said == {
        "well": ("exited", 0, True),
        "badly": ("exited", 3, True),
        "killed": ("killed", -signal.SIGTERM, True),
        "unseen": ("unknown", None, False),
    }
    ended = {"Running": False, "State": "unknown", "ExitCode": 0, "ExitKnown": False}
    assert await properties(caller, "unseen") == ended
    table = papactl("list", "processes").stdout.decode().splitlines()
    states = {row.split()[0]: row.split()[1] for row in table[1:]}
    assert states == {"well": "exit=0", "badly": "exit=3", "killed": "signal=TERM", "unseen": "unknown"}
    assert b"state: unknown" in papactl("show", "unseen").stdout
    assert b"Unknown: unseen ended, and nobody saw how" in papactl("status").stdout


def test_43_an_older_papads_answer_is_understood() -> None:
    facts: dict[str, Any] = {"name": "p", "pid": 1, "started": 0, "args": [], "uid": 0, "gid": 0, "working_dir": "/"}
    facts |= {"bufsize": 0, "buffered": 0, "dropped": 0, "last_seq": 0}
    said = [Process(**facts, running=not ended, exit_code=code) for ended, code in
            ((False, None), (True, 0), (True, -9), (True, None))]  # fmt: skip
    assert [(process.state, process.exit_known) for process in said] == [
        ("running", False),
        ("exited", True),
        ("killed", True),
        ("unknown", False),
    ]
