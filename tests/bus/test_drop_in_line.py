"""The drop-in over the line protocol: odd and hostile answers, odd names, and connections that break."""

import contextlib
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from papa_dbus.client import Error, Papa
from papa_dbus.client.compat import line_connection
from tests.bus.daemon import Papad, start_papad
from tests.bus.lineclient import PATIENCE, kill_session
from tests.bus.scripted_child import ScriptedChild

WELCOME = b'Papa is home. Type "help" for commands.\n> '
#: At the end of an answer: the connection is closed after it.
CLOSE = b"<close>"


class Server:
    """Says what a test wants: the greeting, in pieces, to each connection, then an answer for each line that comes."""

    def __init__(self, path: Path, answers: list[bytes], greeting: tuple[bytes, ...]) -> None:
        self.path = str(path)
        self.lines: list[bytes] = []
        self._answers = answers
        self._greeting = greeting
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # until it is shut down
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._talk, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
            for piece in self._greeting:
                connection.sendall(piece)
            while line := lines.readline():
                self.lines.append(line)
                answer = self._answers.pop(0) if self._answers else CLOSE
                connection.sendall(answer.removesuffix(CLOSE))
                if answer.endswith(CLOSE):
                    return

    def close(self) -> None:
        """End it; its clients have left already."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make such a server."""
    servers: list[Server] = []

    def make(*answers: bytes, greeting: tuple[bytes, ...] = (WELCOME,)) -> Server:
        servers.append(Server(tmp_path / "server", list(answers), greeting))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


Serve = Callable[..., Server]


@pytest.fixture(autouse=True)
def never_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not Papa is no reason to start papad."""

    def refuse(self: Papa, why: Exception) -> Path:
        raise Error(str(why))

    monkeypatch.setattr(Papa, "_start_kernel", refuse)


# ----------------------------------------------------------------------------- greetings


def test_a_greeting_in_pieces(serve: Serve) -> None:
    pieces = tuple(WELCOME[n : n + 1] for n in range(len(WELCOME)))
    with Papa(serve(b"1\n> ", greeting=pieces).path) as p:
        assert p.get("a") == "1"


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not Papa"),
        (b"\0" * 100, "is not Papa"),
        (b"Papa is home, and says no more", "did not answer in 0.2 s"),
        (b"Error: you may not\n", "^you may not$"),
        (b"Err", "did not answer in 0.2 s"),
    ],
)
def test_odd_greetings(serve: Serve, greeting: bytes, message: str) -> None:
    server = serve(greeting=(greeting,))
    with pytest.raises(Error, match=message):
        Papa(server.path, connection_timeout=0.2 if "0.2 s" in message else PATIENCE)


# ------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "answer",
    [b"s family=inet port=many\n> ", b"s port=\n> ", b"s backlog=0x1 fileno=3\n> ", b"s fileno=\xff\xfe\n> "],
)
def test_odd_lists(serve: Serve, answer: bytes) -> None:
    with Papa(serve(answer).path) as p, pytest.raises(Error, match="not understood"):
        p.list_sockets()


def test_an_answer_without_an_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_connection, "MOST", 100_000)
    server = serve(b"x" * 300_000, b"1\n> ")
    with Papa(server.path) as p:
        with pytest.raises(Error, match="more than 100000 bytes"):
            p.get("a")
        assert p.get("a") == "1"  # over another connection: what is left of that answer is nobody's


def test_an_answer_in_pieces(serve: Serve) -> None:
    with Papa(serve(b"Error: no" + CLOSE, b"a 1\nb 2\n> ").path) as p:
        with pytest.raises(Error, match="the connection to papad at .* broke: it was closed at the other end"):
            p.get("a")
        assert p.list_values() == {"a": "1", "b": "2"}


# ------------------------------------------------------------------------------- watching


def test_output_that_comes_with_the_answer_is_seen_by_select(serve: Serve) -> None:
    """As upstream's server may send it; its own client hides that from select()."""
    first = b"Watching 1\nout:p:1.5:4\none\n\n] "
    with Papa(serve(first, b"closed:p:2.25:-9\n] ", b"Nothing left to watch\n> ").path) as p:
        watcher = p.watch_processes("p")
        assert watcher.ready
        assert select.select([watcher], [], [], 0)[0]
        assert watcher.read() == ([("p", 1.5, b"one\n")], [], [])
        assert watcher.read() == ([], [], [("p", 2.25, -9)])
        assert watcher.read() is None


@pytest.mark.parametrize(
    "piece",
    [
        b"out:p:1.0:-5\nabc\n] ",
        b"out:p:1.0:99999999999\nabc\n] ",
        b"out:p:1.0:three\nabc\n] ",
        b"out:p:never:3\nabc\n] ",
        b"out:p\n] ",
        b"out:p:q:1.0:3\nabc\n] ",
        b"closed:p:1.0:zero\n] ",
        b"colour:p:1.0:3\nabc\n] ",
    ],
)
def test_odd_pieces(serve: Serve, piece: bytes) -> None:
    server = serve(b"Watching 1\n" + piece)
    with (
        Papa(server.path) as p,
        p.watch_processes("p") as watcher,
        pytest.raises(Error, match="answered what is not understood"),
    ):
        watcher.read()
    assert server.lines == [b"w p p\n"]  # nothing is acknowledged


def test_a_connection_that_breaks_in_the_middle_of_a_piece(serve: Serve) -> None:
    server = serve(b"Watching 1\nout:p:1.0:300\nabc" + CLOSE)
    with Papa(server.path) as p, p.watch_processes("p") as watcher:
        assert watcher.ready
        with pytest.raises(Error, match="broke: it was closed at the other end"):
            watcher.read()
    assert server.lines == [b"w p p\n"]


# ---------------------------------------------------------------------- names, and papad

NAMES = [
    "ü",
    'a"b',
    "a'b",
    "a\\b",
    "a\\new",
    ">",
    "=",
    "a=b",
    "$HOME",
    "#",
    "-",
    "💡",
    "quote=json",
    "list",
    "x" * 199,
]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Papad]]:
    """Start a papad on a bus of its own, with a Unix socket for lines; it is ended in any case."""
    started: list[Papad] = []

    def start() -> Papad:
        (tmp_path / "line.notify").unlink(missing_ok=True)
        started.append(start_papad("own", tmp_path / "line"))
        return started[-1]

    yield start
    for papad in started:
        papad.stop()


def test_odd_names(start: Callable[[], Papad]) -> None:
    papad = start()
    with Papa(str(papad.socket)) as p:
        for name in NAMES:
            p.set(name, f"value of {name}")
            assert p.get(name) == f"value of {name}"
            assert p.list_values(name) == {name: f"value of {name}"}
            made = p.make_socket(name)
            assert p.list_sockets(name) == {name: made}
            with p.make_process(name, "/bin/echo", name, watch_immediately=True) as watcher:
                assert p.list_processes(name)[name]["args"] == f"/bin/echo {name}"
                said = b""
                while (read := watcher.read()) is not None:
                    said += b"".join(record.data for record in read[0])
                    assert {record.name for piece in read for record in piece} == {name}
            assert said == f"{name}\n".encode()
            assert watcher.exit_code == {name: 0}
        assert sorted(p.list_values()) == sorted(p.list_sockets()) == sorted(NAMES)
        for name in NAMES:
            p.remove_sockets(name)
            p.remove_values(name)
        assert p.list_values() == p.list_sockets() == {}
        for value in ("C:\\new\\x41", "\\", "trail\\", "two\\\\", "\ttab", "\\ "):
            p.set("v", value)
            assert p.get("v") == p.list_values("v")["v"] == value
        p.remove_values("v")
        for name in ("a b", "a\nb", "a:b", "a\\", ""):
            with pytest.raises(Error):
                p.set(name, "1")
            with pytest.raises(Error):
                p.make_process(name, "/bin/true")
        with pytest.raises(Error, match="line's end"):
            p.set("a", "two\nlines")


def test_papad_that_ends_and_comes_back(start: Callable[[], Papad], tmp_path: Path) -> None:
    """A watch over the line ends with the connection, and says so; the next command connects again."""
    papad = start()
    p, scripted_child = Papa(str(papad.socket)), ScriptedChild(tmp_path, "p")
    pid = p.make_process("p", args=scripted_child.command)["pid"]
    watcher = p.watch_processes("p")
    papad.stop()
    assert select.select([watcher], [], [], PATIENCE)[0]
    assert watcher.ready
    with pytest.raises(Error, match="papad is stopping"):
        watcher.read()
    watcher.close()
    with pytest.raises(Error, match=f"no papad at {papad.socket}"):
        p.get("a")
    assert p.fileno() is None
    kill_session(pid)
    scripted_child.end()
    papad = start()
    p.set("a", "1")
    assert p.get("a") == "1"
    assert isinstance(p.fileno(), int)
    papad.process.send_signal(signal.SIGHUP)  # a reload: it executes itself again
    p.set("a", "2")
    assert p.get("a") == "2"
    p.close()
