"""Who may talk to the system's papad: root, the group papa and whom polkit authorizes, on the bus and on the port."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE
from tests.systemd.caller import CALLS, LINES
from tests.systemd.container import Container
from tests.systemd.test_starting import CALL, CONNECT

SCRIPT = (Path(__file__).parent / "caller.py").read_text()
PYTHON = "/usr/local/lib/papa/bin/python"
POLICY = "/etc/dbus-1/system.d/org.papa.Kernel.conf"
#: A policy that an administrator got wrong: everybody may send anything to the kernel and hear anything from it.
OPEN_POLICY = """<busconfig><policy context="default">
<allow own="org.papa.Kernel"/><allow send_destination="org.papa.Kernel"/><allow receive_sender="org.papa.Kernel"/>
</policy></busconfig>"""
RULES = "/etc/polkit-1/rules.d/50-papa-test.rules"
GRANT = """polkit.addRule(function(action, subject) {{
    if (action.id == "org.papa.kernel.{right}" && subject.user == "john") return polkit.Result.YES;
}});"""

# Tries to take the kernel's name on the system bus, with the library that Papa brings along.
OWN = """
import asyncio
from dbus_next import BusType
from dbus_next.aio import MessageBus
async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    print(await bus.request_name("org.papa.Kernel"))
asyncio.run(main())
"""


@pytest.fixture
def users(container: Container) -> Iterator[None]:
    """Make two users: mary is a member of the group papa, john is not."""
    yield from make_people(container)


@pytest.fixture
def people_of_machine(machine: Container) -> Iterator[None]:
    """The same, on the machine's container."""
    yield from make_people(machine)


def make_people(container: Container) -> Iterator[None]:
    container.run("useradd --create-home --groups papa mary && useradd --create-home john")
    yield
    container.run("userdel --remove mary 2>&1 && userdel --remove john 2>&1")


def host_a_writer(container: Container) -> None:
    """Host process p, which writes once for each line that comes out of /tmp/say."""
    container.run("rm -f /tmp/say && mkfifo /tmp/say")
    loop = "exec <>/tmp/say; while read -r line; do echo $line; done"
    container.run(["busctl", "call", "--", *CALL[2:5], "MakeProcess", "sasa{sv}", "p", "3", "sh", "-c", loop, "0"])


def say(container: Container, text: str) -> None:
    """Have process p write, and see that the kernel has it."""
    container.run(f"echo {text} >/tmp/say")
    watch = (
        "import socket; s = socket.create_connection(('127.0.0.1', 20202), 20); s.sendall(b'watch p p\\n')\n"
        f"d = b''\nwhile b'{text}' not in d: d += s.recv(9999) or exit(1)"
    )
    container.run(["python3", "-c", watch])


def tried(container: Container, user: str | None) -> dict[str, dict[str, str]]:
    """What comes of each call on each front end."""
    done: dict[str, dict[str, str]] = json.loads(container.run([PYTHON, "-c", SCRIPT, "calls"], user).stdout)
    return done


def assert_refused(done: dict[str, dict[str, str]], reading_too: bool = True) -> None:
    for name, result in done["bus"].items():
        reads = CALLS[name][3]
        assert (result == "access-denied") is (reading_too or not reads), (name, result)
    assert list(done["line"]) == ["first", "ended"]
    assert done["line"]["ended"] == "True"
    [told] = [text for text in done["line"]["first"].splitlines() if text != "> "]
    assert told.startswith("Error: papad serves root and the group papa; you are user ")


def assert_served(done: dict[str, dict[str, str]]) -> None:
    assert "access-denied" not in done["bus"].values()
    assert [done["bus"][name] for name in ("MakeProcess", "SetValue", "OpenSocket", "Introspect")] == ["ok"] * 4
    assert len(done["line"]) == len(LINES)
    assert not any(reply.startswith("Error") for reply in done["line"].values()), done["line"]


@pytest.mark.usefixtures("users")
def test_defect_01_each_call_is_open_to_the_group_and_closed_to_others(container: Container) -> None:
    host_a_writer(container)
    assert_refused(tried(container, "john"))
    assert_served(tried(container, "mary"))
    assert_served(tried(container, None))
    assert_refused(tried(container, "john"))


@pytest.mark.usefixtures("users")
def test_a_policy_that_lets_everybody_in_opens_nothing(container: Container) -> None:
    host_a_writer(container)
    kept = container.run(["cat", POLICY]).stdout
    container.run(f"cat >{POLICY} <<'EOF'\n{OPEN_POLICY}\nEOF\nsystemctl reload dbus")
    try:
        assert_refused(tried(container, "john"))
        assert_served(tried(container, "mary"))
    finally:
        container.run(f"cat >{POLICY} <<'EOF'\n{kept}EOF\nsystemctl reload dbus")


@pytest.mark.usefixtures("users")
def test_who_leaves_the_group_is_out_at_once(container: Container) -> None:
    host_a_writer(container)
    with subprocess.Popen(
        container.command([PYTHON, "-c", SCRIPT, "stay"], "mary"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as mary:
        assert mary.stdin is not None
        assert mary.stdout is not None

        def tells() -> dict[str, Any]:
            said: dict[str, Any] = json.loads(mary.stdout.readline())  # type: ignore[union-attr]
            return said

        assert tells() == {"welcome": True, "watch": ["p"]}
        say(container, "before")
        mary.stdin.write("\n")
        assert tells() == {"bus": "ok", "line": "", "heard": ["before\n"], "ended": False}
        container.run("gpasswd --delete mary papa")
        say(container, "after")
        mary.stdin.write("\n")
        told = tells()
        assert told.pop("line").startswith("Error: papad serves root and the group papa; you are user ")
        assert told == {"bus": "access-denied", "heard": ["before\n"], "ended": True}
        mary.stdin.close()
        assert mary.wait(PATIENCE) == 0
    container.run("gpasswd --add mary papa")
    assert_served(tried(container, "mary"))


@pytest.mark.usefixtures("users")
def test_nobody_else_reads_along(container: Container) -> None:
    """Neither another user who asks the bus for everything, nor a second client that is served and does so."""
    container.run("systemctl start papa")
    monitor = container.run("timeout 20 busctl monitor", "john", check=False)
    assert "Access denied" in monitor.stderr
    listen = "import asyncio, sys\nfrom papa_dbus.bus import Bus, address_of\n" + LISTEN
    listeners = {
        user: subprocess.Popen(
            container.command([PYTHON, "-c", listen], user), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for user in ("john", "mary")
    }
    for listener in listeners.values():
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
    host_a_writer(container)
    say(container, "a-secret")
    bus_watch = "busctl call org.papa.Kernel /org/papa/Kernel org.papa.Kernel Watch 'asa{sv}' 1 p 0"
    assert container.run(bus_watch).stdout.startswith("tas ")
    heard = {user: listener.communicate("\n", PATIENCE)[0] for user, listener in listeners.items()}
    assert "InterfacesAdded" in heard["mary"]  # it does hear what is for everybody who may talk to the kernel
    assert heard["john"] == ""
    for text in heard.values():
        assert "Output" not in text
        assert "a-secret" not in text


# Prints the kernel's signals that reach it, although it asks for all, until its input ends.
LISTEN = """
async def main():
    bus = Bus(address_of("system"))
    heard = []
    bus.on_signal.append(heard.append)
    await bus.start()
    to_bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    for rule in ("", "eavesdrop='true'", "sender='org.papa.Kernel'", "path_namespace='/org/papa'"):
        try:
            await bus.call(*to_bus, "AddMatch", "s", [rule])
        except Exception as error:
            assert "eavesdrop" in rule, error
    print("listening", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await bus.call(*to_bus, "GetId")
    for signal in heard:
        if signal.path.startswith("/org/papa"):
            print(signal.member, signal.body)
    await bus.close()
asyncio.run(main())
"""


@pytest.mark.usefixtures("users")
def test_nobody_else_takes_its_name(container: Container) -> None:
    for user in ("mary", "john"):
        done = container.run([PYTHON, "-c", OWN], user, check=False)
        assert "not allowed to own" in done.stderr or "refused by policy" in done.stderr  # dbus-daemon or dbus-broker


@pytest.mark.usefixtures("users")
def test_the_port_lets_the_group_in_and_tells_others_why_not(container: Container) -> None:
    read_all = CONNECT.replace("print(s.recv(100))", "print(b''.join(iter(lambda: s.recv(100), b'')).decode())")
    for host in ("127.0.0.1", "::1"):
        assert "> " in container.run(["python3", "-c", CONNECT, host], "mary").stdout
        told = container.run(["python3", "-c", read_all, host], "john").stdout.splitlines()
        assert "group papa" in told[0]
        assert "".join(told[1:]).strip(" >") == ""  # the prompt, which ends each reply for a client


@pytest.mark.usefixtures("people_of_machine")
def test_the_unix_socket_is_the_groups(machine: Container) -> None:
    drop_in = "/run/systemd/system/papa.service.d"
    command = "/usr/local/bin/papad --bus system --port 20202 --socket /run/papa.sock"
    machine.run(f"mkdir -p {drop_in} && printf '[Service]\\nExecStart=\\nExecStart={command}\\n' >{drop_in}/line.conf")
    machine.run("systemctl daemon-reload && systemctl start papa")
    try:
        assert machine.run("stat --format='%U %G %a' /run/papa.sock").stdout == "root papa 660\n"
        connect = CONNECT.replace("create_connection((sys.argv[1], 20202), 20)", "socket(socket.AF_UNIX)").replace(
            "s.settimeout(20);", "s.settimeout(20); s.connect('/run/papa.sock');"
        )
        assert "Papa is home" in machine.run(["python3", "-c", connect], "mary").stdout
        assert "PermissionError" in machine.run(["python3", "-c", connect], "john", check=False).stderr
        machine.run("chmod 666 /run/papa.sock")  # whatever becomes of the file, the kernel asks who connects
        assert "the group papa" in machine.run(["python3", "-c", connect], "john").stdout
        # A second kernel does not take it from the first.
        second = machine.run(f"{command.replace('system', 'own')} --port 0", check=False)
        assert "somebody listens there" in second.stderr
        assert "Papa is home" in machine.run(["python3", "-c", connect], "mary").stdout
    finally:
        machine.run(f"rm -r {drop_in} && systemctl daemon-reload")


@pytest.mark.usefixtures("people_of_machine")
def test_polkit_may_let_others_in(machine: Container) -> None:
    host_a_writer(machine)
    assert_refused(tried(machine, "john"))
    try:
        grant(machine, "inspect")
        assert_refused(tried(machine, "john"), reading_too=False)
        grant(machine, "manage")  # which is the right to inspect, too
        done = tried(machine, "john")
        assert "access-denied" not in done["bus"].values()
        assert "the group papa" in done["line"]["first"]  # polkit knows callers on the bus
    finally:
        machine.run(f"rm -f {RULES} && systemctl restart polkit")
    assert_refused(tried(machine, "john"))


def grant(container: Container, right: str) -> None:
    container.run(f"cat >{RULES} <<'EOF'\n{GRANT.format(right=right)}\nEOF\nsystemctl restart polkit")


@pytest.mark.usefixtures("people_of_machine")
def test_the_journal_says_who_made_and_removed_what(machine: Container) -> None:
    cursor = machine.journal_cursor()
    uid = int(machine.run(["id", "-u", "mary"]).stdout)
    machine.run("busctl call -- org.papa.Kernel /org/papa/Kernel org.papa.Kernel MakeProcess 'sasa{sv}' hidden 3"
                " /bin/sleep 600 argument-secret 1 env 'a{ss}' 1 TOKEN environment-secret || true", "mary")  # fmt: skip
    machine.run("busctl call org.papa.Kernel /org/papa/Kernel org.papa.Kernel SetValue ss v value-secret", "mary")
    line = "import socket; s = socket.create_connection(('127.0.0.1', 20202), 20); s.sendall(b'm s t\\nr s t\\n"
    line += "r p hidden\\nset v other-secret\\nset v\\nq\\n'); [None for _ in iter(lambda: s.recv(99), b'')]"
    machine.run(["python3", "-c", line], "mary")
    exported = machine.run(["journalctl", "--unit=papa", f"--after-cursor={cursor}", "--output=json"]).stdout
    entries = [json.loads(text) for text in exported.splitlines()]
    found = {}
    for entry in entries:
        if "PAPA_ACTION" in entry:
            kind = next(kind for kind in ("SOCKET", "VALUE", "PROCESS") if f"PAPA_{kind}" in entry)
            found[kind, entry[f"PAPA_{kind}"], entry["PAPA_ACTION"]] = entry
    assert set(found) == {
        ("PROCESS", "hidden", "made"),
        ("PROCESS", "hidden", "removed"),
        ("VALUE", "v", "made"),
        ("VALUE", "v", "removed"),
        ("SOCKET", "t", "made"),
        ("SOCKET", "t", "removed"),
    }
    for (kind, _, action), entry in found.items():
        assert entry["PAPA_CALLER_UID"] == str(uid)
        assert f"by uid {uid} (" in entry["MESSAGE"]
        on_the_bus = action == "made" and kind != "SOCKET"
        assert entry["PAPA_CALLER"].startswith(":1." if on_the_bus else "127.0.0.1:")
        assert ("PAPA_CALLER_PID" in entry) is on_the_bus  # Linux tells whose a connection is, not which process's
    assert "runs /bin/sleep as uid 0" in found["PROCESS", "hidden", "made"]["MESSAGE"]
    assert "secret" not in exported
