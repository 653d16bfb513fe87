"""`systemctl stop papa` and `start`: what each systemd keeps, and what the journal says of that which it does not."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import Container
from tests.systemd.machines import as_after_boot
from tests.systemd.test_serving import call, watch

GATE = "/run/papa-gate"
#: It prints and ends when the gate is written to, which is while papad is stopped.
SCRIPT = f"echo one; read x < {GATE}; echo two; exit 5"
SERVER = "import socket; s = socket.socket(fileno=3)\nwhile True: s.accept()[0].close()"
CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)"


def hosting(container: Container) -> Container:
    """Give a container with a socket, a value and three processes, of which one has ended; a line of each is unread."""
    as_after_boot(container)
    container.run(f"rm -f {GATE} && mkfifo {GATE} && systemctl start papa")
    call(container, "MakeSocket", "sa{sv}", "web", "1", "port", "q", "8080")
    call(container, "SetValue", "ss", "v", "kept")
    call(container, "MakeProcess", "sasa{sv}", "server", "3", "python3", "-c", SERVER, "1", "sockets", "as", "1", "web")
    call(container, "MakeProcess", "sasa{sv}", "printer", "3", "sh", "-c", SCRIPT, "0")
    call(container, "MakeProcess", "sasa{sv}", "ended", "3", "sh", "-c", "echo bye; exit 3", "0")
    listed = "busctl call org.papa.Kernel /org/papa/Kernel org.papa.Kernel ListProcesses as 0"
    said = f"""[ "$({listed} | grep -oE '"buffered" t 4|"exit_code" i 3' | wc -l)" = 3 ]"""
    container.wait_until(said)
    return container


def stop(container: Container) -> str:
    """Stop papad; gives what the journal says of it."""
    cursor = container.journal_cursor()
    container.run("systemctl stop papa.service")
    return container.journal(f"--after-cursor={cursor}", "--unit=papa.service")


@pytest.fixture
def trixie(containers: Callable[[str], Container]) -> Iterator[Container]:
    """Give a systemd that keeps descriptors over a stop, with something hosted."""
    yield hosting(containers("trixie"))
    as_after_boot(containers("trixie"))


@pytest.fixture
def bookworm(containers: Callable[[str], Container]) -> Iterator[Container]:
    """Give a systemd that gives descriptors up at a stop, with something hosted."""
    yield hosting(containers("bookworm"))
    as_after_boot(containers("bookworm"))


def test_systemd_254_keeps_everything_over_a_stop(trixie: Container) -> None:
    assert "papad stops; kept for its next start: 1 socket, 1 value, 3 processes" in stop(trixie)
    trixie.run(["python3", "-c", CONNECT, "8080"])  # it is served all the time
    trixie.run(f"echo > {GATE}")  # the printer prints and ends while nobody reads
    trixie.wait_until("! systemctl is-active papa-printer.scope")
    cursor = trixie.journal_cursor()
    trixie.run("systemctl start papa")
    assert trixie.journal(f"--after-cursor={cursor}", "--unit=papa.service", "--priority=warning") == ""
    assert call(trixie, "GetValue", "s", "v") == 's "kept"\n'
    assert '"port" q 8080' in call(trixie, "ListSockets", "as", "0")
    assert '"running" b true' in call(trixie, "ListProcesses", "as", "1", "server")
    ends = {}
    for name in ("printer", "ended"):
        signals = watch(trixie, name)
        text = "".join(record[3] for member, body in signals if member == "Output" for record in body[2])
        ends[name] = [text, *signals[-1][1][4:]]
    assert ends == {"printer": ["one\ntwo\n", 5, True], "ended": ["bye\n", 3, True]}, json.dumps(ends)


def test_what_is_kept_can_be_given_up(trixie: Container) -> None:
    stop(trixie)
    trixie.run("systemctl clean --what=all papa.service && systemctl start papa")
    for what in ("Sockets", "Processes"):
        assert call(trixie, f"List{what}", "as", "0") == "a{sa{sv}} 0\n"
    assert call(trixie, "ListValues", "as", "0") == "a{ss} 0\n"


def test_an_older_systemd_keeps_values_and_the_journal_names_the_rest(bookworm: Container) -> None:
    said = stop(bookworm)
    assert "socket 'web' is closed" in said
    assert "goes on without papad, and gets SIGPIPE for what it prints from now on; 4 bytes of its output" in said
    assert "process 'ended' (PID " in said
    assert "has ended with exit status 3, which is forgotten; 4 bytes of its output that nobody" in said
    assert bookworm.run("systemctl is-active papa-printer.scope papa-server.scope").stdout == "active\n" * 2
    bookworm.run(["python3", "-c", CONNECT, "8080"])  # who has the socket goes on serving it
    cursor = bookworm.journal_cursor()
    bookworm.run("systemctl start papa")
    said = bookworm.journal(f"--after-cursor={cursor}", "--unit=papa.service")
    assert "systemd has given no descriptor back, as after a stop: 4 items are no longer held" in said
    assert "not recovered" not in said
    assert call(bookworm, "GetValue", "s", "v") == 's "kept"\n'
    for what in ("Sockets", "Processes"):
        assert call(bookworm, f"List{what}", "as", "0") == "a{sa{sv}} 0\n"
    # Once it prints: a shell's echo ends by SIGPIPE, as the journal has said.
    bookworm.run(f"echo > {GATE}")
    bookworm.wait_until("! systemctl is-active papa-printer.scope")
