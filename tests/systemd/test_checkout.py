"""The README's commands in a fresh checkout, on a Debian that has git and nothing else of what is needed."""

import socket
from collections.abc import Iterator

import pexpect
import pytest

from tests.systemd.container import Container
from tests.systemd.machines import make_bed, readme_command

pytestmark = pytest.mark.timeout(700)  # seconds: all that the tests need is installed anew

ON_DEBIAN_13 = "tests/unit tests/bus/line/test_line_protocol.py " + " ".join(
    f"tests/bus/test_{name}.py" for name in ("aio", "bridge", "client_docs", "dbus", "drop_in_life", "reload")
)


@pytest.fixture(params=["bookworm", "trixie"])
def fresh(request: pytest.FixtureRequest) -> Iterator[Container]:
    """Give a fresh Debian with the project checked out, not booted."""
    container = make_bed(request.param)
    yield container
    container.stop()


def free_port() -> str:
    """Give a port that nothing listens on; a container that is not booted shares this machine's network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def test_make_run_and_all_that_make_test_needs(fresh: Container) -> None:
    command = fresh.unbooted_command(f"cd /root/papa; {readme_command('make run')}", {"PORT": free_port()})
    screen = pexpect.spawn(command[0], command[1:], timeout=120, encoding="utf-8", codec_errors="replace")
    try:
        screen.expect(r"busctl[^\r\n]*org\.papa\.Kernel")
        screen.expect(r"telnet[^\r\n]*localhost")
        screen.sendcontrol("c")
        screen.expect("papad has stopped")
        screen.expect(pexpect.EOF, timeout=30)
    finally:
        screen.close(force=True)
    assert "Traceback" not in (screen.before or "")
    assert screen.exitstatus in (0, 130, 255)  # the last: make ends by the signal too, and so nspawn says it

    # What `make test` sets up before it tests; the tests themselves boot containers, which a container cannot.
    fresh.run_unbooted("cd /root/papa && make check")


def test_the_tests_that_need_no_systemd_on_debian_13() -> None:
    """Python 3.13, where this machine has 3.11: those that say something about Python; all would take too long."""
    container = make_bed("trixie")
    try:
        container.run_unbooted(f"cd /root/papa && {readme_command('make test').removesuffix('make test')} make check")
        container.run_unbooted(f"cd /root/papa && .venv/bin/pytest -q --color=no {ON_DEBIAN_13}")
    finally:
        container.stop()
