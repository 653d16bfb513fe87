"""Hosted sockets, real ones."""

import asyncio
import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.errors import Bind, Exists, InvalidArgs, Limit, NotFound
from papa_dbus.service.fork.child import ExecPlan
from papa_dbus.service.fork.errand import Errand, identity
from papa_dbus.service.fork.fork import fork_here
from papa_dbus.service.items.socket_files import SocketFiles
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import PATIENCE, Reader, remove_sockets, run


async def make(kernel: Kernel, name: str = "s", **options: Any) -> Any:
    return await kernel.make_socket(SocketSpec(name, **options))


def at(kernel: Kernel, name: str = "s") -> socket.socket:
    return socket.socket(fileno=kernel.open_socket(name))


@pytest.mark.parametrize(
    ("options", "family", "kind"),
    [
        ({}, socket.AF_INET, socket.SOCK_STREAM),
        ({"family": "inet6"}, socket.AF_INET6, socket.SOCK_STREAM),
        ({"type": "dgram"}, socket.AF_INET, socket.SOCK_DGRAM),
        ({"family": "inet6", "type": "dgram"}, socket.AF_INET6, socket.SOCK_DGRAM),
        ({"type": "raw"}, socket.AF_INET, socket.SOCK_RAW),
        ({"path": "s"}, socket.AF_UNIX, socket.SOCK_STREAM),
        ({"path": "s", "type": "dgram"}, socket.AF_UNIX, socket.SOCK_DGRAM),
        ({"path": "s", "type": "seqpacket"}, socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
@pytest.mark.root
async def test_families_and_types(
    kernel: Kernel, tmp_path: Path, options: dict[str, Any], family: int, kind: int
) -> None:
    """Defect 10, too: a datagram socket is made, since nothing tries to listen on it."""
    if "path" in options:
        options = {**options, "path": str(tmp_path / "s")}
    await make(kernel, **options)
    with at(kernel) as sock:
        assert (sock.family, sock.type) == (family, kind)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert bool(listening) == (kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET))


@pytest.mark.parametrize("options", [{"type": "rdm"}, {"type": "seqpacket"}])
async def test_what_linux_has_not_is_said(kernel: Kernel, options: dict[str, Any]) -> None:
    with pytest.raises(Bind, match=f"Linux has no inet {options['type']} socket"):
        await make(kernel, **options)


def test_what_the_first_socket_needs_is_read_at_the_start() -> None:
    """Python's codec of host names: later there may be no descriptor left to read it by."""
    code = "import sys, papa_dbus.service.items.sockets; sys.exit('encodings.idna' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE).returncode == 0


async def test_a_host_name_where_no_descriptor_is_left(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*of: object) -> None:
        if socket.AI_NUMERICHOST in of:
            raise socket.gaierror
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Bind, match="option 'host': 'web.example' is not .*: Too many open files"):
        await make(kernel, host="web.example")


async def test_a_port_that_linux_chose_is_told(kernel: Kernel) -> None:
    info = await make(kernel)
    assert info.port > 0
    with socket.create_connection(("127.0.0.1", info.port), timeout=PATIENCE):
        pass


async def test_the_same_again_and_another(kernel: Kernel) -> None:
    first = await make(kernel)
    assert await make(kernel) == first
    assert await make(kernel, port=first.port) == first
    has = r"family inet, host 127\.0\.0\.1"  # either asks for any port
    with pytest.raises(Exists, match=f"socket 's' already exists, and has other options: {has}; remove it first"):
        await make(kernel, family="inet6")


async def test_a_port_in_use(kernel: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Bind, match=f"socket 's': cannot bind 127.0.0.1 port {port}: Address already in use"):
            await make(kernel, port=port)
    assert kernel.socket_count == 0


@pytest.mark.parametrize(
    ("host", "says"),
    [("192.0.2.1", "Cannot assign requested address"), ("no-such-host.invalid", "is not an inet address")],
)
async def test_hosts_that_cannot_be_had(kernel: Kernel, host: str, says: str) -> None:
    with pytest.raises(Bind, match=says):
        await make(kernel, host=host)


async def test_a_host_by_name(kernel: Kernel) -> None:
    info = await make(kernel, host="localhost")
    assert info.host == "localhost"
    with at(kernel) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


async def test_defect_09_interface(kernel: Kernel) -> None:
    info = await make(kernel, interface="lo")
    assert info.host == "0.0.0.0"
    with at(kernel) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
    with pytest.raises(Bind, match="option 'interface': nope0: No such device"):
        await make(kernel, "t", interface="nope0")


# ------------------------------------------------------------------------ Unix


async def test_defect_13_umask_of_a_file_and_only_of_it(kernel: Kernel, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = tmp_path / "s"
        await make(kernel, path=str(path), umask=0o077)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        with pytest.raises(Bind):
            await make(kernel, "t", path="/proc/nope", umask=0)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


async def test_a_leftover_file_is_replaced(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(path))
    await make(kernel, path=str(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_file_that_somebody_listens_on_is_not_taken(
    kernel: Kernel, tmp_path: Path, kind: socket.SocketKind
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, kind) as theirs:
        theirs.bind(str(path))
        if kind == socket.SOCK_STREAM:
            theirs.listen()
        with pytest.raises(Bind, match="is in use"):
            await make(kernel, path=str(path))
    assert path.exists()


async def test_a_file_that_is_no_socket_is_not_touched(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(Bind, match="is there and is no socket"):
        await make(kernel, path=str(path))
    assert path.read_text() == "mine"


async def test_two_hosted_sockets_with_one_path(kernel: Kernel, tmp_path: Path) -> None:
    await make(kernel, path=str(tmp_path / "s"))
    with pytest.raises(Exists, match="socket 't': socket 's' has the path"):
        await make(kernel, "t", path=str(tmp_path / "s"))


async def test_removing_removes_the_file_unless_it_is_another_s(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "s"
    await make(kernel, path=str(path))
    assert await remove_sockets(kernel, "s") == ["s"]
    assert not path.exists()
    await make(kernel, path=str(path))
    path.unlink()
    path.write_text("somebody else's")
    await remove_sockets(kernel, "s")
    assert path.exists()


# ------------------------------------------------------------- patterns and numbers


async def test_listing_and_removing(kernel: Kernel) -> None:
    for name in ("web.0", "web.1", "db"):
        await make(kernel, name)
    number = str(kernel.list_sockets(["db"])[0].fileno)
    assert [info.name for info in kernel.list_sockets(["web.*"])] == ["web.0", "web.1"]
    assert [info.name for info in kernel.list_sockets([number])] == ["db"]
    assert kernel.list_sockets(["none"]) == []
    with pytest.raises(NotFound, match="socket 'none' is not there"):
        kernel.remove_sockets(["db", "none"])
    assert kernel.socket_count == 3
    assert kernel.remove_sockets([number, "web.*"]) == ["db", "web.0", "web.1"]


async def test_the_number_of_patterns_is_bounded(kernel: Kernel) -> None:
    with pytest.raises(Limit, match="there may be 1024 names or patterns"):
        kernel.list_sockets([f"a{n}*" for n in range(1025)])


async def test_defect_12_removing_without_a_name_is_an_error(kernel: Kernel) -> None:
    await make(kernel)
    with pytest.raises(InvalidArgs, match="name at least one socket"):
        kernel.remove_sockets([])
    assert kernel.socket_count == 1


async def test_defect_11_a_removed_socket_does_not_live_on_in_children(kernel: Kernel) -> None:
    info = await make(kernel)
    await run(kernel, "sleep", "60")
    kernel.remove_sockets(["s"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", info.port), timeout=PATIENCE)


# ------------------------------------------------------------------------ reuseport

STREAM_WORKER = """
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
print('ready', flush=True)
while True:
    c, _ = s.accept()
    c.sendall(sys.argv[2].encode())
    c.close()
"""
DATAGRAM_WORKER = """
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]), type=socket.SOCK_DGRAM)
print('ready', flush=True)
while True:
    data, peer = s.recvfrom(100)
    s.sendto(sys.argv[2].encode(), peer)
"""


async def ready(kernel: Kernel, *names: str) -> None:
    for name in names:
        await Reader(kernel, [name]).until("ready")


@pytest.mark.parametrize("family", ["inet", "inet6"])
async def test_defect_08_each_process_gets_its_own_socket_on_the_port(kernel: Kernel, family: str) -> None:
    info = await make(kernel, reuseport=True, family=family)
    for name in ("a", "b"):
        await run(kernel, sys.executable, "-c", STREAM_WORKER, "$(socket.s.fileno)", name, name=name)
    await ready(kernel, "a", "b")
    served = set()
    for _ in range(200):
        with socket.create_connection((info.host, info.port), timeout=PATIENCE) as client:
            served.add(client.recv(10))
    assert served == {b"a", b"b"}


async def test_a_shared_port_is_never_free_in_between(kernel: Kernel) -> None:
    info = await make(kernel, reuseport=True)
    with socket.socket() as stranger, pytest.raises(OSError, match="Address already in use"):
        stranger.bind(("127.0.0.1", info.port))
    with pytest.raises(ConnectionRefusedError):  # nobody serves on it, and nobody is left waiting
        socket.create_connection(("127.0.0.1", info.port), timeout=PATIENCE)


async def test_the_kernel_takes_no_datagram_of_a_shared_port(kernel: Kernel) -> None:
    info = await make(kernel, reuseport=True, type="dgram")
    for name in ("a", "b"):
        await run(kernel, sys.executable, "-c", DATAGRAM_WORKER, "$(socket.s.fileno)", name, name=name)
    await ready(kernel, "a", "b")
    served = []
    for _ in range(100):
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(b"x", ("127.0.0.1", info.port))
            served.append(client.recv(10))
    assert set(served) == {b"a", b"b"}


async def test_sockets_asked_for_at_the_same_time(kernel: Kernel) -> None:
    made = await asyncio.gather(*(make(kernel, host="localhost") for _ in range(10)))
    assert len({info.port for info in made}) == 1


def listening(address: str | tuple[str, int], family: int = socket.AF_INET) -> int:
    """A descriptor of a socket that somebody else has bound."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    sock.listen()
    return sock.detach()


async def test_what_is_passed_is_hosted_by_name_and_number(kernel: Kernel, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    passed = {
        "web": [listening(("127.0.0.1", 0)), listening(path, socket.AF_UNIX)],
        "abstract": [listening("\0papa-test", socket.AF_UNIX)],
    }
    assert kernel.host_passed(passed) == []
    first, second, abstract = kernel.list_sockets(["web", "web-2", "abstract"])
    assert (first.family, first.host, first.backlog, first.unit) == ("inet", "127.0.0.1", None, "")
    assert (second.name, second.path, abstract.path) == ("web-2", path, "@papa-test")
    kernel.name_units({"web": "web.socket", "other": "other.socket"})
    assert {info.name: info.unit for info in kernel.list_sockets()} == {
        "web": "web.socket", "web-2": "web.socket", "abstract": ""
    }  # fmt: skip
    assert (await make(kernel, "web", port=first.port, backlog=77)).unit == "web.socket"
    assert (await make(kernel, "web-2", path=path, umask=0o77)).unit == "web.socket"
    for other in ({"port": first.port, "reuseport": True}, {"family": "inet6"}, {"path": path}):
        with pytest.raises(Exists, match="has other options: "):
            await make(kernel, "web", **other)
    kernel.remove_sockets(["*"])
    assert os.path.exists(path)  # whoever made it may remove it
    assert kernel.exit_if_idle()


async def test_what_is_passed_and_cannot_be_hosted(kernel: Kernel, tmp_path: Path) -> None:
    await make(kernel, "made")
    os.mkfifo(tmp_path / "fifo")
    left, right = socket.socketpair()
    fds = {
        "fifo": os.open(tmp_path / "fifo", os.O_RDWR),
        "connected": left.detach(),
        "link": socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).detach(),
        "a blank": listening(("127.0.0.1", 0)),
        "made": listening(("127.0.0.1", 0)),
    }
    said = kernel.host_passed({name: [fd] for name, fd in fds.items()})
    for (name, fd), fault in zip(fds.items(), said, strict=True):
        assert fault.startswith(f"what was passed as '{name}' is not hosted, and closed: ")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    ends = (
        "it is no socket",
        "that does not listen",
        "inet6 and unix",
        "white space",
        "remove that, and restart papad",
    )
    assert all(fault.endswith(end) for fault, end in zip(said, ends, strict=True)), said
    assert [info.name for info in kernel.list_sockets()] == ["made"]
    right.close()


async def test_a_file_is_removed_although_the_fork_server_ends(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()
    asked: list[object] = []

    async def fork(work: ExecPlan | Errand, gate: int, status: int) -> int:
        asked.append(work)
        if len(asked) == 1:
            raise OSError(errno.ECONNRESET, "the fork server has ended")
        return await fork_here(work, gate, status)

    files, whose = SocketFiles(lambda: fork), identity(str(path))
    assert whose is not None
    files.remove("s", str(path), whose)
    await files.removed()
    assert not path.exists()
    assert len(asked) == 2
