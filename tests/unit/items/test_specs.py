"""What may be asked for, and what a fault in it is called."""

from typing import Any

import pytest

from papa_dbus.errors import InvalidArgs
from papa_dbus.forms import SIZE
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_OPTIONS
from papa_dbus.service.items.options import parse_text
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec, WatchSpec


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"family": "ipx"}, "option 'family': 'ipx' is none of inet, inet6, unix"),
        ({"type": "tcp"}, "option 'type'"),
        ({"port": 65536}, "option 'port': 65536 is out of range (0 to 65535)"),
        ({"backlog": -1}, "option 'backlog'"),
        ({"path": "here"}, "option 'path': 'here' is not the absolute path of a file"),
        ({"path": "/tmp/"}, "option 'path'"),
        ({"path": "/" + "x" * 107}, "107 bytes"),
        ({"path": "/x", "port": 1}, "option 'port': goes with family inet or inet6, not with unix"),
        ({"path": "/x", "umask": 0o1000}, "option 'umask': 0o1000 is out of range"),
        ({"umask": 0o77}, "option 'umask': goes with family unix, not with inet"),
        ({"family": "unix"}, "option 'path': a Unix socket needs one"),
        ({"path": "/x", "reuseport": True}, "option 'reuseport'"),
        ({"type": "raw", "reuseport": True}, "option 'reuseport'"),
        ({"path": "/x", "type": "raw"}, "no raw Unix sockets"),
        ({"interface": "a" * 16}, "option 'interface'"),
        ({"host": "a\0b"}, "option 'host': a NUL byte"),
    ],
)
def test_faults_of_sockets(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgs, match=".") as caught:
        SocketSpec("s", **asked)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"command": ()}, "command: must not be empty"),
        ({"command": ("",)}, "command: must not be empty"),
        ({"command": ("a\0",)}, "command: a NUL byte"),
        ({"command": ("a", "x" * 2_100_000)}, "arguments and environment have 2100003 bytes"),
        ({"env": {"": "x"}}, "option 'env ': a variable's name may"),
        ({"env": {"A=B": "x"}}, "option 'env A=B': a variable's name may"),
        ({"working_dir": "tmp"}, "option 'working_dir': 'tmp' is not an absolute path"),
        ({"uid": 2**32 - 1}, "option 'uid': 4294967295 is out of range"),
        ({"rlimits": {"nofiles": 1}}, "option 'rlimits nofiles': is none of"),
        ({"rlimits": {"nofile": 2**64}}, "rlimits nofile"),
        ({"umask": 0o1000}, "option 'umask'"),
        ({"stdout": "file"}, "option 'stdout': 'file' is none of pipe, null"),
        ({"stderr": "file"}, "option 'stderr'"),
        ({"bufsize": 2**31}, "option 'bufsize'"),
        ({"journal": True, "bufsize": 0}, "option 'journal': goes with a bufsize"),
        ({"overflow": "wait"}, "option 'overflow': 'wait' is none of drop, block"),
        ({"name": "a b"}, "process name 'a b': a name may not contain white space"),
    ],
)
def test_faults_of_processes(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgs, match=".") as caught:
        ProcessSpec(**{"name": "p", "command": ("true",), **asked})
    assert says in str(caught.value)


@pytest.mark.parametrize("asked", [{"mode": "look"}, {"window": 0}, {"window": 2**40}, {"follow": True}])
def test_faults_of_watches(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgs, match=next(iter(asked))):
        WatchSpec(**asked)


def test_the_same_socket_is_the_same() -> None:
    made = SocketSpec("s")
    assert SocketSpec("s").differences(made, 5001) == ""
    assert SocketSpec("s", port=5001).differences(made, 5001) == ""
    assert SocketSpec("s", port=5002).differences(made, 5001) == "port 5001"
    assert SocketSpec("s", backlog=6).differences(made, 5001) == "backlog 5"
    assert SocketSpec("s", family="inet6").differences(made, 5001) == "family inet, host 127.0.0.1"
    assert SocketSpec("s", interface="lo").differences(made, 5001) == "host 127.0.0.1, no interface"


def test_what_a_socket_has_otherwise_is_told_of_its_own_family_alone() -> None:
    """Nobody is told of options that belong to neither what is there nor what was asked for."""
    file = SocketSpec("s", path="/run/s", umask=0o77)
    assert SocketSpec("s", port=80).differences(file, None) == "family unix, path /run/s, umask 0077"
    assert file.differences(SocketSpec("s", port=80, reuseport=True), 80) == (
        "family inet, host 127.0.0.1, port 80, reuseport"
    )
    assert SocketSpec("s", path="/run/s").differences(file, None) == "umask 0077"
    assert SocketSpec("s").differences(SocketSpec("s", port=80), 80) == "port 80"


def test_defect_13_umask_is_octal() -> None:
    option = SOCKET_OPTIONS["umask"]
    assert parse_text(option, "077") == 0o77
    with pytest.raises(InvalidArgs, match="option 'umask': '8' is not an octal number"):
        parse_text(option, "8")


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("10", 10), ("2k", 2048), ("1m", 2**20), ("1G", 2**30)])
def test_sizes(text: str, size: int) -> None:
    assert SIZE.read(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5m", "1kb", "٣"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidArgs, match="bufsize"):
        parse_text(PROCESS_OPTIONS["bufsize"], text)
