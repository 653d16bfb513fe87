"""Who is served on a bus that lets everybody in, and that one sender's calls stay in their order."""

import asyncio
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.service import log_budget
from tests.bus.client import Client, connected
from tests.bus.daemon import Papad, start_papad
from tests.support import PATIENCE

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>{address}</listen><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*" eavesdrop="true"/><allow receive_sender="*" eavesdrop="true"/></policy></busconfig>"""


@pytest.fixture
def open_bus(tmp_path: Path) -> Iterator[str]:
    """A message bus that every user may connect to, own any name on and send anything."""
    address = f"unix:abstract=papa-test-{uuid.uuid4().hex}"
    config = tmp_path / "bus.conf"
    config.write_text(CONFIG.format(address=address))
    command = ["dbus-daemon", "--nofork", "--nosyslog", f"--config-file={config}", "--print-address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as bus:
        assert bus.stdout is not None
        assert bus.stdout.readline()
        yield address
        bus.terminate()


@pytest.mark.root
async def test_defect_01_another_user_is_refused_each_call(open_bus: str, tmp_path: Path) -> None:
    papad = start_papad(open_bus, tmp_path / "line")
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "busctl", f"--address={open_bus}"]
    kernel = ["org.papa.Kernel", "/org/papa/Kernel"]
    for call in (
        ["call", *kernel, "org.papa.Kernel", "SetValue", "ss", "v", "x"],
        ["call", *kernel, "org.papa.Kernel", "ListProcesses", "as", "0"],
        ["call", *kernel, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"],
        ["get-property", *kernel, "org.papa.Kernel", "Version"],
        ["introspect", *kernel],
    ):
        done = subprocess.run([*other, *call], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode != 0
        assert "Access denied" in done.stderr, done.stderr
    async for client in connected(open_bus):
        assert await client.call("ListValues", "as", []) == {}
    log = papad.stop()
    assert 1 <= log.count("(PID ") <= log_budget.MAX_RECORDS
    assert "was refused: papad serves root; you are user 65534" in log


async def test_the_calls_of_one_sender_stay_in_their_order(papad: Papad, client: Client) -> None:
    """Those that came before it was known whose they are, and those after."""
    calls = [client.call("SetValue", "ss", "v", str(number)) for number in range(500)]
    *_, last = await asyncio.gather(*calls, client.call("GetValue", "s", "v"))
    assert last == "499"
