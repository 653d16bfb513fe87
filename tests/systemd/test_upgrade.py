"""One installed version of papad becomes another, `make install` and `systemctl reload papa`, and nobody notices."""

import json
import subprocess

import pexpect

from tests.systemd.bed import Bed
from tests.systemd.conftest import OFFLINE
from tests.systemd.test_serving import KERNEL, PYTHON, call

NEXT = "99.0.0"
STOP = "/run/papa-stop"
GO = "/run/papa-go"
WAIT = f"while [ ! -e {GO} ]; do sleep 0.05; done"
WRITER = f"{WAIT}; i=0; while [ ! -e {STOP} ]; do i=$((i+1)); echo $i; sleep 0.01; done; echo end; exit 6"

#: Watches on the bus with the client library, and prints all output as JSON.
WATCHER = """
import asyncio, json
from papa_dbus.client import aio
async def main():
    out, code = [], None
    async with aio.connect("system") as kernel:
        async with kernel.watch("writer") as events:
            print(flush=True)
            async for event in events:
                if isinstance(event, aio.Record):
                    out.append(event.data.decode())
                elif isinstance(event, aio.Exited):
                    code = event.exit_code
    print(json.dumps(["".join(out), code]))
asyncio.run(main())
"""

#: The same on port 20202.
LINE_WATCHER = """
import json, socket
file = socket.create_connection(("127.0.0.1", 20202), 60).makefile("rwb")
def until(end):
    data = b""
    while not data.endswith(end):
        byte = file.read(1)
        assert byte, data
        data += byte
    return data
def say(line):
    file.write(line); file.flush()
until(b"> "); say(b"watch p writer\\n"); until(b"\\n"); print(flush=True)
out, code = "", None
while True:
    head = file.read(2)
    if head == b"No":
        break
    if head == b"] ":
        say(b"\\n")
        continue
    kind, _, _, number = (head + file.readline()).decode().split(":")
    if kind == "closed":
        code = int(number)
    else:
        out += file.read(int(number) + 1).decode()[:-1]
print(json.dumps([out, code]))
"""


def test_reload_to_another_version(bare: Bed) -> None:
    """A telnet session, a watch on the bus and one on the line protocol, a socket that is served, a process."""
    bare.run(f"cd /root/papa && {OFFLINE} make install && systemctl start papa", timeout=300)
    call(bare, "MakeSocket", "sa{sv}", "web", "0")
    call(bare, "MakeProcess", "sasa{sv}", "writer", "3", "sh", "-c", WRITER, "0")
    telnet = bare.command(["telnet", "127.0.0.1", "20202"])
    screen = pexpect.spawn(telnet[0], telnet[1:], timeout=20, encoding="utf-8", echo=False)
    watchers = [
        subprocess.Popen(bare.command(["timeout", "120", PYTHON, "-c", program]), stdout=subprocess.PIPE, text=True)
        for program in (WATCHER, LINE_WATCHER)
    ]
    try:
        screen.expect("> ")
        screen.sendline("set before 1")
        screen.expect("> ")
        for watcher in watchers:  # they have begun
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "\n"
        bare.run(f"touch {GO}")
        pid = bare.run("systemctl show --property=MainPID --value papa").stdout
        old = bare.run(["busctl", "get-property", *KERNEL.split(), "Version"]).stdout
        bare.run(f"""cp -r /root/papa /root/next && cd /root/next &&
            sed -i 's/^__version__ = .*/__version__ = "{NEXT}"/' papa_dbus/__init__.py && {OFFLINE} make install""",
            timeout=300)  # fmt: skip
        assert bare.run(["busctl", "get-property", *KERNEL.split(), "Version"]).stdout == old
        cursor = bare.journal_cursor()
        bare.run("systemctl reload papa")
        bare.wait_for_journal(f"papad {NEXT} is ready", cursor)

        assert bare.run(["busctl", "get-property", *KERNEL.split(), "Version"]).stdout == f's "{NEXT}"\n'
        assert bare.run("systemctl show --property=MainPID --value papa").stdout == pid
        screen.sendline("get before")
        screen.expect("1\r?\n> ")
        screen.sendline("list processes writer")
        screen.expect("writer pid=[0-9]+ running=True")
        screen.expect("> ")
        bare.run(f"touch {STOP}")
        for watcher in watchers:
            text, code = json.loads(watcher.communicate(timeout=60)[0].split("\n")[-2])
            lines = text.split()
            assert lines == [*map(str, range(1, len(lines))), "end"]
            assert code == 6
        screen.sendline("quit")
        screen.expect("ok")
        screen.expect(pexpect.EOF)
    finally:
        screen.close(force=True)
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
    said = bare.journal(f"--after-cursor={cursor}", "--unit=papa.service", "--priority=warning")
    assert said == ""
