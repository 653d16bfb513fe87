"""The drop-in where no kernel runs: it starts one, as a daemon; and what it says where that cannot be.

In a place of its own: no systemd, no message bus, no port in use, and a PID namespace, so that all of it ends with the
test.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bus.lineclient import PATIENCE, ROOT

pytestmark = pytest.mark.root  # for a place of its own

#: Hides what this machine has, by empty file systems; $1 is a program, which the namespace's first process waits for.
_PLACE = """
mount -t tmpfs none /run && mkdir -p /run/user && mount -t tmpfs none /var/log && ip link set lo up
eval "$1"
shift
"$@"
"""

PREAMBLE = f"""\
PATIENCE = {PATIENCE}
"""
PREAMBLE += """\
import os, re, sys, signal, socket, subprocess, threading, time
from pathlib import Path
import papa_dbus.client as papa
from papa_dbus.client import Papa, Error
def parent(pid):
    return int(Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2].split()[1])
def papads():
    found = []
    for of in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = of.read_bytes()
        except OSError:
            continue
        if words.startswith(b'papa daemon') or b'papa_dbus.service\\0' in words:  # before it has called itself so
            found.append(int(of.parent.name))
    return found
def until(condition):
    deadline = time.monotonic() + PATIENCE
    while True:
        last = time.monotonic() > deadline
        if found := condition():
            return found
        assert not last, found
        time.sleep(0.01)  # paces the looks
def why(wanted, *where, **options):  # papad, which is started for it, may not have said it yet
    said = []
    def ask():
        try:
            Papa(*where, **options)
        except Error as error:
            said.append(str(error))
        return re.search(wanted, said[-1]) and said[-1]
    try:
        print(until(ask))
    except AssertionError:
        print(said[-1])
log = Path('/var/log/papad.log')
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Run a program in such a place, after shell commands; what it prints."""

    def run(text: str, before: str = "", **environment: str) -> str:
        namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        python = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", PREAMBLE + text]
        kept = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            ["unshare", *namespaces, "sh", "-ec", _PLACE, "sh", before, *python],
            cwd=ROOT, env={**kept, **environment}, timeout=PATIENCE * 3,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        for line in done.stderr.splitlines():  # what a child logs, or the client where nobody has set up logging
            assert line.startswith(("papad: ", "Could not connect to Papa")), done.stderr
        return done.stdout

    return run


Run = Callable[..., str]


def test_defect_3_34_a_daemon_of_its_own(run: Run) -> None:
    """Not a copy of the client's program, nor its child: it goes on when the client has ended, and serves the next."""
    said = run(
        """
os.environ['NOTIFY_SOCKET'] = '/nowhere'  # the client's service's
os.umask(0o77)
os.chdir('/tmp')
client = os.fork()
if not client:
    with Papa() as p:
        p.set('a', '1')
        p.make_process('p', '/bin/sleep', '60')
    os._exit(0)
print(os.waitpid(client, 0)[1])
[papad] = papads()
print(parent(papad) == 1, os.getsid(papad) not in (client, os.getsid(0)), os.readlink(f'/proc/{papad}/cwd'))
print(sorted(os.readlink(f'/proc/{papad}/fd/{n}') for n in range(3)))
p = Papa()
print(p.get('a'), list(p.list_processes()), len(papads()))
p.remove_values('a')
os.kill(p.list_processes()['p']['pid'], signal.SIGKILL)
until(lambda: not p.list_processes()['p']['running'])
p.remove_processes('p')
print(p.exit_if_idle())
until(lambda: not papads())
print('is ready' in log.read_text(), 'Traceback' in log.read_text())
"""
    )
    assert said.splitlines() == [
        "0",
        "True True /",
        "['/dev/null', '/var/log/papad.log', '/var/log/papad.log']",
        "1 ['p'] 1",
        "True",
        "True False",
    ]


@pytest.mark.parametrize("where", ["", "4711", "'/run/papad.sock'"])
def test_clients_that_come_at_once_have_one_kernel(run: Run, where: str) -> None:
    """Six processes; each sees what all the others have set. The losers' papads have ended, and unlinked nothing."""
    said = run(
        f"""
children = []
for n in range(6):
    if not (child := os.fork()):
        with Papa({where}) as p:
            p.set(f'n.{{n}}', '1')
            until(lambda: len(p.list_values()) == 6)
        os._exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
until(lambda: len(papads()) == 1)
print(len(Papa({where}).list_values()))
"""
    )
    assert said == "[0, 0, 0, 0, 0, 0]\n6\n"


def test_threads_that_come_at_once_have_one_kernel(run: Run) -> None:
    said = run(
        """
clients = []
threads = [threading.Thread(target=lambda: clients.append(Papa())) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for n, p in enumerate(clients): p.set(f'n.{n}', '1')
print(len(clients), len(clients[0].list_values()))
until(lambda: len(papads()) == 1)
"""
    )
    assert said == "6 6\n"


def test_it_starts_one_on_the_bus_that_is_named(run: Run) -> None:
    bus = "dbus-daemon --session --fork --nosyslog --address=unix:path=/run/bus"
    said = run(
        "p = Papa(); p.set('a', '1'); print(Papa('unix:path=/run/bus').get('a'), Papa(4712).list_values())",
        bus,
        PAPA_BUS_ADDRESS="unix:path=/run/bus",
    )
    assert said == "1 {}\n"


def test_a_kernel_that_has_ended_is_started_again(run: Run) -> None:
    said = run(
        """
p = Papa()
os.kill(papads()[0], signal.SIGTERM)
until(lambda: not papads())
q = Papa()
q.set('a', '1')
print(p.get('a'), len(papads()))
"""
    )
    assert said == "1 1\n"


def test_where_it_cannot_start_the_error_says_why(run: Run) -> None:
    """No dbus-daemon to be found; a port that somebody else has; a program that is not Papa; no room for its log."""
    said = run(
        """
papa.set_default_connection_timeout(1.5)
other = socket.create_server(('127.0.0.1', 4711))
def serve():
    while True:
        connection, _ = other.accept()
        connection.sendall(b'SSH-2.0-OpenSSH_9.2\\r\\n')
        connection.close()
threading.Thread(target=serve, daemon=True).start()
why('is not Papa; .*4711', 4711)
path = os.environ['PATH']
os.environ['PATH'] = '/nowhere'
why('setsid', 4713)
os.environ['PATH'] = path
why('; .*/no/such/folder', '/no/such/folder/socket')
why('cannot be reached', 'unix:path=/run/no-bus')
os.environ['PAPA_BUS_ADDRESS'] = 'rubbish'
why('rubbish')
"""
    )
    port, program, path, bus, rubbish = said.splitlines()
    assert "Could not connect to Papa in 1.5 seconds: what listens at 127.0.0.1:4711 is not Papa; " in port
    assert "4711" in port.partition("is not Papa; ")[2]
    assert program == "papad could not be started: [Errno 2] No such file or directory: 'setsid'"
    assert "/no/such/folder" in path.partition("; ")[2]
    assert "the message bus at unix:path=/run/no-bus cannot be reached" in bus
    assert "rubbish" in rubbish


def test_without_a_dbus_daemon_the_error_says_so(run: Run) -> None:
    said = run(
        """
os.environ['PATH'] = '/run/programs'
os.mkdir('/run/programs')
os.symlink('/usr/bin/setsid', '/run/programs/setsid')
why('there is no dbus-daemon', connection_timeout=2)
"""
    )
    assert said.endswith("there is no dbus-daemon to start: install the Debian package dbus-daemon\n")


def test_with_systemd_it_says_what_to_do(run: Run) -> None:
    """There papad belongs to systemd, and would otherwise end with the service that asked for it."""
    said = run(
        """
try:
    Papa()
except Error as error:
    print(error)
print(papads())
""",
        "mkdir -p /run/systemd/system",
    )
    assert "no papad at 127.0.0.1:20202: Connection refused; this machine runs systemd" in said
    assert "make install" in said
    assert said.endswith("\n[]\n")


def test_the_log_of_a_user(run: Run, tmp_path: Path) -> None:
    said = run(
        """
os.setgid(65534); os.setgroups([]); os.setuid(65534)
with Papa(4711) as p:
    print(p.exit_if_idle())
print("all that papad holds is lost when it ends" in Path(os.environ['XDG_STATE_HOME'], 'papa/papad.log').read_text())
""",
        "mkdir -m 777 /run/state; chmod o+x /run; mkdir -m 1777 /run/tmp",
        XDG_STATE_HOME="/run/state",
        TMPDIR="/run/tmp",
    )
    assert said == "True\nTrue\n"


# -------------------------------------------------------------------------------- debug mode


def test_debug_mode_starts_a_child_that_ends_with_the_program(run: Run) -> None:
    """However it ends, and though the thread that asked for it has ended long before."""
    said = run(
        """
for way in ('pass', 'sys.exit(3)', 'os._exit(3)', 'os.kill(os.getpid(), signal.SIGKILL)'):
    text = 'import os, sys, signal, threading, papa_dbus.client as papa; papa.set_debug_mode();'
    text += 'thread = threading.Thread(target=papa.Papa); thread.start(); thread.join();'
    text += 'p = papa.Papa(); p.set("a", "1"); print(p.get("a"), os.getpid(), flush=True);' + way
    program = subprocess.Popen([sys.executable, '-c', text], stdout=subprocess.PIPE, text=True)
    value, pid = program.stdout.readline().split()
    program.communicate()
    print(value, program.returncode)
    until(lambda: not papads())
print(log.exists())
"""
    )
    assert said == "1 0\n1 3\n1 3\n1 -9\nFalse\n"


def test_debug_mode_that_ends_with_the_connection(run: Run) -> None:
    said = run(
        """
papa.set_debug_mode(quit_when_connection_closed=True)
for n in range(2):
    with Papa() as p:
        print(p.list_values(), [parent(papad) == os.getpid() for papad in papads()])
        p.set('a', '1')
    print(papads())
try:
    with Papa() as p:
        raise ValueError
except ValueError:
    print(papads())
papa.set_default_path('/run/papad.sock')
with Papa() as p:
    print(p.list_values())
print(papads())
"""
    )
    assert said == "{} [True]\n[]\n" * 2 + "[]\n{}\n[]\n"


# ------------------------------------------------------------------------- in papa's place


def test_install_as_papa(run: Run) -> None:
    said = run(
        """
import papa_dbus.client
papa_dbus.client.install_as_papa()
import papa
from papa import Error, PIPE, Papa, set_default_port
from papa import *
print(papa is papa_dbus.client, Error is papa.Error, Watcher is papa.Watcher, PIPE)
with papa.Papa() as p:
    print(p.list_values())
try:
    papa.nothing
except AttributeError as error:
    print(error)
"""
    )
    assert said.splitlines() == [
        "True True True -1",
        "{}",
        "module 'papa_dbus.client' has no attribute 'nothing'",
    ]
