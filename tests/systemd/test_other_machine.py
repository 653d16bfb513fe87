"""papactl -H and aio.connect(host=): two booted machines, a cable between them, a real sshd, systemd's own bridge."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import Container
from tests.systemd.machines import as_after_boot
from tests.terminal import Terminal

CABLE = "papa0"
HERE, THERE = "198.51.100.1", "198.51.100.2"  # addresses for documentation, RFC 5737
PYTHON = "/usr/local/lib/papa/bin/python"

ONLY_DESCRIPTORS_ARE_REFUSED = f"""
import asyncio
from papa_dbus.client import aio
from papa_dbus.errors import NotSupported
async def main():
    async with aio.connect(host="root@{THERE}") as kernel:
        await kernel.make_socket("s", port=0)
        for refused in (kernel.open_socket("s"), kernel.open_process("s")):
            try:
                await refused
            except NotSupported as error:
                print(error)
        print(await kernel.remove_sockets("s"))
asyncio.run(main())
"""

A_SIGNAL_FOR_ONE_THAT_WAS_REPLACED = """
import asyncio
import sys
from papa_dbus.client import aio
from papa_dbus.client.cli import kill
from papa_dbus.errors import NotFound, PapaError
async def is_there(kernel, unit):
    try:
        await kernel.link.bus.call(kill._SYSTEMD, kill._ROOT, f"{kill._SYSTEMD}.Manager", "GetUnit", "s", [unit])
    except PapaError:
        return False
    return True
async def main(host):
    async with aio.connect(host=host) as kernel:
        old = await kernel.make_process("web", ["sleep", "1000"])
        await kill._send(kernel, old, 15)
        await kernel.wait("web")
        await kernel.remove_processes("web")
        while await is_there(kernel, old.unit):
            await asyncio.sleep(0.05)  # paces the question
        new = await kernel.make_process("web", ["sleep", "1000"])
        assert (new.unit, new.pid != old.pid) == (old.unit, True)
        try:
            await kill._send(kernel, old, 9)
        except NotFound as error:
            print(str(error).replace(str(old.pid), "PID"))
        await kill._send(kernel, new, 2)
        print(await kernel.wait("web"))
        await kernel.remove_processes("web")
asyncio.run(main(sys.argv[1] if sys.argv[1:] else None))
"""


@pytest.fixture(scope="module")
def machines(containers: Callable[[str], Container]) -> Iterator[tuple[Container, Container]]:
    """Give the operator's machine and the one with the kernel, whose sshd lets the operator's root in."""
    here, there = containers("dbus-daemon"), containers("dbus-broker")
    _connect(here, there)
    there.run("mkdir -p /run/sshd && ssh-keygen -A && systemctl start ssh && useradd --create-home john")
    here.run("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    public = here.run("cat /root/.ssh/id_ed25519.pub").stdout
    for home, user in (("/root", "root"), ("/home/john", "john")):
        there.run(f"mkdir -p -m 700 {home}/.ssh && echo '{public}' >{home}/.ssh/authorized_keys")
        there.run(f"chown -R {user}: {home}/.ssh")
    keys = there.run("cat /etc/ssh/ssh_host_*_key.pub").stdout.splitlines()
    known = "".join(f"{THERE} {key}\n" for key in keys)
    subprocess.run(here.command("cat >/root/.ssh/known_hosts"), input=known, text=True, check=True, timeout=60)
    yield here, there
    there.run("systemctl stop ssh user-$(id -u john).slice && userdel --remove john 2>&1; rm -r /root/.ssh")
    here.run(f"rm -r /root/.ssh; ip link delete {CABLE}")


def _connect(here: Container, there: Container) -> None:
    """Lay a cable between the two machines' networks (veth(4))."""
    ends = [str(container.leader) for container in (here, there)]
    subprocess.run(
        ["ip", "link", "add", CABLE, "netns", ends[0], "type", "veth", "peer", "name", CABLE, "netns", ends[1]],
        check=True, timeout=60,
    )  # fmt: skip
    for container, address in ((here, HERE), (there, THERE)):
        container.run(f"ip address add {address}/24 dev {CABLE} && ip link set {CABLE} up")


@pytest.fixture
def here(machines: tuple[Container, Container]) -> Container:
    """Give the operator's machine."""
    return as_after_boot(machines[0])


@pytest.fixture
def there(machines: tuple[Container, Container]) -> Iterator[Container]:
    """Give the other one, with its kernel running."""
    container = as_after_boot(machines[1])
    container.run("systemctl start papa")
    yield container
    container.run("systemctl stop papa.service papa.slice")


def test_a_day_with_another_machine(here: Container, there: Container) -> None:
    papactl = f"papactl -H root@{THERE}"
    assert f"on the system bus of root@{THERE}" in here.run(f"{papactl} status").stdout
    assert "papa-web.scope" in here.run(f"{papactl} run web -- sh -c 'echo up; exec sleep 1000'").stdout
    assert here.run("papactl list processes --no-legend").stdout == ""
    assert there.run("papactl list processes --no-legend").stdout.startswith("web  running")
    assert here.run(f"papactl logs web -o cat -H root@{THERE}").stdout == "up\n"
    here.run(f"{papactl} run job -- sh -c 'seq 200000; exit 9'")
    assert here.run(f"{papactl} wait job", check=False).returncode == 9
    assert here.run(f"{papactl} consume job").stdout == "".join(f"{n}\n" for n in range(1, 200_001))
    rows = here.run(f"{papactl} top -n 1 -d 0.2").stdout.splitlines()
    assert rows[1].split()[:2] == ["web", "running"]
    assert rows[1].split()[3:5] == ["-", "-"]  # what it uses there is not known here
    found = json.loads(here.run(f"{papactl} doctor --json").stdout)
    assert {f["check"]: f["grade"] for f in found} == dict.fromkeys(
        ("bus", "papad", "papa.service", "papa.socket", "descriptors"), "good"
    )
    assert here.run(f"{papactl} kill web -s INT").stdout == "web: INT sent to all processes of papa-web.scope\n"
    assert here.run(f"{papactl} wait web", check=False).returncode == 130
    assert "has ended already" in here.run(f"{papactl} kill web", check=False).stderr
    # No ssh and no bridge is left.
    assert here.run("pgrep --exact ssh", check=False).stdout == ""
    there.wait_until("! pgrep systemd-stdio-b")


def test_a_signal_is_never_for_a_later_process_of_that_name(here: Container, there: Container) -> None:
    refused = "'web' (PID PID) has ended or was replaced meanwhile; nothing was sent"
    afar = here.run([PYTHON, "-c", A_SIGNAL_FOR_ONE_THAT_WAS_REPLACED, f"root@{THERE}"]).stdout
    assert afar.splitlines() == [f"'web' (papa-web.scope) was not signalled: {refused}", "-2"]
    near = there.run([PYTHON, "-c", A_SIGNAL_FOR_ONE_THAT_WAS_REPLACED]).stdout
    assert near.splitlines() == [refused, "-2"]


def test_descriptors_stay_where_they_are(here: Container, there: Container) -> None:
    assert here.run([PYTHON, "-c", ONLY_DESCRIPTORS_ARE_REFUSED]).stdout.splitlines() == [
        "OpenSocket 's': descriptors cannot be passed from another machine; do it there",
        "OpenProcess 's': descriptors cannot be passed from another machine; do it there",
        "['s']",
    ]


def test_who_may_not_may_not_from_afar_either(here: Container, there: Container) -> None:
    refused = here.run(f"papactl -H john@{THERE} list", check=False)
    assert refused.returncode == 6
    assert "usermod" in refused.stderr


def test_no_way_there(here: Container, there: Container) -> None:
    for host in ("root@198.51.100.99", f"nobody@{THERE}"):
        failed = here.run(f"timeout 60 papactl -H {host} list </dev/null", check=False, timeout=90)
        assert failed.returncode == 5
        assert re.search(r"^ssh: connect to host|Permission denied", failed.stderr, re.MULTILINE)  # ssh's own words
        assert failed.stderr.splitlines()[-1].startswith("papactl: cannot reach papad: the message bus behind 'ssh -xT")


def test_following_goes_on_over_a_lost_connection(here: Container, there: Container) -> None:
    script = "echo one; while read line </tmp/next; do echo $line; done"
    there.run(["sh", "-c", 'mkfifo /tmp/next && papactl run web -- sh -c "$0"', script])
    command = here.command(["env", "TERM=xterm-256color", "papactl", "-H", f"root@{THERE}", "logs", "-f", "-o", "cat"])
    with Terminal(command) as logs:
        logs.until("(?m)^one$")
        [ssh] = here.run("pgrep --exact ssh").stdout.split()
        here.run(f"kill -KILL {ssh}")
        there.run("echo two >/tmp/next")
        lines = logs.until("(?m)^two$")
        assert lines.count("one") == 1
        assert "connecting again" in "\n".join(lines)
        here.run(f"kill -INT {here.run('pgrep --exact papactl').stdout}")
        logs.to_the_end()
        assert logs.status == 130
    there.run("rm /tmp/next")
