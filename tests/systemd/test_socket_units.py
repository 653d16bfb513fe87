"""Sockets that socket units pass to papad: hosted, handed on to real servers, and there again after a restart."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.systemd.container import PROJECT, Container
from tests.systemd.machines import as_after_boot
from tests.systemd.test_recovery import NAMES
from tests.systemd.test_serving import call

UNITS = "/run/systemd/system"
WANTS = f"{UNITS}/papa.service.wants"
LOAD = PROJECT / "tests/circus/load.py"

APPLICATION = """
def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from gunicorn"]

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello from uvicorn"})
"""
NGINX = """
daemon off;
worker_processes 2;
pid /run/web/nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    server { listen 127.0.0.1:8080; location / { return 200 "hello from nginx"; } }
}
"""
SERVERS = {
    "gunicorn": "papactl run web --socket web --directory /root/web -- gunicorn --workers=2 app:wsgi",
    "uvicorn": "papactl run web --socket web --directory /root/web -- uvicorn --fd 3 --lifespan off app:asgi",
    "nginx": "papactl run web --socket web --env 'NGINX=3;' -- /usr/sbin/nginx -c /root/web/nginx.conf",
}
ASK = "curl --no-progress-meter --max-time 20 http://127.0.0.1:8080/"


class Machine:
    """A container on which socket units are made, and Papa started and started again."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self._names: list[str] = []

    def unit(self, name: str, *settings: str) -> None:
        """Make a socket unit that passes its sockets to papad. It is started with papad."""
        text = "\n".join(["[Socket]", "Service=papa.service", *settings, ""])
        self.container.run(["sh", "-ec", 'mkdir -p "$3"; printf %s "$2" >"$1"; ln -sf "$1" "$3/"', "sh",
                      f"{UNITS}/{name}.socket", text, WANTS])  # fmt: skip
        self._names.append(name)
        self.container.run("systemctl daemon-reload")

    def remove_units(self) -> None:
        for name in self._names:
            self.container.run(
                f"systemctl stop {name}.socket || true; rm -f {UNITS}/{name}.socket {WANTS}/{name}.socket"
            )
        self._names.clear()
        self.container.run("systemctl daemon-reload")

    def anew(self, how: str) -> str:
        """Have papad start anew by restart, reload or kill; gives what the journal says of that."""
        cursor = self.container.journal_cursor()
        kill = "systemctl kill --kill-who=main --signal=KILL papa"
        self.container.run(kill if how == "kill" else f"systemctl {how} papa")
        self.container.wait_for_journal("is ready", cursor)
        return self.container.journal(f"--after-cursor={cursor}", "--unit=papa.service")

    def sockets(self) -> dict[str, dict[str, Any]]:
        """What papactl lists, but for file numbers and what is not so."""
        listed = json.loads(self.container.run("papactl list sockets --json").stdout)
        left_out = ("name", "fileno", "object_path")
        return {each["name"]: {k: v for k, v in each.items() if v and k not in left_out} for each in listed}


@pytest.fixture
def papa(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Iterator[Machine]:
    """Give the container of this machine's own files, or of the Debian that a test is parametrized with."""
    made = Machine(as_after_boot(containers(getattr(request, "param", "dbus-daemon"))))
    yield made
    made.container.run("systemctl stop papa.service")
    made.remove_units()
    as_after_boot(made.container)


WEB = ("FileDescriptorName=web", "ListenStream=127.0.0.1:8080")
WEB_IS = {"family": "inet", "type": "stream", "host": "127.0.0.1", "port": 8080, "unit": "web.socket"}


def test_the_first_connection_starts_papad_and_is_served(papa: Machine) -> None:
    papa.unit("web", *WEB)
    papa.container.run("systemctl start web.socket && mkdir -p /root/web")
    papa.container.run(["sh", "-c", 'printf %s "$1" >/root/web/app.py', "sh", APPLICATION])
    assert papa.container.run("systemctl is-active papa", check=False).stdout == "inactive\n"
    asking = subprocess.Popen(papa.container.command(ASK), stdout=subprocess.PIPE)  # waits until there is a server
    papa.container.wait_until("systemctl is-active papa")
    assert papa.sockets() == {"web": WEB_IS}
    papa.container.run(SERVERS["gunicorn"])
    assert asking.communicate(timeout=30)[0] == b"hello from gunicorn"


@pytest.mark.parametrize("server", SERVERS)
def test_no_request_is_refused_while_papad_starts_anew(papa: Machine, server: str) -> None:
    container = papa.container
    container.copy_in(LOAD, "/root/load.py")
    container.run("mkdir -p /root/web /run/web")
    for name, text in (("app.py", APPLICATION), ("nginx.conf", NGINX)):
        container.run(["sh", "-c", 'printf %s "$1" >/root/web/$2', "sh", text, name])
    papa.unit("web", *WEB)
    container.run("systemctl start papa")
    container.run(SERVERS[server])
    pid = call(container, "ListProcesses", "as", "0").partition('"pid" u ')[2].split()[0]
    load = subprocess.Popen(
        container.command(["python3", "/root/load.py"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert load.stdin is not None
    assert load.stdout is not None
    answered = 0
    try:
        for how in ("restart", "kill", "reload", "kill", "restart"):
            papa.anew(how)
            assert papa.sockets() == {"web": WEB_IS}
            for _ in range(2):  # some that were asked while papad was not there, and some since
                enough = answered + 20
                while answered < enough:
                    load.stdin.write("\n")
                    load.stdin.flush()
                    answered, failures = json.loads(load.stdout.readline())
                    assert failures == []
    finally:
        load.communicate(timeout=60)
    for how in ("restart", "kill"):  # a lone one: no other comes and wakes who waits in accept(2)
        papa.anew(how)
        assert container.run(ASK).stdout == f"hello from {server}"
    assert f'"pid" u {pid} ' in call(container, "ListProcesses", "as", "0")


@pytest.mark.parametrize("papa", ["dbus-daemon", "trixie"], indirect=True)
def test_what_units_pass_and_what_is_refused(papa: Machine) -> None:
    """Each start finds the same; what cannot be hosted is named, and papad starts all the same."""
    papa.unit("web", *WEB)
    papa.unit("two", "FileDescriptorName=two", "ListenStream=127.0.0.1:8081", "ListenStream=[::1]:8081")
    papa.unit("datagram", "ListenDatagram=127.0.0.1:8082")
    papa.unit("file", "FileDescriptorName=file", "ListenStream=/run/file.sock")
    papa.unit("abstract", "FileDescriptorName=abstract", "ListenStream=@abstract")
    papa.unit("packets", "FileDescriptorName=packets", "ListenSequentialPacket=/run/packets.sock")
    papa.unit("device", "FileDescriptorName=device", "ListenStream=127.0.0.1:8089", "BindToDevice=lo")
    papa.unit("fifo", "FileDescriptorName=fifo", "ListenFIFO=/run/fifo")
    papa.unit("queue", "FileDescriptorName=queue", "ListenMessageQueue=/papa-test")
    papa.unit("link", "FileDescriptorName=link", "ListenNetlink=kobject-uevent 1")
    papa.unit("blank", "FileDescriptorName=with blank", "ListenStream=127.0.0.1:8083")
    papa.unit("twice", "FileDescriptorName=two-2", "ListenStream=127.0.0.1:8084")
    papa.unit("line", "FileDescriptorName=line", "ListenFIFO=/run/line")
    papa.container.run("systemctl start papa")
    call(papa.container, "MakeSocket", "sa{sv}", "made", "1", "path", "s", "/run/made.sock")
    call(papa.container, "MakeProcess", "sasa{sv}", "made", "2", "sleep", "600", "0")
    kept = papa.container.run(["python3", "-c", NAMES, "made"]).stdout.split()  # in systemd's store
    for number, own in enumerate(("c", "connections", "s999", *kept)):
        papa.unit(f"own{number}", f"FileDescriptorName={own}", f"ListenStream=127.0.0.1:{9000 + number}")
    expected = {
        "abstract": {"family": "unix", "type": "stream", "path": "@abstract", "unit": "abstract.socket"},
        "datagram.socket": {
            "family": "inet", "type": "dgram", "host": "127.0.0.1", "port": 8082, "unit": "datagram.socket",
        },
        "device": {
            "family": "inet", "type": "stream", "host": "127.0.0.1", "port": 8089, "interface": "lo",
            "unit": "device.socket",
        },
        "file": {"family": "unix", "type": "stream", "path": "/run/file.sock", "unit": "file.socket"},
        "made": {"family": "unix", "type": "stream", "path": "/run/made.sock", "backlog": 5},
        "packets": {"family": "unix", "type": "seqpacket", "path": "/run/packets.sock", "unit": "packets.socket"},
        "two": WEB_IS | {"port": 8081, "unit": "two.socket"},
        "web": WEB_IS,
    }  # fmt: skip
    found = papa.sockets()
    second = found.pop("two-2")  # which one of the two that want this name
    assert second in (
        {"family": "inet6", "type": "stream", "host": "::1", "port": 8081, "unit": "twice.socket"},
        WEB_IS | {"port": 8084, "unit": "twice.socket"},
    )
    assert found == expected
    for how in ("restart", "kill", "reload", "restart"):
        said = papa.anew(how)
        assert "recovered: 1 socket, 0 values, 1 process" in said
        found = papa.sockets()
        assert found.pop("two-2")["type"] == "stream"
        assert found == expected
        if how == "reload":
            continue  # systemd passes nothing then
        assert "what was passed as 'fifo' is not hosted, and closed: it is no socket" in said
        assert "what was passed as 'queue' is not hosted, and closed: it is no socket" in said
        assert "what was passed as 'link' is not hosted, and closed: it is a socket of another family than" in said
        assert "what was passed as 'with blank' is not hosted, and closed: socket name 'with blank': a name may" in said
        assert "hosted, and closed: another socket 'two-2' was passed, too" in said
        for own in ("c", "connections", "line"):
            assert f"what was passed as '{own}' is closed: that name is papad's own, for something else" in said
        for own in kept:
            assert f"descriptor '{own}' is not the one that papad kept by that name; it is closed" in said
        assert (
            "what came as 's999' belongs to nothing that is stored, and is closed; if a socket unit passed it" in said
        )
    papa.container.run(
        "systemctl stop papa && test -S /run/file.sock && test -S /run/packets.sock && systemctl start papa"
    )
    found = papa.sockets()
    # From systemd 254 on what papad has made is there, too; before that systemd gives it up.
    preserve = papa.container.run("systemctl show --property=FileDescriptorStorePreserve --value papa").stdout.strip()
    assert found.keys() - {"two-2"} == expected.keys() - (set() if preserve == "yes" else {"made"})


@pytest.mark.parametrize("papa", ["dbus-daemon", "trixie"], indirect=True)
def test_a_unit_that_goes_and_one_that_comes(papa: Machine) -> None:
    container = papa.container
    papa.unit("web", *WEB)
    papa.unit("file", "FileDescriptorName=file", "ListenStream=/run/file.sock")
    container.run("systemctl start papa && systemctl stop file.socket")
    assert set(papa.sockets()) == {"web", "file"}  # papad has it still
    papa.unit("late", "FileDescriptorName=late", "ListenStream=127.0.0.1:8085")
    refused = container.run("systemctl start late.socket", check=False)
    assert refused.returncode != 0
    assert "Socket service papa.service already active, refusing" in container.journal("--unit=late.socket")
    papa.anew("reload")  # which passes on what papad has, and nothing of systemd's
    assert set(papa.sockets()) == {"web", "file"}
    container.run(f"rm {UNITS}/file.socket {UNITS}/papa.service.wants/file.socket && systemctl daemon-reload")
    said = papa.anew("restart")
    assert "socket 'file' is no longer hosted: its socket unit has not passed it again" in said
    assert set(papa.sockets()) == {"web", "late"}
    assert "no longer hosted" not in papa.anew("kill")
    said = papa.container.run("systemctl stop papa; journalctl --quiet --output=cat --unit=papa --lines=20").stdout
    assert "socket 'web' is closed" not in said  # systemd has it


def test_removed_it_is_there_again_when_papad_starts_anew(papa: Machine) -> None:
    container = papa.container
    papa.unit("web", *WEB)
    container.run("systemctl start papa")
    removed = container.run("papactl socket remove web").stdout
    assert removed == "web (web.socket holds it still, and passes it again when papad starts anew)\n"
    assert "socket 'web' removed by uid 0" in container.journal("PAPA_SOCKET=web")
    assert "web.socket holds it still" in container.journal("PAPA_SOCKET=web")
    assert papa.sockets() == {}
    papa.anew("reload")
    assert papa.sockets() == {}
    papa.anew("kill")
    assert papa.sockets() == {"web": WEB_IS}


def test_a_name_that_a_client_wants_or_has(papa: Machine) -> None:
    container = papa.container
    call(container, "MakeSocket", "sa{sv}", "web", "1", "port", "q", "8086")
    papa.unit("web", *WEB)
    said = papa.anew("restart")
    assert (
        "what was passed as 'web' is not hosted, and closed: a client has had another socket 'web' made; remove that,"
        " and restart papad"
    ) in said
    assert papa.sockets()["web"]["port"] == 8086
    container.run("papactl socket remove web")
    papa.anew("restart")
    assert papa.sockets() == {"web": WEB_IS}
    # Whoever wants the same address has it, as a manager does that would else have it bound.
    assert '"unit" s "web.socket"' in call(
        container, "MakeSocket", "sa{sv}", "web", "2", "port", "q", "8080", "backlog", "u", "128"
    )
    other = container.run("papactl socket make web --port 8087", check=False)
    assert "socket 'web' already exists, and has other options: " in other.stderr
    container.run("papactl exit-if-idle")  # systemd has all that papad holds


def test_a_unit_that_accepts_is_refused_by_systemd(papa: Machine) -> None:
    papa.unit("accepting", *WEB, "Accept=yes")
    papa.container.run("systemctl start papa")
    assert papa.sockets() == {}
    assert "Explicit service configuration for accepting socket units not supported" in papa.container.journal("--boot")
