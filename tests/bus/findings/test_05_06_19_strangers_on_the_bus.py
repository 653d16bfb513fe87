"""A user without rights, whom the bus lets call papad for polkit's sake, holds up nobody and fills no journal."""

import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from papa_dbus.bus import Bus, Message, read_body
from papa_dbus.service import log_budget
from tests.bus.client import connected
from tests.bus.daemon import Papad, start_papad
from tests.bus.isolated import PrivateBus, as_user
from tests.support import PATIENCE

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[3]
_EVERYTHING = """<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy>"""


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    """A bus with the policy that is installed if polkit decides. Not in pytest's folder, which is its user's alone."""
    policy = (ROOT / "units/polkit/dbus-policy.conf").read_text()
    with tempfile.TemporaryDirectory(prefix="papa-test-") as folder:
        bus = PrivateBus(Path(folder), policy=_EVERYTHING + "".join(re.findall(r"(?s)<policy .*?</policy>", policy)))
        yield bus
        bus.stop()


@pytest.fixture
def papad(bus: PrivateBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Papad]:
    """A papad for which that is the system bus."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    papad = start_papad("system", tmp_path / "line")
    yield papad
    papad.stop()


@pytest.fixture
async def polkit(bus: PrivateBus) -> AsyncIterator[None]:
    """A polkit that says no at once, or nothing at all if it may ask a person."""
    polkit = Bus(bus.address)

    def hear(call: Message) -> None:
        read_body(call)
        if not call.body[3] & 1:
            polkit.send(Message.new_method_return(call, "(bba{ss})", [[False, False, {}]]))

    polkit.on_call = hear
    await polkit.start()
    driver = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    await polkit.call(*driver, "RequestName", "su", ["org.freedesktop.PolicyKit1", 4])
    yield
    await polkit.close()


@contextlib.asynccontextmanager
async def stranger(what: str, bus: PrivateBus, *numbers: int) -> AsyncIterator[None]:
    """Have a stranger send everything, and stay."""
    script = str(Path(__file__).with_name("stranger.py"))
    command = [*as_user(65534), sys.executable, script, what, bus.address, *map(str, numbers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(2 * PATIENCE):
            assert await asyncio.to_thread(process.stdout.readline) == b"sent\n"
        yield
        process.stdin.close()


@pytest.mark.usefixtures("polkit", "papad")
async def test_whoever_needs_no_polkit_does_not_wait_for_it(bus: PrivateBus) -> None:
    async for known in connected(bus.address):
        await known.call("SetValue", "ss", "v", "x")
        async with stranger("wait_for_persons", bus, 4, 4200):
            async for new in connected(bus.address):
                assert await new.call("ListValues", "as", []) == {"v": "x"}
            assert await known.call("ListValues", "as", []) == {"v": "x"}
            # Another user, for whom no person is asked, has an answer at once, too.
            call = ["call", "org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel", "GetValue", "s", "v"]
            busctl = [*as_user(1), "busctl", f"--address={bus.address}", "--allow-interactive-authorization=no", *call]
            done = await asyncio.to_thread(subprocess.run, busctl, capture_output=True, text=True, timeout=PATIENCE)
            assert "Access denied" in done.stderr


def seconds_of(pid: int) -> float:
    """The processor's time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.usefixtures("polkit")
async def test_what_nobody_may_send_is_not_read(bus: PrivateBus, papad: Papad) -> None:
    """Signatures that nobody has seen cost papad what any others do."""
    taken = []
    async for client in connected(bus.address):
        for signatures in (60, 6000):
            before = seconds_of(papad.process.pid)
            async with stranger("new_signatures", bus, 400, signatures):
                await client.call("ListValues", "as", [])
            taken.append(seconds_of(papad.process.pid) - before)
    assert taken[1] < 2 * taken[0] + 1, taken


@pytest.mark.usefixtures("polkit")
async def test_nonsense_and_whoever_leaves_do_not_fill_the_journal(bus: PrivateBus, papad: Papad) -> None:
    async with stranger("nonsense", bus, 200, 10):
        async for client in connected(bus.address):
            await client.call("ListValues", "as", [])
    log = papad.stop()
    assert "makes no sense" in log
    refusals = [line for line in log.splitlines() if re.search("makes no sense|not run|was refused", line)]
    assert len(refusals) <= log_budget.MAX_RECORDS + 1
