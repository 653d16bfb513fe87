"""Fd bundles: what is in one can be looked at again and again, and nothing is mistaken for one."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.service.systemd.fd_bundle import FdBundle, contents


def what(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@pytest.fixture
def three() -> Iterator[list[int]]:
    """Give a pipe's ends and a memory file."""
    fds = [*os.pipe(), os.memfd_create("x")]
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Count descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_put_in_comes_out_in_order_each_time(three: list[int]) -> None:
    bundle = FdBundle()
    bundle.put(three[:2])
    bundle.put(three[2:])
    expected = [what(fd) for fd in three]
    end = os.dup(bundle.end)
    for last in (False, True, False):
        if last:
            bundle.close()
        found = contents(end)
        assert found is not None
        assert [what(fd) for fd in found] == expected
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in found)
        for fd in found:
            os.close(fd)
    os.close(end)


def test_it_holds_what_everybody_else_has_closed() -> None:
    read, write = os.pipe()
    end = FdBundle.of([read])
    os.close(read)
    os.write(write, b"kept")
    [again] = contents(end) or []
    assert os.read(again, 10) == b"kept"
    os.close(again)
    os.close(end)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"nobody has it")
    os.close(write)


def test_as_many_as_linux_passes_at_once_fit() -> None:
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(253)]
    end = FdBundle.of(fds)
    found = contents(end)
    assert found is not None
    assert len(found) == 253
    for fd in [*fds, *found, end]:
        os.close(fd)


def test_what_is_not_a_bundle_is_none_and_stays_as_it_is(tmp_path: Path, three: list[int]) -> None:
    assert [contents(fd) for fd in three] == [None] * 3
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
    for kind in kinds:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with ours, theirs:
            assert contents(ours.fileno()) is None  # with nothing to be read
            socket.send_fds(theirs, [b"something else"], three)
            assert contents(ours.fileno()) is None
            assert ours.recv(100) == b"something else"
    for number, kind in enumerate(kinds):
        with socket.socket(socket.AF_UNIX, kind) as listening:
            listening.bind(str(tmp_path / str(number)))
            if kind != socket.SOCK_DGRAM:
                listening.listen()
            assert contents(listening.fileno()) is None
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert contents(listening.fileno()) is None
