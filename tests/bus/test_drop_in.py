"""The drop-in against the papa package of PyPI before its own server, call by call: the same results, types and errors.

Where they differ, the number of the defect of Papa 1.0.6 stands with it.
"""

import inspect
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from papa_dbus import client as drop_in
from tests.bus.lineclient import PATIENCE, Papad, free_port
from tests.bus.papa_1_0_6 import Call, Pair, Server, Side, output, pypi, taken_port
from tests.support import wait_until


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Papad]]:
    """The reference's server and papad, for all tests of this file."""
    server, papad = Server(), Papad(tmp_path_factory.mktemp("papad"))
    yield server, papad
    server.stop()
    assert papad.stop() == 0
    assert "Traceback" not in papad.log.read_text()


@pytest.fixture
def pair(servers: tuple[Server, Papad], tmp_path: Path) -> Iterator[Pair]:
    """Both clients; their servers hold nothing, before and after."""
    pair = Pair(*servers, tmp_path)
    yield pair
    pair.close()
    for server in servers:
        server.clear()


def cases(*calls: Call) -> pytest.MarkDecorator:
    """A test for each call, called by what it says."""
    return pytest.mark.parametrize("call", [pytest.param(call, id=_words(call)) for call in calls])


def _words(call: Call) -> str:
    source = " ".join(inspect.getsource(call).split())
    return source.removeprefix("lambda s: ").rstrip(",")


# ------------------------------------------------------------------------------ the module


def test_the_same_names_with_the_same_arguments() -> None:
    for name in ("PIPE", "STDOUT", "DEVNULL"):
        assert getattr(drop_in, name) == getattr(pypi, name) == getattr(subprocess, name)
    assert drop_in.ProcessOutput._fields == pypi.ProcessOutput._fields
    assert issubclass(drop_in.Error, RuntimeError)
    assert issubclass(pypi.Error, RuntimeError)
    for owner in ("Papa", "Watcher"):
        for name, member in vars(getattr(pypi, owner)).items():
            if not name.startswith("_") and not isinstance(member, staticmethod) and name not in PRIVATE:
                ours = inspect.getattr_static(getattr(drop_in, owner), name)
                assert type(ours) is type(member), name
                if callable(member) or isinstance(member, classmethod):
                    assert parameters(getattr(drop_in, owner), name) == parameters(getattr(pypi, owner), name)
    for name in ("set_debug_mode", "set_default_port", "set_default_path", "set_default_connection_timeout"):
        assert parameters(drop_in, name) == parameters(pypi, name)


#: How Papa 1.0.6 starts its server.
PRIVATE = ("spawn_lock", "spawned")


def parameters(owner: Any, name: str) -> list[tuple[str, object]]:
    """A function's parameters and their defaults."""
    return [(p.name, p.default) for p in inspect.signature(getattr(owner, name)).parameters.values()]


def test_what_star_gives() -> None:
    """Papa 1.0.6's own __all__ names what is not there."""
    there: dict[str, object] = {}
    exec("from papa_dbus.client import *", there)  # noqa: S102 (a star is for a module's top alone)
    assert set(drop_in.__all__) <= set(there)


@pytest.mark.parametrize("papa", [pypi, drop_in], ids=["reference", "drop-in"])
def test_the_defaults(papa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert papa.Papa._default_port_or_path == 20202
    assert papa.Papa._default_connection_timeout == 10
    for name in ("_default_port_or_path", "_default_connection_timeout", "_debug_mode", "_single_connection_mode"):
        monkeypatch.setattr(papa.Papa, name, getattr(papa.Papa, name))
    assert papa.set_default_port(4) is None
    assert papa.Papa._default_port_or_path == 4
    assert papa.set_default_path("/x") is None
    assert papa.Papa._default_port_or_path == "/x"
    assert papa.set_default_connection_timeout(7) is None
    assert papa.Papa._default_connection_timeout == 7
    assert papa.set_debug_mode(False) is None
    assert papa.Papa._debug_mode is False


@pytest.mark.parametrize("papa", [pypi, drop_in], ids=["reference", "drop-in"])
def test_a_path_must_be_absolute(papa: Any) -> None:
    with pytest.raises(papa.Error, match="absolute"):
        papa.Papa("x/y")


# -------------------------------------------------------------------------------- the client


def test_a_client_is_a_context_and_may_be_used_again(pair: Pair) -> None:
    def use(side: Side) -> Any:
        with side.p as same:
            number = side.p.fileno()
            side.p.set("a", "1")
        closed = side.p.fileno()
        again = side.p.get("a")
        return same is side.p, type(number).__name__, closed, again, type(side.p.fileno()).__name__, side.p.close()

    assert pair.compare(use)[1] == [("bool", True), "int", ("NoneType", None), "1", "int", ("NoneType", None)]


def test_exit_if_idle(tmp_path: Path) -> None:
    server, papad = Server(), Papad(tmp_path)
    pair = Pair(server, papad, tmp_path)
    pair.drop_in.p.set("a", "1")
    pair.reference.p.set("a", "1")
    assert pair.compare(lambda s: s.p.exit_if_idle()) == ("bool", False)
    pair.compare(lambda s: s.p.set("a"))
    assert pair.compare(lambda s: s.p.exit_if_idle()) == ("bool", True)
    pair.close()
    assert server.process.wait(PATIENCE) == papad.process.wait(PATIENCE) == 0
    papad.stop()


# ----------------------------------------------------------------------------------- sockets


@cases(
    lambda s: s.p.make_socket("s"),
    lambda s: s.p.make_socket("s", "127.0.0.1"),
    lambda s: s.p.make_socket("s", host="localhost"),
    lambda s: s.p.make_socket("s", host="192.0.2.1"),
    lambda s: s.p.make_socket("s", host="no such host"),
    lambda s: s.p.make_socket("s", port=0),
    lambda s: s.p.make_socket("s", port=free_port()),
    lambda s: s.p.make_socket("s", port=str(free_port())),
    lambda s: s.p.make_socket("s", port=-1),
    lambda s: s.p.make_socket("s", port=65536),
    lambda s: s.p.make_socket("s", port="http"),
    lambda s: s.p.make_socket("s", family=socket.AF_INET),
    lambda s: s.p.make_socket("s", family=socket.AF_INET6),
    lambda s: s.p.make_socket("s", family=socket.AF_UNIX),
    lambda s: s.p.make_socket("s", family=999),
    lambda s: s.p.make_socket("s", socket_type=socket.SOCK_STREAM),
    lambda s: s.p.make_socket("s", socket_type=999),
    lambda s: s.p.make_socket("s", backlog=17),
    lambda s: s.p.make_socket("s", backlog="17"),
    lambda s: s.p.make_socket("s", backlog="many"),
    lambda s: s.p.make_socket("s", path=s.socket_path()),
    lambda s: s.p.make_socket("s", path=s.socket_path(), family=socket.AF_UNIX, port=1, host="x"),
    lambda s: s.p.make_socket("s", path=s.socket_path(), socket_type=socket.SOCK_SEQPACKET),
    lambda s: s.p.make_socket("s", path="relative"),
    lambda s: s.p.make_socket("s", path="/folder/"),
    lambda s: s.p.make_socket("s", path=f"{s.folder}/no/socket"),
    lambda s: s.p.make_socket("s", path=s.socket_path(), umask="many"),
    lambda s: s.p.make_socket("s", reuseport=False),
    lambda s: s.p.make_socket(""),
    lambda s: s.p.make_socket(None),
)
def test_make_socket(pair: Pair, call: Call) -> None:
    pair.compare(call)
    pair.compare(lambda s: s.p.list_sockets())


@cases(
    lambda s: s.p.make_socket("s", port=s.p.make_socket("s", backlog=7)["port"], backlog=7),
    lambda s: s.p.make_socket("s", backlog=7) == s.p.make_socket("s", backlog=7),
    lambda s: (s.p.make_socket("s"), s.p.make_socket("s", backlog=8)),
    lambda s: (s.p.make_socket("s"), s.p.make_socket("s", family=socket.AF_INET6)),
    lambda s: (s.p.make_socket("s"), s.p.make_socket("s", path=s.socket_path())),
    lambda s: (s.p.make_socket("s", path=s.socket_path()), s.p.make_socket("t", path=s.socket_path())),
)
def test_making_a_socket_again(pair: Pair, call: Call) -> None:
    pair.compare(call)
    pair.compare(lambda s: s.p.list_sockets())


def test_a_port_that_is_taken(pair: Pair) -> None:
    user, port = taken_port()
    with user:
        assert pair.compare(lambda s: s.p.make_socket("s", port=port)) == "Error"


def three(make: str) -> Callable[[Pair], None]:
    """Make items of three names on both sides."""
    arguments = {"socket": (), "process": ("/bin/sleep", "60")}[make]

    def do(pair: Pair) -> None:
        for name in ("a.1", "a.2", "b"):
            pair.compare(lambda s, name=name: getattr(s.p, f"make_{make}")(name, *arguments))  # type: ignore[misc]

    return do


PATTERNS = [(), ("b",), ("a.*",), ("*",), ("none",), ("none*",), ("b", "a.2"), ("b", "a*"), ("b", "none"), ("b", "b")]


@pytest.mark.parametrize("patterns", PATTERNS)
def test_list_and_remove_sockets(pair: Pair, patterns: tuple[str, ...]) -> None:
    three("socket")(pair)
    pair.compare(lambda s: s.p.list_sockets(*patterns))
    if patterns:
        pair.compare(lambda s: s.p.remove_sockets(*patterns))
    pair.compare(lambda s: sorted(s.p.list_sockets()))


@pytest.mark.parametrize("kind", ["sockets", "processes"])
def test_defect_12_removing_without_a_name(pair: Pair, kind: str) -> None:
    three({"sockets": "socket", "processes": "process"}[kind])(pair)
    left = pair.reference.p.list_processes()
    assert pair.differ(lambda s: getattr(s.p, f"remove_{kind}")()) == (("bool", True), "Error")
    assert sorted(getattr(pair.drop_in.p, f"list_{kind}")()) == ["a.1", "a.2", "b"]
    for process in left.values():
        os.killpg(process["pid"], signal.SIGKILL)


def test_defect_08_reuseport(pair: Pair) -> None:
    """The reference holds no such socket, so its port is free meanwhile; the rest is the same."""
    expected, found = pair.differ(lambda s: s.p.make_socket("s", reuseport=True))
    assert "fileno" not in expected
    assert found.pop("fileno") == "int"
    assert found == expected


@pytest.mark.root
def test_defect_09_interface(pair: Pair) -> None:
    expected, found = pair.differ(lambda s: s.p.make_socket("s", interface="lo"))
    assert expected == "Error"
    assert found["interface"] == "lo"


def test_defect_10_datagram_sockets(pair: Pair) -> None:
    expected, found = pair.differ(lambda s: s.p.make_socket("s", socket_type=socket.SOCK_DGRAM))
    assert expected == "Error"
    assert found["type"] == "dgram"


@pytest.mark.parametrize("umask", [0o77, "077"])
def test_defect_13_umask(pair: Pair, umask: object) -> None:
    expected, found = pair.differ(lambda s: s.p.make_socket("s", path=s.socket_path(), umask=umask))
    assert expected.pop("umask") != found.pop("umask") == "0077"
    assert found == expected


# ------------------------------------------------------------------------------------ values

VALUES = ["x", "two words", "two  spaces", "a=b", "ü 💡", '"quoted"', "C:\\dir", "x" * 50_000, "-", "0", "trail "]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value[:20]))
def test_values(pair: Pair, value: str) -> None:
    assert pair.compare(lambda s: s.p.set("v", value)) == ("NoneType", None)
    assert pair.compare(lambda s: s.p.get("v")) == value
    assert pair.compare(lambda s: s.p.list_values()) == {"v": value}


@pytest.mark.parametrize("value", [" lead", "\ttab", "two\nlines", "two\r\nlines", "trail\\"], ids=ascii)
def test_defect_21_values_are_changed(pair: Pair, value: str) -> None:
    pair.reference.p.set("v", value)
    pair.drop_in.p.set("v", value)
    assert pair.differ(lambda s: s.p.get("v"))[1] == value
    assert pair.drop_in.p.list_values() == {"v": value}


@cases(
    lambda s: s.p.get("v"),
    lambda s: s.p.get("none"),
    lambda s: s.p.set("v", "2"),
    lambda s: s.p.set("v", None),
    lambda s: s.p.set("v", ""),
    lambda s: s.p.set("v"),
    lambda s: s.p.set("none"),
    lambda s: s.p.list_values("none"),
    lambda s: s.p.list_values("v"),
    lambda s: s.p.list_values("v*"),
    lambda s: s.p.list_values("v", "w.2"),
    lambda s: s.p.list_values("*"),
    lambda s: s.p.remove_values("v"),
    lambda s: s.p.remove_values("v", "none"),
    lambda s: s.p.remove_values("w.*"),
    lambda s: s.p.remove_values("none*"),
    lambda s: s.p.remove_values(),
    lambda s: s.p.remove_values("*"),
)
def test_setting_listing_and_removing_values(pair: Pair, call: Call) -> None:
    for name in ("v", "w.1", "w.2"):
        pair.compare(lambda s, name=name: s.p.set(name, "1"))  # type: ignore[misc]
    pair.compare(call)
    pair.compare(lambda s: s.p.list_values())


# --------------------------------------------------------------------------------- processes


def run(side: Side, *arguments: Any, **options: Any) -> Any:
    """Make a process and give its output, to its end."""
    made = side.p.make_process("p", *arguments, **options)
    assert made.pop("running") in (True, False)  # it may have ended already
    return made, output(side, side.p.watch_processes("p"))


SHELL = "/bin/sh"
BOTH = ("-c", "echo out; echo err >&2; exit 3")


@cases(
    lambda s: run(s, "/bin/echo"),
    lambda s: run(s, "/bin/echo", "one word"),
    lambda s: run(s, "/bin/echo", 5),
    lambda s: run(s, "/bin/echo", ["a", "b c"]),
    lambda s: run(s, "/bin/echo", ("a", "b", "*", "$x", "'", '"')),
    lambda s: run(s, "/bin/echo", (a for a in ("a", "b"))),
    lambda s: run(s, None, ["/bin/echo", "a"]),
    lambda s: run(s, args=("/bin/echo", "a")),
    lambda s: run(s, None, "/bin/true"),
    lambda s: run(s, SHELL, BOTH),
    lambda s: run(s, SHELL, ("-c", "kill -9 $$")),
    lambda s: run(s, "/usr/bin/env", env={"A": "1", "B": "two words", "C": "a=b", "D": "x\\"}),
    lambda s: run(s, "/bin/pwd", working_dir="/usr"),
    lambda s: run(s, "/bin/sh", ("-c", "ulimit -n; ulimit -c"), rlimits={"NOFILE": 77, "core": 0}),
    lambda s: run(s, SHELL, BOTH, stdout=s.papa.PIPE, stderr=s.papa.PIPE),
    lambda s: run(s, SHELL, BOTH, stdout=s.papa.DEVNULL),
    lambda s: run(s, SHELL, BOTH, stderr=s.papa.DEVNULL),
    lambda s: run(s, SHELL, BOTH, stderr=s.papa.STDOUT),
    lambda s: run(s, SHELL, BOTH, stdout=s.papa.DEVNULL, stderr=s.papa.DEVNULL),
    lambda s: run(s, SHELL, BOTH, bufsize=0),
    lambda s: run(s, SHELL, BOTH, bufsize=0, stdout=s.papa.STDOUT),
    lambda s: run(s, SHELL, BOTH, bufsize=100_000),
    lambda s: run(s, SHELL, BOTH, bufsize="64k"),
    lambda s: run(s, SHELL, BOTH, bufsize="1M"),
    lambda s: output(s, s.p.make_process("p", SHELL, BOTH, watch_immediately=True)),
    lambda s: run(s, "/bin/echo", ("$(socket.x.port)",)),
    lambda s: run(s, "/bin/echo", ("x$(socket.x.port",)),
    lambda s: run(s, "/bin/echo", ("$(socket.x.colour)",)),
    lambda s: run(s, "/no/such/program"),
    lambda s: run(s, None),
    lambda s: run(s, "/bin/echo", working_dir="/no/such/folder"),
    lambda s: run(s, "/bin/echo", uid="no-such-user"),
    lambda s: run(s, "/bin/echo", uid=987_654_321),
    lambda s: run(s, "/bin/echo", gid="no-such-group"),
    lambda s: run(s, "/bin/echo", rlimits={"colour": 1}),
    lambda s: run(s, "/bin/echo", rlimits={"nofile": "many"}),
    lambda s: run(s, "/bin/echo", bufsize="many"),
    lambda s: run(s, "/bin/echo", bufsize="5x"),
    lambda s: run(s, "/bin/echo", stdout=s.papa.STDOUT),
    lambda s: run(s, "/bin/echo", stdout=7),
    lambda s: run(s, "/bin/echo", stderr=7),
)
def test_make_process(pair: Pair, call: Call) -> None:
    pair.compare(call)
    pair.compare(lambda s: s.p.list_processes())


@pytest.mark.root
@pytest.mark.parametrize("user", [{"uid": 1}, {"uid": "daemon"}, {"uid": "1", "gid": 2}, {"uid": 1, "gid": "daemon"}])
def test_users(pair: Pair, user: dict[str, object]) -> None:
    pair.compare(lambda s: run(s, SHELL, ("-c", "id -u; id -g"), **user)[1])


def test_sockets_in_arguments(pair: Pair) -> None:
    words = (
        "-c",
        'test "$0" -gt 1 && test -S "/proc/self/fd/$1" && echo yes',
        "$(socket.s.port)",
        "$(socket.s.fileno)",
    )
    pair.compare(lambda s: s.p.make_socket("s"))
    assert pair.compare(lambda s: run(s, SHELL, words)[1])["out"] == ("bytes", b"yes\n")


@pytest.mark.parametrize("patterns", PATTERNS)
def test_list_and_remove_processes(pair: Pair, patterns: tuple[str, ...]) -> None:
    three("process")(pair)
    pair.compare(lambda s: s.p.list_processes(*patterns))
    pids = [p["pid"] for side in (pair.reference, pair.drop_in) for p in side.p.list_processes().values()]
    if patterns:
        pair.compare(lambda s: s.p.remove_processes(*patterns))
    # Those that run go on, and stay in the list until they end.
    pair.compare(lambda s: sorted(s.p.list_processes()))
    for pid in pids:
        os.kill(pid, 0)


@cases(
    lambda s: s.p.make_process("p", "/bin/sleep", "60") == s.p.make_process("p", "/bin/sleep", "60"),
    lambda s: (s.p.make_process("p", "/bin/sleep", "60"), s.p.make_process("p", "/bin/sleep", "61")),
    lambda s: (s.p.make_process("p", "/bin/sleep", "60"), s.p.make_process("p", "/bin/sleep", "60", env={"A": "1"})),
)
def test_making_a_process_again(pair: Pair, call: Call) -> None:
    pair.compare(call)
    pair.compare(lambda s: s.p.list_processes())


def test_defect_20_a_namesake_that_has_ended(pair: Pair) -> None:
    def make(side: Side) -> Any:
        pid = side.p.make_process("p", "/bin/echo", "unread")["pid"]
        wait_until(lambda: not side.p.list_processes("p")["p"]["running"], "the end of p")
        return side.p.make_process("p", "/bin/echo", "unread")["pid"] == pid

    assert pair.differ(make) == (("bool", True), "Error")


@pytest.mark.parametrize("argument", ["", " lead", "\ttab", "two\nlines", "trail\\"], ids=ascii)
def test_defect_21_arguments_are_changed(pair: Pair, argument: str) -> None:
    _, found = pair.differ(lambda s: run(s, "/usr/bin/printf", ("<%s>", "a", argument, "b"))[1]["out"])
    assert found == ("bytes", f"<a><{argument}><b>".encode())


def test_defect_22_more_than_one_socket_in_an_argument(pair: Pair) -> None:
    port = pair.drop_in.p.make_socket("s")["port"]
    pair.reference.p.make_socket("s")
    _, found = pair.differ(lambda s: run(s, "/bin/echo", ("$(socket.s.port),$(socket.s.port)",))[1]["out"])
    assert found == ("bytes", f"{port},{port}\n".encode())


def test_defect_23_a_program_with_an_equals_sign(pair: Pair) -> None:
    for side in (pair.reference, pair.drop_in):
        (side.folder / "a=b").write_text("#!/bin/sh\necho ran\n")
        (side.folder / "a=b").chmod(0o755)
    expected, found = pair.differ(lambda s: run(s, f"{s.folder}/a=b")[1]["out"])
    assert (expected, found) == ("Error", ("bytes", b"ran\n"))


def test_defect_26_the_listing_of_arguments(pair: Pair) -> None:
    expected, found = pair.differ(lambda s: s.p.make_process("p", "/bin/sleep", ("60", "--foo=bar"))["args"])
    assert (expected, found) == ("/bin/sleep 60", "/bin/sleep 60 --foo=bar")


def test_defect_28_by_pid(pair: Pair) -> None:
    made = {id(side): side.p.make_process("p", "/bin/sleep", "60") for side in (pair.reference, pair.drop_in)}
    expected, found = pair.differ(lambda s: sorted(s.p.list_processes(str(made[id(s)]["pid"]))))
    assert (expected, found) == (("list", []), ("list", ["p"]))


def test_defect_33_the_environment_and_the_folder(pair: Pair) -> None:
    """Where none is given there is nothing there; here it is the user's, and a minimum that programs can run with."""
    expected, found = pair.differ(lambda s: run(s, "/bin/pwd")[1]["out"])
    assert (expected, found) == (("bytes", b"/\n"), ("bytes", f"{pwd.getpwuid(os.getuid()).pw_dir}\n".encode()))
    expected, found = pair.differ(lambda s: run(s, "/usr/bin/env")[1]["out"])
    assert expected == ("bytes", b"")
    assert b"PATH=" in found[1]


# ---------------------------------------------------------------------------------- watching


def gated(side: Side, name: str = "p") -> Path:
    """A process that says one, and two once something is written to the pipe that is returned."""
    gate = side.folder / f"{name}.gate"
    os.mkfifo(gate)
    side.p.make_process(name, SHELL, ("-c", f"echo one; read go < {gate}; echo two; exit 4"))
    return gate


def test_a_watcher_step_by_step(pair: Pair) -> None:
    def steps(side: Side) -> Any:
        gate = gated(side)
        watcher = side.p.watch_processes("p")
        seen: list[Any] = [bool(watcher), len(watcher), type(watcher.fileno()).__name__]
        out, err, closed = watcher.read()
        seen += [[record.data for record in out], err, closed, watcher.exit_code, watcher.acknowledge()]
        gate.write_text("go\n")
        out = []
        while not watcher.exit_code:
            out += watcher.read()[0]
        seen += [[record.data for record in out], watcher.exit_code, bool(watcher), side.p.list_processes() == {}]
        seen += [watcher.read(), bool(watcher), len(watcher), watcher.read()]
        return seen, watcher.close(), watcher.close(), side.p.list_processes()

    pair.compare(steps)


@cases(
    lambda s: s.p.watch_processes("none"),
    lambda s: s.p.watch_processes("none*"),
    lambda s: s.p.watch_processes(),
    lambda s: s.p.watch_processes("*"),
    lambda s: (s.p.make_process("p", "/bin/sleep", "60"), s.p.watch_processes("p", "none")),
)
def test_nothing_to_watch(pair: Pair, call: Call) -> None:
    assert pair.compare(call) == "Error"


@pytest.mark.parametrize("patterns", [("p", "q"), ("p", "q*"), ("*",), (), ("p*", "q")])
def test_watching_several_processes(pair: Pair, patterns: tuple[str, ...]) -> None:
    def watch(side: Side) -> Any:
        side.p.make_process("p", SHELL, ("-c", "echo p; exit 1"))
        side.p.make_process("q", SHELL, ("-c", "echo q >&2; exit 2"))
        seen = output(side, side.p.watch_processes(*patterns))
        return seen | {"closed": sorted(seen["closed"])}, side.p.list_processes()

    pair.compare(watch)


def test_several_watchers_of_one_client(pair: Pair) -> None:
    def watch(side: Side) -> Any:
        side.p.make_process("p", SHELL, ("-c", "echo p; exit 1"))
        watchers = side.p.watch_processes("p"), side.p.make_process("q", "/bin/echo", "q", watch_immediately=True)
        side.p.set("a", "1")  # the client is there for commands
        return [output(side, watcher) for watcher in watchers], side.p.get("a")

    pair.compare(watch)


def test_a_watcher_outlives_its_client_s_connection(pair: Pair) -> None:
    def watch(side: Side) -> Any:
        gate = gated(side)
        watcher = side.p.watch_processes("p")
        side.p.close()
        gate.write_text("go\n")
        return output(side, watcher), side.p.list_processes()

    pair.compare(watch)


def test_one_watcher_after_the_other(pair: Pair) -> None:
    """What was read is acknowledged by close(); what was not is there for the next."""

    def watch(side: Side) -> Any:
        gate = gated(side)
        with side.p.watch_processes("p") as watcher:
            first = watcher.read()[0]
        with side.p.watch_processes("p"):
            pass
        gate.write_text("go\n")
        return [record.data for record in first], output(side, side.p.watch_processes("p"))

    assert pair.compare(watch)[1][1]["out"] == ("bytes", b"two\n")


def test_defect_27_a_silent_process_is_not_ready(pair: Pair) -> None:
    pair.compare(lambda s: s.p.make_process("p", "/bin/sleep", "60"))

    def watch(side: Side) -> Any:
        with side.p.watch_processes("p") as watcher:
            return watcher.ready

    assert pair.differ(watch) == (("bool", True), ("bool", False))
