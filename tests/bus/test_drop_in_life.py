"""The drop-in where programs are hard on it: threads, processes, forks, interrupts, sudden ends."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from papa_dbus.client import Error, Papa
from tests.bus.lineclient import PATIENCE, ROOT, Papad
from tests.bus.scripted_child import ScriptedChild
from tests.support import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def papad(tmp_path: Path) -> Iterator[Papad]:
    """A papad."""
    papad = Papad(tmp_path)
    yield papad
    if papad.process.poll() is None:
        papad.clear()
    papad.stop()
    assert "Traceback" not in papad.log.read_text()


@pytest.fixture(params=["bus", "line"])
def where(request: pytest.FixtureRequest, papad: Papad) -> str:
    """What Papa() is given."""
    return papad.address if request.param == "bus" else papad.path


@pytest.fixture
def p(where: str) -> Iterator[Papa]:
    """A client."""
    with Papa(where) as client:
        yield client


PREAMBLE = """\
import os, sys, signal, threading, time
from papa_dbus.client import Papa, Error, set_default_path
where = sys.argv[1]
set_default_path(where)
def say(*words):
    print(*words, flush=True)
"""


class Program:
    """A program that uses the client, as a process of its own; what it leaves on stderr fails the test."""

    def __init__(self, where: str, text: str) -> None:
        # A fork beside other threads is what is tested here.
        options = ["-W", "error", "-W", "ignore:This process:DeprecationWarning", "-W", "ignore::ResourceWarning"]
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", PREAMBLE + text, where],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def line(self) -> str:
        """The next thing that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def go_on(self) -> None:
        """Let it go on where it waits for a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def until_it_waits(self) -> None:
        """Wait until its first thread sleeps (proc_pid_stat(5))."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(") ")[2][0] == "S", "it sleeps")

    def end(self, code: int = 0) -> str:
        """Let it go on where it waits for stdin, and see it end; returns what else it said."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, err) == (code, "")
        return out


@contextlib.contextmanager
def program(where: str, text: str) -> Iterator[Program]:
    """A program that is ended in any case."""
    it = Program(where, text)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.communicate()


def run(where: str, text: str, code: int = 0) -> str:
    """A program from its start to its end."""
    with program(where, text) as it:
        return it.end(code)


def words(p: Papa, name: str = "p") -> bytes:
    """All that a process has said, to its end."""
    said = b""
    with p.watch_processes(name) as watcher:
        while (read := watcher.read()) is not None:
            said += b"".join(record.data for record in read[0])
    return said


def first_words(p: Papa) -> bytes:
    """What the next watcher gets first; it is acknowledged."""
    with p.watch_processes("p") as watcher:
        read = watcher.read()
    assert read is not None
    return b"".join(record.data for record in read[0])


@contextlib.contextmanager
def hanging(papad: Papad) -> Iterator[None]:
    """A papad that answers nobody."""
    papad.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        papad.process.send_signal(signal.SIGCONT)


# ------------------------------------------------------------------------ many at a time

MANY = """
def one(name):
    for n in range(10):
        p.set(name, f"{name} {n}")
        assert p.get(name) == f"{name} {n}"
        with p.make_process(name, "/bin/sh", ("-c", f"echo {name} {n}; exit {n}"), watch_immediately=True) as watcher:
            out = b""
            while (read := watcher.read()) is not None:
                out += b"".join(record.data for record in read[0])
        assert out == f"{name} {n}\\n".encode(), out
        assert watcher.exit_code == {name: n}
        assert list(p.list_values(name)) == [name]
    done.append(name)
done = []
p = Papa()
threads = [threading.Thread(target=one, args=(f"{os.getpid()}.{n}",)) for n in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(done) == THREADS
p.close()
"""


def test_eight_threads_with_one_client(where: str) -> None:
    assert run(where, MANY.replace("THREADS", "8")) == ""


def test_eight_processes(papad: Papad) -> None:
    """Half over each way, with two threads each."""
    text = MANY.replace("THREADS", "2")
    with contextlib.ExitStack() as stack:
        places = [papad.address, papad.path] * 4
        for it in [stack.enter_context(program(where, text)) for where in places]:
            it.end()


# ---------------------------------------------------------------------------- sudden ends


def test_a_client_that_is_killed_holds_nobody_back(p: Papa, where: str, scripted_child: ScriptedChild) -> None:
    scripted_child.say("one")
    with program(where, "w = Papa().watch_processes('p'); say(w.read()[0][0].data); input()") as it:
        assert it.line() == r"b'one\n'"
        with p.watch_processes("p") as beside:
            assert beside.read()[0][0].data == b"one\n"
            it.process.kill()
            it.process.wait()
            assert first_words(p) == b"one\n"
            scripted_child.say("two")
            scripted_child.end()
            assert beside.read()[0][0].data == b"two\n"
            while beside.read() is not None:
                pass
    assert p.list_processes() == {}


def test_an_exit_with_all_still_open(p: Papa, where: str, scripted_child: ScriptedChild) -> None:
    """It prints nothing, ends at once, and what it has acknowledged is acknowledged."""
    scripted_child.say("one")
    text = "p = Papa(); w = p.watch_processes('p'); v = p.watch_processes('p'); w.read(); w.acknowledge(); v.read()\n"
    text += "v.acknowledge(); threading.Thread(target=w.read, daemon=True).start()"
    assert run(where, text) == ""
    scripted_child.say("two")
    scripted_child.end()
    assert words(p) == b"two\n"


def test_an_unhandled_error_with_all_still_open(where: str, p: Papa, scripted_child: ScriptedChild) -> None:
    del p, scripted_child
    with program(where, "p = Papa(); w = p.watch_processes('p'); p.make_process('p', '/bin/true')") as it:
        _, err = it.process.communicate(timeout=PATIENCE)
        assert it.process.returncode == 1
        assert err.splitlines()[-1].startswith("papa_dbus.errors.")
        assert err.count("Traceback") == 1


# ------------------------------------------------------------------------------ interrupts


def test_an_interrupt_while_it_waits_for_output(where: str, p: Papa, scripted_child: ScriptedChild) -> None:
    """Ctrl-C ends the waiting, and nothing else: the next read() goes on."""
    text = """
w = Papa().watch_processes('p')
try:
    say('reading')
    w.read()
except KeyboardInterrupt:
    say('interrupted', w.ready, bool(w))
say(w.read()[0][0].data)
w.close()
"""
    with program(where, text) as it:
        assert it.line() == "reading"
        it.until_it_waits()
        it.process.send_signal(signal.SIGINT)
        assert it.line() == "interrupted False True"
        scripted_child.say("one")
        assert it.line() == r"b'one\n'"
        it.end()
    scripted_child.say("two")
    scripted_child.end()
    assert words(p) == b"two\n"


@pytest.mark.stops_papad
def test_an_interrupt_while_a_command_waits(where: str, papad: Papad) -> None:
    """papad hangs: Ctrl-C ends the waiting, and the next answer is the next command's."""
    text = """
p = Papa()
p.set('a', '1'); p.set('b', '2')
say('ready'); input()
try:
    say('asking')
    say(p.get('a'))
except KeyboardInterrupt:
    say('interrupted'); input()
say(p.get('b'))
"""
    with program(where, text) as it:
        assert it.line() == "ready"
        with hanging(papad):
            it.go_on()
            assert it.line() == "asking"
            it.until_it_waits()
            it.process.send_signal(signal.SIGINT)
            assert it.line() == "interrupted"
        it.go_on()
        assert it.end() == "2\n"


def test_signals_are_for_the_program_s_own_threads(where: str) -> None:
    """A signal that the program blocks, to wait for it, is not delivered to a thread of the client's."""
    text = """
p = Papa()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
say(signal.sigwait([signal.SIGTERM]).name)
"""
    assert run(where, text) == "SIGTERM\n"


# ------------------------------------------------------------------------------- forks

FORK = """
p = Papa(); w = p.watch_processes('p')
w.read()
if not (child := os.fork()):
    try:
        w.read()
    except Error as error:
        say('child', type(error).__name__)
    w.close(); w.close()
    p.set('child', 'old client')
    with Papa() as own:
        assert own.get('child') == 'old client'
        with own.make_process('q', '/bin/echo', 'q', watch_immediately=True) as v:
            say('child', v.read()[0][0].data)
    p.close()
    CHILD
os.waitpid(child, 0)
p.set('parent', '1'); say('parent', p.get('child'), bool(w))
say('parent', w.read()[0][0].data)
w.close(); p.close()
"""


@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)"])
def test_a_fork(p: Papa, where: str, scripted_child: ScriptedChild, ending: str) -> None:
    """The child's commands are its own, its parent's watcher stays its parent's."""
    scripted_child.say("one")
    with program(where, FORK.replace("CHILD", ending)) as it:
        assert it.line() in ("child PapaError", "child NoReply")
        assert it.line() == r"child b'q\n'"
        assert it.line() == "parent old client True"
        scripted_child.say("two")
        assert it.line() == r"parent b'two\n'"
        it.end()
    scripted_child.end()
    assert words(p) == b""


def test_forks_by_the_library(where: str, p: Papa, scripted_child: ScriptedChild) -> None:
    """multiprocessing, and subprocess with a preexec_fn."""
    text = """
import multiprocessing, subprocess
def work(n):
    p.set(f'm.{n}', 'old client')
    with Papa() as own:
        own.set(f'n.{n}', 'own client')
if __name__ == '__main__':
    p = Papa(); w = p.watch_processes('p')
    context = multiprocessing.get_context('fork')
    children = [context.Process(target=work, args=(n,)) for n in range(4)]
    for child in children: child.start()
    for child in children: child.join()
    say([child.exitcode for child in children], len(p.list_values('m.*')), len(p.list_values('n.*')))
    subprocess.run(['/bin/true'], preexec_fn=lambda: p.fileno(), check=True)
    say(w.read()[0][0].data)
"""
    scripted_child.say("one")
    assert run(where, text) == "[0, 0, 0, 0] 4 4\nb'one\\n'\n"
    assert p.list_values("m.*")


def test_the_parent_s_end_is_seen_while_its_child_lives(p: Papa, where: str, scripted_child: ScriptedChild) -> None:
    """Else what the parent had not acknowledged would be held back for the child, who knows nothing of it."""
    text = """
p = Papa(); w = p.watch_processes('p'); w.read()
if not os.fork():
    os.setsid(); sys.stdin.read(); os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    scripted_child.say("one")
    with program(where, text) as it:
        assert it.process.wait(PATIENCE) == -signal.SIGKILL
        scripted_child.end()
        assert words(p) == b"one\n"
        assert p.list_processes() == {}


DAEMON = """
BEFORE
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir('/')
AFTER
p.set('daemon', 'is there')
with p.make_process('q', '/bin/echo', 'q', watch_immediately=True) as w:
    say(w.read()[0][0].data)
p.close()
"""


@pytest.mark.parametrize("made", ["BEFORE", "AFTER"])
def test_a_program_that_makes_itself_a_daemon(where: str, made: str) -> None:
    """With its Papa made before that or after."""
    text = DAEMON.replace(made, "p = Papa()").replace("BEFORE", "").replace("AFTER", "")
    assert run(where, text) == "b'q\\n'\n"


# ------------------------------------------------------------------- a kernel that is away


def test_closing_while_the_kernel_is_away(where: str, papad: Papad, tmp_path: Path) -> None:
    p, scripted_child = Papa(where), ScriptedChild(tmp_path, "p")
    p.make_process("p", args=scripted_child.command)
    watcher = p.watch_processes("p")
    papad.clear()
    papad.stop()
    watcher.close()
    p.close()
    scripted_child.end()


@pytest.mark.stops_papad
def test_the_connection_timeout_bounds_a_kernel_that_hangs(where: str, papad: Papad) -> None:
    with hanging(papad), pytest.raises(Error, match=r"did not answer in 0\.3 s"):
        Papa(where, connection_timeout=0.3)


@pytest.mark.stops_papad
def test_closing_while_another_thread_waits_for_an_answer(papad: Papad) -> None:
    """The one that waits is told at once, not after its own time."""
    p = Papa(papad.address)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            p.get("a")
        except Error as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    with hanging(papad):
        for thread in threads:
            thread.start()
        p.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(errors) == len(threads)


def test_a_text_that_no_message_can_carry(p: Papa) -> None:
    """A NUL would end the connection to the bus, over and over."""
    for text in ("a\0b", "\udcff"):
        with pytest.raises(Error):
            p.set("v", text)
        with contextlib.suppress(Error):  # by its name nothing is found, or it cannot be asked for
            assert p.get(text) is None
        with pytest.raises(Error):
            p.make_process("p", "/bin/echo", env={"A": text})
    with pytest.raises(Error):
        p.make_process("p", "/bin/echo", "a\0b")
    assert p.list_values() == p.list_processes() == {}
