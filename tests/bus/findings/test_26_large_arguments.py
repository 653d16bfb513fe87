"""Large arguments of some processes keep nobody from listing what there is."""

import os
import signal
import socket

from tests.bus.client import Client
from tests.bus.daemon import Papad
from tests.bus.lineclient import LineClient
from tests.papactl import Papactl

LARGE = ["x" * 100_000] * 19


async def test_26_arguments_are_cut_in_listings_and_whole_by_name(
    papad: Papad, client: Client, papactl: Papactl
) -> None:
    """20 processes with 1.9 MB of arguments each fit into one answer, and papactl finds another one."""
    web = await client.make_process("web", "sleep", "600")
    pids = [web["pid"]]
    for number in range(20):
        made = await client.make_process(f"big{number}", "sh", "-c", "exec sleep 600", *LARGE)
        assert made["args"] == ["sh", "-c", "exec sleep 600", *LARGE]
        pids.append(made["pid"])
    listed = await client.call("ListProcesses", "as", [])
    assert len(listed) == 21
    assert listed["web"]["args"] == ["sleep", "600"]
    assert listed["big7"]["args"] == ["sh", "-c", "exec sleep 600", "…"]
    assert (await client.call("ListProcesses", "as", ["big7"]))["big7"]["args"][3:] == LARGE
    for patterns in (["big7", "web"], ["big7*"], [str(pids[8])]):
        assert (await client.call("ListProcesses", "as", patterns))["big7"]["args"][3:] == ["…"]
    objects = await client.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")
    assert objects["/org/papa/Kernel/process/big7"]["org.papa.Kernel.Process"]["Args"][3:] == ["…"]
    assert b"process: web" in papactl("show", "web").stdout
    assert b"big7" in papactl("list", "processes").stdout
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(papad.socket))
    with LineClient(connection) as line:
        line.reply()
        listed_lines = line.ask("list processes").splitlines()
    assert len(listed_lines) == 21
    assert listed_lines[0].endswith("args=sh -c exec\\x20sleep\\x20600 …")
    papactl("remove", "big*")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
