"""papad executes itself again, and connections of the line protocol go on where they were: nobody notices.

The test is what systemd is to papad: it hears when papad is ready. The descriptors go from papad to papad.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.isolated import SupervisedPapad
from tests.bus.lineclient import PATIENCE, LineClient, kill_session
from tests.support import wait_until

AYT = b"\xff\xf6"
BIG = 700_000


class Reloadable(SupervisedPapad):
    """A papad that takes the test for systemd, with its Unix socket."""

    def client(self) -> LineClient:
        client = LineClient(self._connection())
        client.reply()
        return client

    def _connection(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.socket))
        return sock


@pytest.fixture
def papad(bus_address: str, tmp_path: Path) -> Iterator[Reloadable]:
    papad = Reloadable(bus_address, tmp_path)
    papad.start()
    yield papad
    with papad.client() as client:
        for line in client.ask("list processes").splitlines():
            kill_session(int(line.partition(" pid=")[2].split()[0]))
    log = papad.stop()
    assert papad.process.returncode == 0, log
    for word in ("Traceback", "Warning:", "failed", "not recovered"):
        assert word not in log, log


@pytest.fixture
def client(papad: Reloadable) -> Iterator[LineClient]:
    with papad.client() as client:
        yield client


def test_at_the_prompt(papad: Reloadable, client: LineClient) -> None:
    client.ask("set name value")
    for _ in range(3):
        papad.reload()
        assert client.ask("get name") == "value"


def test_half_a_line_and_half_of_what_telnet_says(papad: Reloadable, client: LineClient) -> None:
    client.say(b"set name some\\")
    papad.reload()
    client.say(b" val" + AYT[:1])
    papad.reload()
    client.say(AYT[1:] + b"ue\n")
    assert client.until(b"[papad is here]\n") == b"\n"
    assert client.reply() == ""
    assert client.ask("list values") == "name some value"


def test_lines_that_wait_are_run_once_each(papad: Reloadable, client: LineClient) -> None:
    """Thousands in one piece: papad reloads while it works on them."""
    client.say("".join(f"set v{n} {n}\n" for n in range(1000)))
    papad.reload()
    for _ in range(1000):
        assert client.reply() == ""
    assert len(client.ask("list values").splitlines()) == 1000


def test_a_watch_that_waits_for_output(papad: Reloadable, client: LineClient, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with papad.client() as other:
        other.ask(f"make process p quote=shell sh -c 'read x < {fifo}; echo $x; exit 3'")
    client.say("watch processes\n")
    assert client.until(b"\n") == b"Watching 1"
    papad.reload()
    fifo.write_text("hello\n")
    assert client.read_watch() == (b"hello\n", b"", [3])
    assert client.ask("list processes") == ""


def test_a_batch_that_waits_for_its_acknowledgement(papad: Reloadable, client: LineClient, tmp_path: Path) -> None:
    """It does not come again, and what the old papad has not acknowledged the new one holds until then."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    client.ask(f"make process p quote=shell sh -c 'echo one; read x < {fifo}; echo $x'")
    client.say("watch processes\n")
    client.until(b"\n")
    assert [record[3] for record in client.batch()] == [b"one\n"]
    papad.reload()
    with papad.client() as other:  # another one is sent it, too
        other.say("watch processes\n")
        other.until(b"\n")
        assert [record[3] for record in other.batch()] == [b"one\n"]
        other.ask("q")
    fifo.write_text("two\n")
    client.say("\n")
    assert client.read_watch() == (b"two\n", b"", [0])


def test_a_watch_quits_after_the_reload(papad: Reloadable, client: LineClient) -> None:
    client.ask("make process p quote=shell sh -c 'echo one; exec sleep 600'")
    client.say("watch processes\n")
    client.until(b"\n")
    client.batch()
    papad.reload()
    assert client.ask("q") == "Stopped watching"
    client.say("watch processes\n")
    assert client.until(b"\n") == b"Watching 1"
    papad.reload()  # it has acknowledged "one", and is sent it no more
    assert client.ask("q") == "Stopped watching"


def test_a_batch_that_the_client_has_not_read_yet(papad: Reloadable, client: LineClient) -> None:
    """More than a Unix socket takes: papad goes on sending in the middle of it."""
    client.ask(f"make process p quote=shell sh -c 'head -c {BIG} /dev/zero | tr \"\\0\" x; exit 4'")
    # Most of it is in the log then: the first batch is large.
    wait_until(lambda: "exit_code=4" in client.ask("list processes p"), "the end of p")
    client.say("watch processes\n")
    client.until(b"\n")
    begin = client.until(b"x")
    papad.reload()
    papad.reload()
    client._data = begin + b"x" + client._data
    first = client.batch()
    client.say("\n")
    out, _, codes = client.read_watch()
    pieces = [data for _, _, _, data in first if isinstance(data, bytes)]
    assert b"".join(pieces) + out == b"x" * BIG
    assert [data for _, _, _, data in first if isinstance(data, int)] + codes == [4]


def test_a_client_that_has_gone_meanwhile(papad: Reloadable, client: LineClient) -> None:
    client.ask("set name value")
    with papad.client() as other:
        other.say("get name\n")
        other.sock.shutdown(socket.SHUT_WR)
        papad.reload()
        assert other.rest().endswith(b"value\n> ")
    papad.reload()
    assert client.ask("get name") == "value"
