"""One installed version of papad becomes another, `make install` and `systemctl reload papa`, and nobody notices."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest

from tests.systemd.container import Container
from tests.systemd.machines import OFFLINE
from tests.systemd.test_serving import KERNEL, PYTHON, call

pytestmark = pytest.mark.timeout(700, func_only=True)  # seconds: what is needed is installed twice

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
until(b"> "); say(b"watch p line-writer\\n"); until(b"\\n"); print(flush=True)
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


#: Serves on a hosted socket, and connects to it constantly: how many were answered, and how many not.
SERVER = """
import socket
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"served")
    connection.close()
"""
CONNECTOR = f"""
import json, os, socket, sys
print(flush=True)
counts = [0, 0]
while not os.path.exists("{STOP}"):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as connection:
            counts[connection.recv(6) != b"served"] += 1
    except OSError:
        counts[1] += 1
print(json.dumps(counts))
"""


def version(container: Container) -> str:
    """Give the version that the kernel says it has."""
    return container.run(["busctl", "get-property", *KERNEL.split(), "Version"]).stdout.split('"')[1]


def main_pid(container: Container) -> str:
    """Give the service's main PID."""
    return container.run("systemctl show --property=MainPID --value papa").stdout.strip()


@contextmanager
def load(container: Container, python: str) -> Iterator[None]:
    """A telnet session, a watch on the bus and one on the line protocol, a served socket, a process that prints.

    None of them notices what is done meanwhile, and the journal has no complaint. ``python`` has the client library.
    """
    port = call(container, "MakeSocket", "sa{sv}", "web", "0").split('"port" q ')[1].split()[0]
    for name in ("writer", "line-writer"):  # of one each: what the other acknowledges would be gone for a bus's watch
        call(container, "MakeProcess", "sasa{sv}", name, "3", "sh", "-c", WRITER, "0")
    call(container, "MakeProcess", "sasa{sv}", "server", "3", python, "-c", SERVER, "1", "sockets", "as", "1", "web")
    telnet = container.command(["telnet", "127.0.0.1", "20202"])
    screen = pexpect.spawn(telnet[0], telnet[1:], timeout=20, encoding="utf-8", echo=False)
    programs = [
        subprocess.Popen(
            container.command(["timeout", "600", python, "-c", program, port]), stdout=subprocess.PIPE, text=True
        )
        for program in (WATCHER, LINE_WATCHER, CONNECTOR)
    ]
    try:
        screen.expect("> ")
        screen.sendline("set before 1")
        screen.expect("> ")
        for program in programs:  # they have begun
            assert program.stdout is not None
            assert program.stdout.readline() == "\n"
        container.run(f"touch {GO}")
        cursor = container.journal_cursor()
        yield
        screen.sendline("get before")
        screen.expect("1\r?\n> ")
        screen.sendline("list processes writer")
        screen.expect("writer pid=[0-9]+ running=True")
        screen.expect("> ")
        container.run(f"touch {STOP}")
        said = [json.loads(program.communicate(timeout=60)[0].split("\n")[-2]) for program in programs]
        for text, code in said[:2]:
            lines = text.split()
            assert lines == [*map(str, range(1, len(lines))), "end"]
            assert code == 6
        answered, failed = said[2]
        assert answered > 0
        assert failed == 0
        screen.sendline("quit")
        screen.expect("ok")
        screen.expect(pexpect.EOF)
    finally:
        screen.close(force=True)
        for program in programs:
            program.kill()
            program.communicate()
        container.run(f"rm -f {GO} {STOP}")
    assert container.journal(f"--after-cursor={cursor}", "--unit=papa.service", "--priority=warning") == ""


@pytest.mark.parametrize("earlier", [None, "before-packages"])
def test_reload_to_another_version(bare: Container, earlier: str | None) -> None:
    """`make install` of a newer version changes nothing yet; a reload does.

    before-packages.tar.xz is papa_dbus of 2026-11-30 (the commit before 21a7b44), when it had one folder of modules.
    """
    bare.run("cp -r /root/papa /root/earlier")
    if earlier is not None:
        bare.run("rm -r /root/earlier/papa_dbus")
        bare.run(f"tar -xJf /root/papa/tests/systemd/earlier/{earlier}.tar.xz -C /root/earlier")
        bare.run("cp -n /root/papa/papa_dbus/*.xml /root/earlier/papa_dbus/")  # `make install` is today's
    bare.run(f"cd /root/earlier && {OFFLINE} make install && systemctl start papa", timeout=300)
    with load(bare, PYTHON):
        pid, old = main_pid(bare), version(bare)
        bare.run(f"""cp -r /root/papa /root/next && cd /root/next &&
            sed -i 's/^__version__ = .*/__version__ = "{NEXT}"/' papa_dbus/__init__.py && {OFFLINE} make install""",
            timeout=300)  # fmt: skip
        assert version(bare) == old
        cursor = bare.journal_cursor()
        bare.run("systemctl reload papa")
        bare.wait_for_journal(f"papad {NEXT} is ready", cursor)
        assert version(bare) == NEXT
        assert main_pid(bare) == pid


def test_a_version_that_cannot_take_over_is_told_so_and_the_old_one_goes_on(bare: Container) -> None:
    """One that does not even start, and one that is older than the state."""
    bare.run(f"cd /root/papa && {OFFLINE} make install && papactl run p -- sleep 600", timeout=300)
    pid = main_pid(bare)
    assert bare.run("papad --check", check=False).returncode == 1  # by hand it knows of no state, and says so
    module = bare.run([PYTHON, "-c", "import papa_dbus.service.kernel.kernel as it; print(it.__file__)"]).stdout.strip()
    bare.run(f"mv {module} /root/kernel.py")
    assert bare.run("systemctl reload papa", check=False).returncode == 1
    bare.run(f"mv /root/kernel.py {module}")

    layout = "import sqlite3; sqlite3.connect('/run/papa/state.sqlite').execute('PRAGMA user_version = {}')"
    bare.run([PYTHON, "-c", layout.format(999)])
    cursor = bare.journal_cursor()
    assert bare.run("systemctl reload papa", check=False).returncode == 1
    bare.wait_for_journal("cannot take over: /run/papa/state.sqlite was written by a newer papad (layout 999,", cursor)
    assert main_pid(bare) == pid
    assert bare.run("papactl show p --json && systemctl is-active papa").stdout.endswith("active\n")

    bare.run([PYTHON, "-c", layout.format(1)])
    bare.run("systemctl reload papa")
    assert main_pid(bare) == pid
