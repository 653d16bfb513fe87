"""The client of the papa package on PyPI, unmodified, against papad: each call, and what its own tests look at.

The same for the drop-in, over D-Bus and over the line protocol.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from papa_dbus import client as drop_in
from tests.bus.lineclient import PATIENCE, ROOT, Papad, kill_session
from tests.support import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its source is older than what Python says about it
    import papa as pypi_papa

#: Prints its version, its path and its arguments as three pieces, and then a word on stderr without a line's end.
THREE_LINES = """\
import os, sys, time
for line in ("Version: " + sys.version.split()[0], "Executable: " + sys.executable, "Args: " + " ".join(sys.argv[1:])):
    os.write(1, line.encode() + b"\\n")
    time.sleep(0.01)  # paces the pieces
os.write(2, b"done")
"""

#: Serves one client on the listening socket it is given by number: sends back what comes, and prints it.
ECHO_SERVER = """\
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    connection, _ = listener.accept()
    while data := connection.recv(100):
        connection.sendall(data)
        sys.stdout.write(data.decode())
"""

#: Says howdy to a port on this machine, and prints the answer.
ECHO_CLIENT = """\
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"howdy\\n")
    sys.stdout.write(connection.recv(100).decode())
"""


#: The client's module: papa of PyPI, or the drop-in.
papa: Any = None


@pytest.fixture(autouse=True, params=["pypi", "bus", "line"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which client, and over what."""
    monkeypatch.setattr(sys.modules[__name__], "papa", pypi_papa if request.param == "pypi" else drop_in)
    return str(request.param)


@pytest.fixture
def papad(way: str, shared_papad: Papad, monkeypatch: pytest.MonkeyPatch) -> Iterator[Papad]:
    """A papad that holds nothing, before and after, as the client's default."""
    where = shared_papad.address if way == "bus" else shared_papad.port
    monkeypatch.setattr(papa.Papa, "_default_port_or_path", where)
    monkeypatch.setattr(pypi_papa.Papa, "spawned", True)  # never a server of its own
    yield shared_papad
    shared_papad.clear()


@pytest.fixture
def p(papad: Papad) -> Iterator[Any]:
    """The client."""
    del papad
    with papa.Papa() as client:
        yield client


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs, in a folder of their own."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "three_lines.py").write_text(THREE_LINES)
    (folder / "echo_server.py").write_text(ECHO_SERVER)
    (folder / "echo_client.py").write_text(ECHO_CLIENT)
    return folder


def gather(watcher: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Read a watcher to its end, as papa's own tests do."""
    out, err, closed = [], [], []
    while watcher:
        reply = watcher.read()
        if reply:
            out += reply[0]
            err += reply[1]
            closed += reply[2]
    return out, err, closed


def text(records: list[Any]) -> bytes:
    """What they say together."""
    return b"".join(record.data for record in records)


def subset(expected: dict[str, object], found: dict[str, object]) -> bool:
    """Whether all that is expected is there."""
    return {key: found.get(key) for key in expected} == expected


# ----------------------------------------------------------------------------------- sockets

INET = {"type": "stream", "family": "inet", "backlog": 5, "host": "127.0.0.1"}


def test_socket_of_inet(p: Any) -> None:
    reply = p.make_socket("inet_sock")
    assert subset(INET, reply)
    assert set(reply) == {*INET, "port", "fileno"}
    assert isinstance(reply["port"], int)
    assert isinstance(reply["fileno"], int)
    assert p.list_sockets() == {"inet_sock": reply}
    assert p.remove_sockets("inet_sock") is True
    assert p.list_sockets() == {}


def test_socket_of_inet6(p: Any) -> None:
    reply = p.make_socket("inet6_sock", family=socket.AF_INET6, backlog=17)
    assert subset({"type": "stream", "family": "inet6", "backlog": 17, "host": "::1"}, reply)
    p.remove_sockets("inet6_sock")
    reply = p.make_socket("inet6_sock", family=socket.AF_INET6, reuseport=True)
    assert subset({"family": "inet6", "host": "::1", "reuseport": "1"}, reply)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_defect_10_sockets_of_every_type(p: Any, kind: int, tmp_path: Path) -> None:
    reply = p.make_socket("one", socket_type=kind)
    with socket.socket(socket.AF_INET, kind) as client:
        client.connect(("127.0.0.1", reply["port"]))
    path = str(tmp_path / "sock")
    p.make_socket("two", path=path, socket_type=kind)
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.connect(path)


@pytest.mark.root
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def test_defect_09_interface(p: Any, family: int, host: str) -> None:
    reply = p.make_socket("s", family=family, interface="lo")
    assert subset({"interface": "lo", "host": host}, reply)
    p.remove_sockets("s")
    again = p.make_socket("s", family=family, interface="lo", port=reply["port"])
    assert again["port"] == reply["port"]
    assert p.list_sockets() == {"s": again}


def test_socket_of_a_path(p: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "tst.sock")
    reply = p.make_socket("fsock", path=path)
    assert reply == {"path": path, "backlog": 5, "type": "stream", "family": "unix", "fileno": reply["fileno"]}
    assert p.list_sockets() == {"fsock": reply}
    with pytest.raises(papa.Error, match="absolute"):
        p.make_socket("fsock", path="path")


@pytest.mark.parametrize("umask", [0o77, "077", "0077"])
def test_defect_13_umask(p: Any, tmp_path: Path, umask: object) -> None:
    path = tmp_path / "sock"
    reply = p.make_socket("s", path=str(path), umask=umask)
    assert path.stat().st_mode & 0o777 == 0o700
    assert reply["umask"] == "0077"
    assert p.make_socket("s", path=str(path), umask=reply["umask"]) == reply


def test_socket_that_exists(p: Any) -> None:
    reply = p.make_socket("exists_sock")
    assert p.make_socket("exists_sock") == reply
    with pytest.raises(papa.Error, match=r"has other options: family inet, host 127\.0\.0\.1;"):
        p.make_socket("exists_sock", family=socket.AF_INET6)


def test_wildcards(p: Any) -> None:
    for name in ("inet.0", "inet.1", "other"):
        assert subset(INET, p.make_socket(name))
    assert sorted(p.list_sockets("inet.*")) == ["inet.0", "inet.1"]
    assert sorted(p.list_sockets("other")) == ["other"]
    assert p.list_sockets("not_there") == {}
    assert sorted(p.list_sockets("other", "inet.1")) == ["inet.1", "other"]
    for patterns in (["other", "inet*"], ["*"], []):
        assert sorted(p.list_sockets(*patterns)) == ["inet.0", "inet.1", "other"]
    p.remove_sockets("inet.*")
    assert sorted(p.list_sockets()) == ["other"]


def test_defect_12_nothing_is_removed_without_a_name(p: Any) -> None:
    p.make_socket("s")
    p.make_process("p", "/bin/sleep", args="60")
    for remove in (p.remove_sockets, p.remove_processes):
        with pytest.raises(papa.Error):
            remove()
    assert sorted(p.list_sockets()) == ["s"]
    assert sorted(p.list_processes()) == ["p"]


# ------------------------------------------------------------------------------------ values


def test_values(p: Any) -> None:
    assert p.get("aack") is None
    assert p.list_values() == {}
    values = {"aack": "bar", "aack2": "barry", "aack3": "larry", "bar": "aack"}
    for name, value in values.items():
        p.set(name, value)
        assert p.get(name) == value
    assert p.list_values() == p.list_values("*") == values
    assert p.list_values("aack*") == {name: values[name] for name in ("aack", "aack2", "aack3")}
    assert p.list_values("aack2", "b*") == {"aack2": "barry", "bar": "aack"}
    p.set("aack")
    assert p.get("aack") is None
    assert sorted(p.list_values("a*")) == ["aack2", "aack3"]
    assert p.remove_values("aack*") is True
    assert p.remove_values("never_there") is True
    assert p.list_values() == {"bar": "aack"}


def test_values_arrive_exactly(p: Any) -> None:
    for value in (
        " lead",
        "trail ",
        "a  b",
        "C:\\dir\\x",
        "a=b",
        '"quoted"',
        "ü 💡",
        "x" * 100_000,
        "HTTP/1.1",
        "\ttab",
    ):
        p.set("v", value)
        assert p.get("v") == value
        assert p.list_values() == {"v": value}


def test_values_are_not_removed_all_at_once(p: Any) -> None:
    p.set("a", "1")
    for names in ([], ["*"]):
        with pytest.raises(papa.Error):
            p.remove_values(*names)
    assert p.list_values() == {"a": "1"}


# --------------------------------------------------------------------------------- processes


def three_lines(p: Any, programs: Path, name: str = "write3", **options: object) -> Any:
    """Make the process that writes three lines."""
    return p.make_process(name, sys.executable, args="three_lines.py", working_dir=str(programs), **options)


#: The client cannot send an empty value.
ENVIRONMENT = {key: value for key, value in os.environ.items() if value}
VERSION = b"Version: " + sys.version.split(maxsplit=1)[0].encode() + b"\n"
EXECUTABLE = b"Executable: " + sys.executable.encode() + b"\n"


def check_three_lines(out: list[Any], err: list[Any], closed: list[Any], name: str = "write3") -> None:
    """As papa's own tests look at them."""
    assert text(out) == VERSION + EXECUTABLE + b"Args: \n"  # on a busy machine two pieces may have become one
    assert text(err) == b"done"
    assert [record.data for record in closed] == [0]
    assert {record.name for record in (*out, *err, *closed)} == {name}
    stamps = [record.timestamp for record in (*out, *err, *closed)]
    assert stamps == sorted(stamps)
    assert abs(time.time() - stamps[0]) < PATIENCE


def test_process_with_out_and_err(p: Any, programs: Path) -> None:
    assert p.list_processes() == {}
    reply = three_lines(p, programs, uid=os.geteuid(), env=ENVIRONMENT)
    assert isinstance(reply["pid"], int)
    assert reply["running"] is True
    assert abs(time.time() - reply["started"]) < PATIENCE
    assert p.list_processes()["write3"]["pid"] == reply["pid"]
    assert reply["args"] == f"{sys.executable} three_lines.py"
    with pytest.raises(papa.Error, match="not_there"):
        p.watch_processes("not_there")
    with p.watch_processes("write*") as watcher:
        select.select([watcher], [], [], PATIENCE)
        assert watcher.ready
        check_three_lines(*gather(watcher))
        assert watcher.exit_code == {"write3": 0}
    assert p.list_processes() == {}


def test_process_asked_for_again_while_it_runs(p: Any) -> None:
    reply = p.make_process("p", "/bin/sleep", args="60")
    assert p.make_process("p", "/bin/sleep", args="60") == reply
    with pytest.raises(papa.Error):
        p.make_process("p", "/bin/sleep", args="61")


def test_defect_20_a_process_that_has_ended_is_no_success(p: Any) -> None:
    pid = p.make_process("p", "/bin/echo", args="x")["pid"]
    until_ended(pid)
    with pytest.raises(papa.Error, match="unread"):
        p.make_process("p", "/bin/echo", args="x")
    with p.watch_processes("p") as watcher:
        gather(watcher)
    assert p.make_process("p", "/bin/echo", args="x")["pid"] != pid


def until_ended(pid: int) -> None:
    """Wait until a process has gone."""
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), f"the end of {pid}")


def test_process_without_an_executable(p: Any, programs: Path) -> None:
    p.make_process("write3", None, args=[sys.executable, "three_lines.py"], working_dir=str(programs))
    with p.watch_processes("write*") as watcher:
        check_three_lines(*gather(watcher))


def test_process_watched_immediately(p: Any, programs: Path) -> None:
    with three_lines(p, programs, watch_immediately=True) as watcher:
        check_three_lines(*gather(watcher))
        assert watcher.exit_code == {"write3": 0}
    assert p.list_processes() == {}


def test_process_that_cannot_be_watched_immediately(p: Any) -> None:
    with pytest.raises(papa.Error, match="blah"):
        p.make_process("p", "/bin/blah", watch_immediately=True)
    assert p.list_processes() == {}


def test_process_with_err_in_out(p: Any, programs: Path) -> None:
    three_lines(p, programs, stderr=papa.STDOUT)
    with p.watch_processes("write*") as watcher:
        out, err, closed = gather(watcher)
    assert text(out) == VERSION + EXECUTABLE + b"Args: \ndone"
    assert (err, [record.data for record in closed]) == ([], [0])


def test_process_without_out(p: Any, programs: Path) -> None:
    three_lines(p, programs, stdout=papa.DEVNULL, stderr=papa.PIPE)
    with p.watch_processes("write*") as watcher:
        out, err, closed = gather(watcher)
    assert (out, text(err), [record.data for record in closed]) == ([], b"done", [0])


def test_process_without_err(p: Any, programs: Path) -> None:
    three_lines(p, programs, stderr=papa.DEVNULL)
    with p.watch_processes("write*") as watcher:
        out, err, _ = gather(watcher)
    assert (text(out), err) == (VERSION + EXECUTABLE + b"Args: \n", [])


def test_process_without_a_buffer(p: Any, programs: Path) -> None:
    three_lines(p, programs, bufsize=0)
    with p.watch_processes("write*") as watcher:
        out, err, closed = gather(watcher)
    assert (out, err, [record.data for record in closed]) == ([], [], [0])


def test_process_with_a_small_buffer(p: Any, programs: Path) -> None:
    # One pipe: of two, nobody can say which was written to first.
    until_ended(three_lines(p, programs, stderr=papa.STDOUT, bufsize=14)["pid"])
    with p.watch_processes("write*") as watcher:
        out, err, closed = gather(watcher)
    assert (err, [record.data for record in closed]) == ([], [0])
    # The end of it: what is longer than the buffer is kept in pieces.
    assert (VERSION + EXECUTABLE + b"Args: \ndone").endswith(text(out))
    assert len(b"done") <= len(text(out)) <= 14


@pytest.mark.parametrize("bufsize", ["2m", "64k", 100_000])
def test_process_with_a_large_buffer(p: Any, bufsize: object) -> None:
    p.make_process("p", "/bin/sh", args=("-c", "seq 1 5000"), bufsize=bufsize)
    with p.watch_processes("p") as watcher:
        out, _, _ = gather(watcher)
    assert text(out) == b"".join(b"%d\n" % n for n in range(1, 5001))


def test_two_processes(p: Any, programs: Path) -> None:
    pids = [three_lines(p, programs, name)["pid"] for name in ("write3.0", "write3.1")]
    assert {reply["pid"] for reply in p.list_processes("write3.*").values()} == set(pids)
    with p.watch_processes("write3.*") as watcher:
        out, err, closed = gather(watcher)
        assert watcher.exit_code == {"write3.0": 0, "write3.1": 0}
    for name in ("write3.0", "write3.1"):
        own = [[record for record in records if record.name == name] for records in (out, err, closed)]
        check_three_lines(own[0], own[1], own[2], name)


def test_two_processes_of_which_one_ends_first(p: Any) -> None:
    fileno = p.fileno()
    p.make_process("p.0", "/bin/echo", args="zero")
    p.make_process("p.1", "/bin/sleep", args="60")
    with p.watch_processes("p.*") as watcher:
        while not watcher.read()[2]:
            pass
    assert sorted(p.list_processes()) == ["p.1"]
    assert p.fileno() == fileno  # the connection came back


def test_several_watchers(p: Any, programs: Path, way: str) -> None:
    fileno = p.fileno()
    for name in ("write3.0", "write3.1"):
        three_lines(p, programs, name)
    one = p.watch_processes("write3.0")
    if way == "pypi":  # it makes its connection the watcher's, and another for itself
        assert one.fileno() == fileno
    two = p.watch_processes("write3.1")
    p.set("p1", "t1")
    assert len({p.fileno(), one.fileno(), two.fileno()}) == 3
    check_three_lines(*gather(one), name="write3.0")
    check_three_lines(*gather(two), name="write3.1")
    one.close()
    two.close()
    assert p.list_processes() == {}
    assert p.get("p1") == "t1"


def test_defect_14_two_watchers_of_one_process(p: Any, programs: Path) -> None:
    three_lines(p, programs)
    with p.watch_processes("write*") as one, p.watch_processes("write*") as two:
        check_three_lines(*gather(one))
        check_three_lines(*gather(two))


def test_one_watcher_after_the_other(p: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    p.make_process("p", "/bin/sh", args=("-c", f"echo one; read go < {gate}; echo two"))
    with p.watch_processes("p") as watcher:
        out, _, _ = watcher.read()
    assert text(out) == b"one\n"
    gate.write_text("go\n")
    with p.watch_processes("p") as watcher:
        out, _, _ = gather(watcher)
    assert text(out) == b"two\n"


def test_what_a_killed_client_had_read_comes_again(papad: Papad, p: Any, programs: Path) -> None:
    three_lines(p, programs)
    where = papa.Papa._default_port_or_path
    script = f"import {papa.__name__} as papa; w = papa.Papa({where!r}).watch_processes('write3')\n"
    script += "print(len(w.read()), flush=True); input()"
    command = [sys.executable, "-W", "ignore", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"3\n"
        client.send_signal(signal.SIGKILL)
    with p.watch_processes("write3") as watcher:
        check_three_lines(*gather(watcher))


@pytest.mark.parametrize("size", [1, 1000, 1025, 10_000])
def test_select_never_hangs(p: Any, size: int) -> None:
    """Output that comes with the answer to a watch would be hidden from select(): 30 of 100 tries hung.

    More than the client reads at once (1024 bytes) need not wait: something of it is left to be seen. papad can only
    wait a moment before the output: the original client hangs if this machine does not let it run for that long.
    """
    hung = 0
    for n in range(50):
        p.make_process(f"p{n}", "/bin/echo", args="x" * size)
        with p.watch_processes(f"p{n}") as watcher:
            hung += not select.select([watcher], [], [], PATIENCE)[0]
            gather(watcher)
        with p.make_process(f"p{n}", "/bin/echo", args="x" * size, watch_immediately=True) as watcher:
            hung += not select.select([watcher], [], [], PATIENCE)[0]
            gather(watcher)
    assert hung <= (3 if papa is pypi_papa and size <= 1024 else 0)


def test_closing_a_watcher_that_has_read_nothing(p: Any) -> None:
    p.make_process("p", "/bin/sleep", args="60")
    watcher = p.watch_processes("p")
    watcher.close()
    assert not watcher
    assert sorted(p.list_processes()) == ["p"]


def test_exit_codes(p: Any) -> None:
    for script, code in (("exit 7", 7), ("kill -9 $$", -9), ("kill $$", -15), (":", 0)):
        with p.make_process("p", "/bin/sh", args=("-c", script), watch_immediately=True) as watcher:
            gather(watcher)
            assert watcher.exit_code == {"p": code}


def test_environment_and_rlimits(p: Any) -> None:
    script = "env; ulimit -n; ulimit -c"
    env = {"A": "b  c", "PATH": os.environ["PATH"], "Q": '"x"', "S": "C:\\", "E": "a=b"}
    limits = {"nofile": 123, "core": 0}
    with p.make_process(
        "p", "/bin/sh", args=("-c", script), env=env, rlimits=limits, watch_immediately=True
    ) as watcher:
        lines = text(gather(watcher)[0]).decode().splitlines()
    assert lines[-2:] == ["123", "0"]
    assert set(lines) >= {f"{name}={value}" for name, value in env.items()}


@pytest.mark.root
@pytest.mark.parametrize(("options", "expected"), [({"uid": 1}, "1:1"), ({"uid": "daemon", "gid": 0}, "1:0")])
def test_uid_and_gid(p: Any, options: dict[str, object], expected: str) -> None:
    watcher = p.make_process("p", "/bin/sh", args=("-c", "echo $(id -u):$(id -g)"), watch_immediately=True, **options)
    with watcher:
        assert text(gather(watcher)[0]).decode().strip() == expected


def test_defect_21_26_arguments(p: Any, tmp_path: Path) -> None:
    show = tmp_path / "sh=ow"
    show.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    show.chmod(0o755)
    args = ("--foo=bar", " lead", "trail ", "C:\\dir", "a\\ b", "ü", "a=b c=d")
    with p.make_process("p", str(show), args=args, watch_immediately=True) as watcher:
        (shown,) = p.list_processes().values()
        assert set(shown) <= {"pid", "running", "started", "uid", "gid", "exit_code", "args"}
        assert text(gather(watcher)[0]).decode() == "".join(f"<{arg}>" for arg in args)


def test_defect_25_a_colon_in_a_name(p: Any) -> None:
    with pytest.raises(papa.Error, match="':'"):
        p.make_process("a:b", "/bin/true")


# --------------------------------------------------------------- sockets handed to processes


def echo(port: int) -> None:
    """Talk to the echo server."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        for words in (b"test\n", b"and do some more\n"):
            client.sendall(words)
            assert client.recv(len(words), socket.MSG_WAITALL) == words


@pytest.mark.parametrize("reuseport", [False, True])
def test_echo_server(p: Any, programs: Path, reuseport: bool) -> None:
    port = p.make_socket("echo_socket", reuseport=reuseport)["port"]
    args = ("echo_server.py", "$(socket.echo_socket.fileno)")
    p.make_process("echo1", sys.executable, args=args, working_dir=str(programs))
    if reuseport:  # the socket is the process's own: nobody listens before it is there
        until_listening(port)
    echo(port)
    with p.watch_processes("echo*") as watcher:
        out, _, _ = gather(watcher)
    assert text(out) == b"test\nand do some more\n"


def until_listening(port: int) -> None:
    """Wait until somebody listens on a port."""
    wanted = f":{port:04X} 00000000:0000 0A"
    wait_until(lambda: wanted in Path("/proc/net/tcp").read_text(), f"a server on port {port}")


def test_echo_server_and_client(p: Any, programs: Path) -> None:
    p.make_socket("echo_socket")
    for name, what in (("server", "fileno"), ("client", "port")):
        args = (f"echo_{name}.py", f"$(socket.echo_socket.{what})")
        p.make_process(f"echo.{name}", sys.executable, args=args, working_dir=str(programs))
    with p.watch_processes("echo.*") as watcher:
        out, _, closed = gather(watcher)
    assert {(record.name, record.data) for record in out} == {("echo.client", b"howdy\n"), ("echo.server", b"howdy\n")}
    assert [record.data for record in closed] == [0, 0]


@pytest.mark.parametrize("early", [False, True])
def test_removing_a_process(p: Any, programs: Path, early: bool) -> None:
    port = p.make_socket("echo_socket")["port"]
    args = ("echo_server.py", "$(socket.echo_socket.fileno)")
    pid = p.make_process("echo", sys.executable, args=args, working_dir=str(programs))["pid"]
    if early:
        p.remove_processes("echo")
    echo(port)
    if not early:
        p.remove_processes("echo")
    until_ended(pid)
    wait_until(lambda: not p.list_processes(), p.list_processes)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: p.make_process("bad", sys.executable, args=("x.py", "$(socket.echo_socket.fileno)")),
        lambda p: p.make_process("bad", sys.executable + "-blah"),
        lambda p: p.make_process("bad", sys.executable, working_dir="/no-such-folder"),
        lambda p: p.make_process("bad", sys.executable, uid="no-such-user"),
        lambda p: p.make_process("bad", sys.executable, rlimits={"wibble": 1}),
        lambda p: p.make_socket("bad", host="192.0.2.1"),
        lambda p: p.make_socket("bad", path="/no-such-folder/sock"),
    ],
)
def test_what_cannot_be_made(p: Any, make: Callable[[Any], object]) -> None:
    with pytest.raises(papa.Error):
        make(p)
    assert p.list_processes() == p.list_sockets() == {}


# ---------------------------------------------------------------------------------- the rest


def test_exit_if_idle_when_it_is_not(p: Any) -> None:
    p.set("a", "1")
    assert p.exit_if_idle() is False


def test_exit_if_idle(tmp_path: Path) -> None:
    papad = Papad(tmp_path)
    with papa.Papa(papad.port) as client:
        assert client.exit_if_idle() is True
    assert papad.process.wait(PATIENCE) == 0
    papad.stop()


def test_over_the_unix_socket(papad: Papad, programs: Path) -> None:
    with papa.Papa(papad.path) as client:
        three_lines(client, programs)
        with client.watch_processes("write3") as watcher:
            check_three_lines(*gather(watcher))


def test_defect_36_many_clients_at_once(papad: Papad) -> None:
    """Each a thread with a process of its own, at the same time."""
    failures: list[BaseException] = []

    def one(name: str) -> None:
        try:
            with papa.Papa(papad.port) as client:
                for _ in range(5):
                    command = ("-c", f"seq 1 100; exit {len(name)}")
                    with client.make_process(name, "/bin/sh", args=command, watch_immediately=True) as watcher:
                        out, _, closed = gather(watcher)
                    assert text(out) == b"".join(b"%d\n" % n for n in range(1, 101))
                    assert [record.data for record in closed] == [len(name)]
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test tells it)
            failures.append(error)

    threads = [threading.Thread(target=one, args=(f"many.{n}",)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []


def test_defect_07_a_grandchild_does_not_hide_the_exit(p: Any) -> None:
    with p.make_process("p", "/bin/sh", args=("-c", "sleep 60 & exit 5"), watch_immediately=True) as watcher:
        pid = p.list_processes().get("p", {}).get("pid")
        while "p" not in watcher.exit_code:
            watcher.read()
        assert watcher.exit_code == {"p": 5}
    if pid:
        kill_session(pid)
