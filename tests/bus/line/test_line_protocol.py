"""The line protocol on a real papad: what a person at telnet and a client see, and what is kept from everybody else."""

import asyncio
import contextlib
import errno
import http.client
import json
import os
import re
import resource
import selectors
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from papa_dbus.errors import AccessDenied, Bind
from papa_dbus.service import steps
from papa_dbus.service.access.policy import Access, Right
from papa_dbus.service.caller import Caller, acting, acting_user
from papa_dbus.service.items.specs import ProcessSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.line import server as line_server
from papa_dbus.service.line import session as line_session
from papa_dbus.service.line import watch as line_watch
from papa_dbus.service.line.reader import MAX_LINE
from papa_dbus.service.line.server import LineServer
from papa_dbus.service.output.watches import Watch
from tests.bus.lineclient import PATIENCE, LineClient, Papad, kill_session
from tests.bus.scripted_child import ScriptedChild
from tests.support import end, hold_watches, turns, until, wait_until

IAC = b"\xff"


def pid_of(line: str) -> int:
    """The PID in a process's line."""
    found = re.search(r" pid=(\d+) ", line)
    assert found is not None
    return int(found[1])


# ---------------------------------------------------------------------------------- commands


def test_welcome_and_prompt(papad: Papad) -> None:
    with LineClient(socket.create_connection(("127.0.0.1", papad.port))) as client:
        assert client.until(b"> ") == b'Papa is home. Type "help" for commands.\n'
        client.say("\n")
        assert client.until(b"> ") == b""
        client.say("\r\n")
        assert client.until(b"> ") == b""


def test_over_ipv6_and_the_unix_socket(papad: Papad) -> None:
    with LineClient(socket.create_connection(("::1", papad.port))) as client:
        assert client.reply().startswith("Papa is home.")
    with LineClient(socket.socket(socket.AF_UNIX)) as client:
        client.sock.connect(papad.path)
        assert client.reply().startswith("Papa is home.")
        assert client.ask("l s") == ""


def test_values(client: LineClient) -> None:
    assert client.ask("get a") == ""
    assert client.ask("set a 1 2  3") == ""
    assert client.ask("get a") == "1 2 3"
    client.ask("set b C:\\dir")
    assert client.ask("list values") == "a 1 2 3\nb C:\\dir"
    assert client.ask("list values b x*") == "b C:\\dir"
    assert client.ask("set a") == ""
    assert client.ask("remove values nothing b") == ""
    assert client.ask("l v") == ""
    assert "'*'" in client.fault("remove values *")
    assert "may not contain" in client.fault("set a*")


def test_an_error_names_an_entry_as_it_was_typed(client: LineClient) -> None:
    assert client.fault("make process p rlimit.nofiles=1 true").startswith("option 'rlimit.nofiles': is none of as, ")
    assert client.fault(f"make process p rlimit.nofile={2**40} true").startswith(
        f"process 'p': cannot set option 'rlimit.nofile' to {2**40}: "
    )
    assert client.fault("make process p env.=1 true").startswith("option 'env.': ")


def test_sockets(client: LineClient, tmp_path: Path) -> None:
    line = client.ask("make socket web backlog=7")
    found = re.fullmatch(r"web family=inet type=stream backlog=7 host=127\.0\.0\.1 port=(\d+) fileno=(\d+)", line)
    assert found
    assert client.ask("make socket web backlog=7") == line
    assert client.ask("list sockets") == line
    socket.create_connection(("127.0.0.1", int(found[1]))).close()
    assert client.fault("make socket web backlog=8 host=127.0.0.2") == (
        "socket 'web' already exists, and has other options: host 127.0.0.1, backlog 7; remove it first"
        " ('papactl socket remove web', or 'remove socket web' on port 20202), or use another name"
    )
    path = tmp_path / "a b"
    assert f"path={tmp_path}/a\\x20b umask=0077 fileno=" in client.ask(f"make socket u path={tmp_path}/a\\ b umask=077")
    assert path.stat().st_mode & 0o777 == 0o700
    client.ask("remove sockets web u")
    assert "not there" in client.fault("remove socket web")


def test_defect_12_remove_without_a_name_removes_nothing(client: LineClient) -> None:
    client.ask("make socket a")
    client.ask("make process p /bin/sleep 60")
    client.ask("set v 1")
    for kind in ("sockets", "processes", "values"):
        assert client.fault(f"remove {kind}")
        assert client.ask(f"list {kind}")


def test_defect_28_by_pid_and_file_number(client: LineClient) -> None:
    line = client.ask("make process p /bin/sleep 60")
    other = client.ask("make process q /bin/sleep 60")
    assert client.ask(f"list process {pid_of(line)}") == line
    sock = client.ask("make socket s")
    client.ask("make socket t")
    number = re.search(r"fileno=(\d+)", sock)
    assert number is not None
    assert client.ask(f"list sockets {number[1]}") == sock
    client.ask(f"remove socket {number[1]}")
    assert client.ask("list sockets").startswith("t ")
    kill_session(pid_of(line))
    client.ask(f"remove process {pid_of(other)}")
    kill_session(pid_of(other))
    client.say(f"watch process {pid_of(line)}\n")
    assert client.until(b"\n") == b"Watching 1"
    assert client.batch()[0][0] == "closed"
    client.say("\n")
    assert client.reply() == "Nothing left to watch"


def test_processes(papad: Papad, client: LineClient) -> None:
    line = client.ask("make process p /bin/sh -c exit\\ 3")
    assert re.fullmatch(r"p pid=\d+ running=True started=\d+\.\d{6} args=/bin/sh -c exit\\x203", line)
    client.say("watch p p\n")
    assert client.until(b"\n") == b"Watching 1"
    ((kind, name, _, code),) = client.batch()
    assert (kind, name, code) == ("closed", "p", 3)
    with papad.client() as other:
        assert " running=False " in other.ask("list p")
        assert " exit_code=3 " in other.ask("list p")
    client.say("\n")
    assert client.reply() == "Nothing left to watch"
    assert client.ask("l p") == ""


def test_as_whom_is_shown_where_it_was_asked_for(client: LineClient) -> None:
    assert " uid=" not in client.ask("make process a /bin/true")
    if os.geteuid() == 0:
        assert " uid=1 gid=1 args=" in client.ask("make process b uid=1 /bin/true")
        assert " uid=1 gid=0 args=" in client.ask("make process c uid=1 gid=root /bin/true")


def run(client: LineClient, rest: str) -> tuple[bytes, bytes, list[int]]:
    """Make a process that is watched at once, and read it to its end."""
    client.say(f"make process run watch=1 {rest}\n")
    line = client.until(b"\n")
    assert line.startswith(b"run pid="), line
    return client.read_watch()


def test_defect_21_22_23_24_26_29_arguments_arrive_exactly(client: LineClient, tmp_path: Path) -> None:
    program = tmp_path / "a=b" / "show=it"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    program.chmod(0o755)
    assert run(client, f"{program} --foo=bar \\ lead C:\\dir")[0] == b"<--foo=bar>< lead><C:\\dir>"
    assert run(client, f"quote=shell {program} '' 'two words' 'end\\'")[0] == b"<><two words><end\\>"
    assert run(client, f'quote=json ["{program}", "", "a\\nb", " "]')[0] == b"<><a\nb>< >"
    assert run(client, 'env.X= env.Y=a\\ b shell=1 echo "<$X$Y>"; echo two')[0] == b"<a b>\ntwo\n"
    port = re.search(r"port=(\d+)", client.ask("make socket s"))
    assert port is not None
    both = run(client, f"{program} $(socket.s.port),$(socket.s.port)")[0].decode()
    assert both == f"<{port[1]},{port[1]}>"
    assert run(client, f"{program} \udcff".encode("utf-8", "surrogateescape").decode("utf-8", "replace"))[2] == [0]


def test_bytes_that_are_not_utf_8(client: LineClient) -> None:
    client.say(b"make process p watch=1 env.A=\xfe /bin/sh -c printf\\ $A,$0 " + IAC + IAC + b"\n")
    assert client.until(b"\n").endswith(rb"args=/bin/sh -c printf\x20$A,$0 \xff")
    assert client.read_watch() == (b"\xfe,\xff", b"", [0])
    assert "UTF-8" in client.fault(b"set a \xfe")


def test_defect_25_a_name_with_a_colon_is_refused(client: LineClient) -> None:
    assert "':'" in client.fault("make process a:b /bin/true")
    assert "':'" in client.fault("make socket a:b")
    assert "':'" in client.fault("set a:b x")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("wibble", 'Unknown command "wibble"'),
        ("make", "must be followed by one of: processes, sockets"),
        ("make process p /no/such/program", "/no/such/program"),
        ("make process p working_dir=/no/such /bin/true", "/no/such"),
        ("make process p uid=no-such-user /bin/true", "no-such-user"),
        (
            "make process p /bin/echo $(socket.none.fileno)",
            "make it first ('papactl socket make none', or 'make socket",
        ),
        ("make process p sockets=none /bin/echo", "socket 'none' is not there; make it first ("),
        ("make process p nosuch=1 /bin/true", "unknown option 'nosuch'"),
        ("make process p rlimit.nofile=99999999999999999999999 /bin/true", "out of range"),
        ("make socket s path=relative", "absolute"),
        ("make socket s host=192.0.2.1", "192.0.2.1"),
        ("watch processes", "no process"),
        ("watch processes none", "none"),
        ("help wibble", "wibble"),
        ("exit", "type quit"),
        ("exit-if", "cannot abbreviate"),
        ("set \x1b[2J x", "unprintable"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(client: LineClient, line: str, fault: str) -> None:
    reply = client.fault(line)
    assert fault in reply
    assert "\n" not in reply
    assert reply.isprintable()
    assert client.ask("list processes") == client.ask("list sockets") == client.ask("list values") == ""


def test_help(client: LineClient) -> None:
    assert "make socket NAME" in client.ask("help")
    assert client.ask("?") == client.ask("h")
    assert "working_dir" in client.ask("help make process")


def test_quit_and_exit_if_idle(client: LineClient) -> None:
    client.ask("set a 1")
    assert client.ask("exit-if-idle") == "not idle"
    client.say("quit\n")
    assert client.rest() == b"ok\n"


def test_exit_if_idle_exits(tmp_path: Path) -> None:
    papad = Papad(tmp_path)
    with papad.client() as client, papad.client() as other:
        client.say("exit-if-idle\n")
        assert client.rest() == b"Exiting papa!\n> "
        assert other.rest() == b"Error: papad is stopping\n> "
    assert papad.process.wait(PATIENCE) == 0
    papad.stop()


# ------------------------------------------------------------------- how bytes come and go


def test_pipelined_commands_are_answered_in_order(client: LineClient) -> None:
    client.say("".join(f"set v{n} {n}\nget v{n}\n" for n in range(2000)))
    for n in range(2000):
        assert (client.reply(), client.reply()) == ("", str(n))


def test_commands_run_one_after_the_other(client: LineClient) -> None:
    client.say("make process p /bin/true\nlist processes\nset a 1\nget a\n")
    assert client.reply().startswith("p pid=")
    assert client.reply().startswith("p pid=")
    assert (client.reply(), client.reply()) == ("", "1")


def test_a_half_closed_connection_gets_all_its_replies(papad: Papad, client: LineClient) -> None:
    client.say("set a 1\nget a\nset a 2")  # the last line has no end
    client.sock.shutdown(socket.SHUT_WR)
    assert client.rest() == b"\n> 1\n> "
    with papad.client() as other:
        assert other.ask("get a") == "1"


def test_defect_32_a_long_line_is_refused_and_the_session_goes_on(client: LineClient) -> None:
    client.say(b"set a " + b"x" * 10_000_000 + b"\n")
    assert client.reply() == f"Error: a line may have {MAX_LINE} bytes at most"
    assert client.ask("list values") == ""
    value = "x" * (1024 * 1024 - 1)
    client.ask(f"set a {value}")
    assert client.ask("get a") == value


def resident(pid: int) -> int:
    """A process's resident memory in bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_who_reads_no_replies_is_not_read_from(papad: Papad, client: LineClient) -> None:
    client.ask("set a " + "x" * 100_000)
    before = resident(papad.process.pid)
    with papad.client() as deaf:
        deaf.sock.settimeout(0)
        with selectors.DefaultSelector() as selector:
            selector.register(deaf.sock, selectors.EVENT_WRITE)
            sent = 0
            while selector.select(timeout=1):  # until neither side has any room left
                with contextlib.suppress(BlockingIOError):
                    sent += deaf.sock.send(b"get a\n" * 1000)
                assert sent < 64 * 1024 * 1024
        assert client.ask("get a")
        assert resident(papad.process.pid) - before < 32 * 1024 * 1024


def test_defect_37_a_thousand_quick_connections(papad: Papad) -> None:
    socks = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a login has 1,024, and there are a thousand here
    try:
        for _ in range(1000):
            sock = socket.socket()
            sock.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", papad.port))
            socks.append(sock)
        for sock in socks:
            sock.settimeout(PATIENCE)
            client = LineClient(sock)
            client.reply()
            assert client.ask("get a") == ""
    finally:
        for sock in socks:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_hundreds_of_connections_that_say_much_at_a_time(papad: Papad) -> None:
    """Each is answered in order, in whatever pieces it says that, and the loop is not held (tests/guarding.py)."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(papad.client()) for _ in range(400)]
        for client in clients:
            client.say("set x y\nget x\nlist values x*\nget")
        for client in clients:
            client.say(" x\n" + "get x\n" * 20)
        for client in clients:
            assert client.reply() == ""
            assert client.reply() == "y"
            assert client.reply() == "x y"
            assert [client.reply() for _ in range(21)] == ["y"] * 21


@pytest.mark.parametrize("said", [b"", b"list s\n", b"quit\n", b"POST / HTTP/1.1\r\n", b"set a", b"get a\n" * 1000])
def test_clients_that_break_off(papad: Papad, client: LineClient, said: bytes) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", papad.port), PATIENCE) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
            sock.sendall(said)
    assert client.ask("get a") == ""  # and papad's log has no traceback, see above


def test_telnets_own_bytes(client: LineClient) -> None:
    client.say(b"se" + IAC + b"\xfd\x03" + b"t a 1" + IAC + b"\xfb\x1f" + b"\r\n")
    assert client.until(b"\n> ") == IAC + b"\xfc\x03" + IAC + b"\xfe\x1f"
    assert client.ask("get a\r") == "1"


def test_interrupt_outside_of_a_watch_clears_the_line(client: LineClient) -> None:
    client.say(b"set a 1" + IAC + b"\xf4" + IAC)
    client.sock.send(b"\xf2", socket.MSG_OOB)  # the data mark comes as urgent data
    assert client.reply() == ""
    assert client.ask("list values") == ""


def test_a_person_at_telnet(papad: Papad) -> None:
    with contextlib.closing(pexpect.spawn("telnet", ["localhost", str(papad.port)], timeout=PATIENCE)) as person:
        person.expect_exact('Type "help" for commands.')
        person.expect_exact("\n> ")
        for said, answer in [
            ("help", "watch processes"),
            ("h m p", "working_dir"),
            ("make socket web port=0", "web family=inet"),
            ("m p hello shell=1 echo hello; sleep 600", "hello pid="),
            ("l p", "running=True"),
        ]:
            person.sendline(said)
            person.expect_exact(answer)
            person.expect_exact("\n> ")
        person.sendline("watch p hello")
        person.expect_exact("Watching 1")
        person.expect(r"out:hello:\d+\.\d{6}:6\r?\nhello\r?\n\r?\n\] ")
        person.sendline("")
        person.sendintr()
        person.expect_exact("Stopped watching")
        person.expect_exact("\n> ")
        person.sendline("quit")
        person.expect_exact("ok")
        person.expect(pexpect.EOF)


# ---------------------------------------------------------------------------------- watching


def test_a_watch_on_the_wire(client: LineClient) -> None:
    client.say("make process p watch=1 shell=1 printf abc; printf de >&2; kill -9 $$\n")
    client.until(b"\n")
    wire = client.until(b"] ")
    stamp = rb"\d+\.\d{6}"
    assert re.fullmatch(rb"out:p:%b:3\nabc\nerr:p:%b:2\nde\nclosed:p:%b:-9\n" % (stamp, stamp, stamp), wire)
    client.say("\n")
    assert client.reply() == "Nothing left to watch"


def test_output_comes_whole_and_in_order(client: LineClient) -> None:
    client.ask("make process p shell=1 seq 1 200000; seq 1 5 >&2; exit 7")
    client.say("watch p p\n")
    assert client.until(b"\n").startswith(b"Watching 1")
    out, err, codes = client.read_watch()
    assert out == b"".join(b"%d\n" % n for n in range(1, 200_001))
    assert err == b"1\n2\n3\n4\n5\n"
    assert codes == [7]
    assert client.ask("list p") == ""


def test_a_lot_of_output(client: LineClient) -> None:
    size = 64 * 1024 * 1024
    client.say(f"make process p watch=1 overflow=block shell=1 head -c {size} /dev/zero\n")
    client.until(b"\n")
    out, err, codes = client.read_watch()
    assert (len(out), err, codes) == (size, b"", [0])


def test_one_batch_is_bounded(client: LineClient) -> None:
    client.ask("make process p bufsize=3m shell=1 head -c 3000000 /dev/zero")
    wait_until(lambda: b"running=False" in client.ask("list process p").encode(), "its end")
    client.say("watch p p\n")
    sizes: list[int] = []
    while sum(sizes) < 3_000_000:
        sizes.append(client.until(b"\n] ").count(b"\0"))
        client.say("\n")
    assert line_watch.MAX_BATCH - 65536 < max(sizes) <= line_watch.MAX_BATCH


def test_defect_15_q_ends_a_watch_on_which_nothing_arrives(client: LineClient) -> None:
    client.ask("make process p /bin/sleep 600")
    client.say("watch p p\n")
    assert client.until(b"\n") == b"Watching 1"
    client.say("q\n")
    assert client.reply() == "Stopped watching"
    client.say("watch p p\n")
    client.until(b"\n")
    client.say(IAC + b"\xf4")
    assert client.reply() == "Stopped watching"


def test_any_line_acknowledges_and_q_acknowledges_and_ends(client: LineClient) -> None:
    client.ask("make process p shell=1 echo a; sleep 600")
    for last_words in ("-", "q"):
        client.say("watch p p\n")
        client.until(b"\n")
        if last_words == "-":
            assert [record[3] for record in client.batch()] == [b"a\n"]
            client.say("-\n")
        client.say("q\n")
        assert client.reply() == "Stopped watching"


def test_the_end_of_the_connection_acknowledges_nothing(papad: Papad, client: LineClient) -> None:
    client.ask("make process p shell=1 echo a; exit 3")
    for _ in range(3):
        with papad.client() as other:
            other.say("watch p p\n")
            other.until(b"\n")
            assert [record[3] for record in other.batch()][:1] == [b"a\n"]
    client.say("watch p p\n")
    client.until(b"\n")
    assert client.read_watch() == (b"a\n", b"", [3])


def test_an_empty_line_before_the_batch_acknowledges_nothing(client: LineClient) -> None:
    client.ask("make process p shell=1 echo a; sleep 600")
    client.say("watch p p\n\n\n")
    client.until(b"\n")
    assert [record[3] for record in client.batch()] == [b"a\n"]
    client.say("q\n")
    assert client.reply() == "Stopped watching"


def test_defect_14_two_watchers_see_everything(papad: Papad) -> None:
    with papad.client() as one, papad.client() as two:
        one.ask("make process p shell=1 seq 1 1000; exit 4")
        for client in (one, two):
            client.say("watch p p\n")
            assert client.until(b"\n") == b"Watching 1"
        expected = (b"".join(b"%d\n" % n for n in range(1, 1001)), [4])
        for client in (one, two):
            out, _, codes = client.read_watch()
            assert (out, codes) == expected


def test_defect_16_output_comes_without_a_reason_but_itself(client: LineClient, tmp_path: Path) -> None:
    """Nothing else happens that could have papad look. How fast it comes benchmarks/ measures."""
    scripted_child = ScriptedChild(tmp_path, "p")
    client.ask(f"make process p quote=json {json.dumps(scripted_child.command)}")
    client.say("watch p p\n")
    client.until(b"\n")
    for number in range(11):
        scripted_child.say(str(number))
        assert [record[3] for record in client.batch()] == [b"%d\n" % number]
        client.say("\n")
    scripted_child.end()
    assert client.read_watch() == (b"", b"", [0])


@pytest.mark.parametrize("command", ["watch p p", "make process p watch=1 shell=1 echo a; exec sleep 600"])
async def test_the_first_batch_does_not_come_with_the_answer(
    house: "House", monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Papa's client hides from select() what arrives together with that line."""
    visitor = await house.connect()
    assert await visitor.welcomed()
    if command.startswith("watch"):
        visitor.say(b"make process p shell=1 echo a; exec sleep 600\n")
        await visitor.until(b"> ")
    (session,) = house.server._sessions
    loop, write = asyncio.get_running_loop(), session._transport.write
    sent: list[tuple[float, bytes]] = []

    def note(data: bytes) -> None:
        sent.append((loop.time(), data))
        write(data)

    monkeypatch.setattr(session._transport, "write", note)
    visitor.say(f"{command}\n".encode())
    await visitor.until(b"] ")
    (first, answer), (second, batch) = sent
    assert answer.count(b"\n") == 1
    assert answer.endswith(b"\n")
    assert batch.startswith(b"out:p:")
    assert second - first > line_watch.SETTLE * 0.99


def test_defect_19_a_loss_is_told(papad: Papad, client: LineClient, tmp_path: Path) -> None:
    # Before the watch: told in its first line, and in the listing.
    client.ask("make process p bufsize=1000 shell=1 head -c 5000 /dev/zero; echo end")
    wait_until_ended(client, "p")
    dropped = re.search(r"dropped=(\d+)", client.ask("list p"))
    assert dropped is not None
    client.say("watch p p\n")
    line = client.until(b"\n").decode()
    assert line == f"Watching 1; {dropped[1]} bytes of p were lost"
    out, err, codes = client.read_watch()
    assert len(out) + int(dropped[1]) == 5004
    assert (err, codes) == (b"", [0])
    # During the watch: told where errors are read.
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"echo begin; read go < {gate}; head -c 5000 /dev/zero"
    client.say(f"make process q bufsize=1000 watch=1 shell=1 {script}\n")
    client.until(b"\n")
    assert client.batch()[0][3] == b"begin\n"
    gate.write_text("go\n")
    with papad.client() as other:
        wait_until_ended(other, "q")
    client.say("\n")
    out, err, codes = client.read_watch()
    lost = re.fullmatch(rb"papa: (\d+) bytes of output lost\n", err)
    assert lost is not None
    assert len(out) + int(lost[1]) == 5000
    assert codes == [0]


def wait_until_ended(client: LineClient, name: str) -> None:
    """Wait for a process's end without taking anything from it."""
    pid = pid_of(client.ask(f"list processes {name}"))
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            assert selector.select(PATIENCE)
        os.close(pidfd)
    # papad has seen it, too.
    wait_until(lambda: "running=True" not in client.ask(f"list processes {name}"), f"the end of {name}")


def test_a_watcher_that_does_not_read_delays_nobody(papad: Papad, client: LineClient) -> None:
    before = resident(papad.process.pid)
    with papad.client() as deaf:
        deaf.say("make process p watch=1 /usr/bin/yes\n")
        deaf.until(b"\n")
        client.say("watch p p\n")
        client.until(b"\n")
        got = 0
        while got < 16 * 1024 * 1024:
            got += sum(len(record[3]) for record in client.batch() if isinstance(record[3], bytes))
            client.say("\n")
        client.batch()
        client.say("q\n")
        assert client.reply() == "Stopped watching"
        assert resident(papad.process.pid) - before < 48 * 1024 * 1024


# ---------------------------------------------------------------------- other protocols


def test_defect_02_http_post_runs_nothing(papad: Papad, client: LineClient, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    body = f"\r\nset pwned 1\r\nmake process evil /usr/bin/touch {mark}\r\n"
    for method, path in [("POST", "/"), ("GET", "/list"), ("OPTIONS", "*"), ("SET", "/x"), ("LIST", "/s")]:
        connection = http.client.HTTPConnection("localhost", papad.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers={"Content-Type": "text/plain"})
            assert connection.sock is not None
            answer = LineClient(connection.sock).rest().decode()
        assert answer.splitlines()[-2:] == [
            "> Error: this is Papa's line protocol and not HTTP; nothing of it was run",
            "> ",
        ]
    assert client.ask("list values") == client.ask("list processes") == ""
    assert not mark.exists()


def test_defect_02_a_request_in_pieces_runs_nothing(papad: Papad, client: LineClient) -> None:
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nset pwned 1\r\n"
    with papad.client() as page:
        with contextlib.suppress(ConnectionError):
            for byte in request:
                page.say(bytes([byte]))
        assert b"not HTTP" in page.rest()
    assert client.ask("list values") == ""


def test_tls_is_refused(papad: Papad) -> None:
    context = ssl.create_default_context()
    with socket.create_connection(("127.0.0.1", papad.port), PATIENCE) as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock, server_hostname="localhost")
    with papad.client() as client:
        client.say(b"\x16\x03\x01\x02\x00\nset pwned 1\n")
        assert b"not TLS" in client.rest()
    with papad.client() as client:
        assert client.ask("list values") == ""


def test_a_typing_mistake_never_ends_a_session(client: LineClient) -> None:
    for _ in range(30):
        assert client.fault("lsit sockets") == 'Unknown command "lsit"; type help'
    assert client.ask("list sockets") == ""


# ----------------------------------------------------------------------- who is let in


@pytest.mark.root
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_defect_01_another_user_is_told_who_may(papad: Papad, client: LineClient, host: str) -> None:
    script = f"exec 3<>/dev/tcp/{host}/{papad.port}; echo set pwned 1 >&3; cat <&3"
    command = ["/bin/bash", "-c", script]
    told = subprocess.run(
        command,
        user=65534,
        group=65534,
        extra_groups=[],
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=True,
        text=True,
    ).stdout
    assert told == "Error: papad serves root; you are user 65534\n> "
    assert client.ask("list values") == ""


class StandIn(Access):
    """Lets in whom the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.uid: int | None = 1

    def caller_of(self, sock: socket.socket, uid: int | None = None) -> Caller:
        """The one whom the test has set."""
        return Caller(self.uid or 0, None, "test")

    async def check(self, caller: Caller, right: Right = Right.MANAGE, interactive: bool = False) -> None:
        """As the test has set it."""
        if self.uid is None:
            raise AccessDenied("papad serves root and nobody else")


class Visitor:
    """A client in the test's own loop; reading it is bounded in time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def rest(self) -> bytes:
        """All that comes until the connection ends."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()

    async def until(self, end: bytes) -> bytes:
        """All up to an end, with it."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readuntil(end)

    async def welcomed(self) -> bool:
        """Whether Papa is home."""
        return (await self.until(b"> ")).startswith(b"Papa is home")

    def say(self, data: bytes) -> None:
        """Send."""
        self.writer.write(data)


class House:
    """A kernel and its front end in the test's own loop."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.access = StandIn()
        self.server = LineServer(self.kernel, self.access)
        self.address = ("127.0.0.1", 0)
        self._visitors: list[Visitor] = []

    async def start(self) -> None:
        """Listen on a port that Linux chooses."""
        sockets = self.server.bind(0)
        self.address = sockets[0].getsockname()
        assert {sock.getsockname()[:2] for sock in sockets} <= {self.address, ("::1", self.address[1])}
        await self.server.start(sockets)

    async def connect(self) -> Visitor:
        """A client."""
        visitor = Visitor(*await asyncio.open_connection(*self.address))
        self._visitors.append(visitor)
        return visitor

    async def until_one_has_left(self) -> None:
        """Wait for the end of a session that is there now."""
        tasks = [session.task for session in self.server._sessions if session.task is not None]
        done, _ = await asyncio.wait(tasks, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert done

    async def stop(self) -> None:
        """End everything."""
        await self.server.stop()
        assert self.server.connections == 0
        for visitor in self._visitors:
            visitor.writer.close()
            with contextlib.suppress(ConnectionError):
                await visitor.writer.wait_closed()
        end(self.kernel)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A house that is open."""
    house = House()
    await house.start()
    yield house
    await house.stop()


async def test_who_is_not_let_in_is_told_why(house: House) -> None:
    house.access.uid = None
    visitor = await house.connect()
    visitor.say(b"set a 1\n")
    assert await visitor.rest() == b"Error: papad serves root and nobody else\n> "
    assert house.kernel.value_count == 0
    assert house.server.connections == 0


async def test_many_who_are_not_let_in_take_no_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_server, "MAX_REFUSED", 3)
    house.access.uid = None
    for visitor in [await house.connect() for _ in range(20)]:
        assert (await visitor.rest()).startswith(b"Error: ")
    house.access.uid = 1
    assert await (await house.connect()).welcomed()


async def test_connections_are_bounded_for_each_user_and_all(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_server, "MAX_CONNECTIONS", 5)
    monkeypatch.setattr(line_server, "MAX_CONNECTIONS_OF_USER", 3)
    monkeypatch.setattr(line_server, "KEPT_FOR_FEW", 0)
    monkeypatch.setattr(line_server, "KEPT_FOR_ROOT", 0)
    visitors = [await house.connect() for _ in range(3)]
    for visitor in visitors:
        assert await visitor.welcomed()
    assert b"3 connections of a user: close one" in await (await house.connect()).rest()
    house.access.uid = 2
    for _ in range(2):
        assert await (await house.connect()).welcomed()
    house.access.uid = 3
    assert b"papad serves 5 connections, and none" in await (await house.connect()).rest()
    visitors[0].say(b"quit\n")
    assert await visitors[0].rest() == b"ok\n"
    visitors[0].writer.close()
    await house.until_one_has_left()
    assert await (await house.connect()).welcomed()


def test_no_line_and_no_value_holds_the_loop(client: LineClient) -> None:
    """A megabyte of words, and one of characters that are shown escaped: tests/guarding.py would tell."""
    assert "words at most" in client.fault("remove values " + "a " * (MAX_LINE // 2 - 100))
    text = "a " * (512 * 1024 - 10) + "b"
    client.say(f"set words {text}\n")
    assert client.reply() == ""
    assert client.ask("get words") == text
    for name in "abcd":
        assert client.ask(f"set {name} " + "\x01" * 1_000_000) == ""
        assert client.ask(f"get {name}") == r"\x01" * 1_000_000
    assert len(client.ask("list values")) > 16_000_000
    client.ask("remove values a b c d words")


async def test_one_users_many_commands_do_not_delay_anothers_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four hundred connections that say much at a time: another user's command is run after a few of theirs."""
    asked: list[int | None] = []

    def get_value(name: str) -> str:
        asked.append(acting_user())
        return name

    monkeypatch.setattr(house.kernel, "get_value", get_value)
    many = [await house.connect() for _ in range(400)]
    assert all([await visitor.welcomed() for visitor in many])
    house.access.uid = 2
    one = await house.connect()
    assert await one.welcomed()
    for visitor in many:
        visitor.say(b"get x\n" * 50)
    await until(lambda: len(asked) > 1000, "commands")
    before = len(asked)
    one.say(b"get x\n")
    await one.until(b"x\n> ")
    assert asked.index(2) - before < 4 * steps.MOST_LET_IN
    assert len(asked) < 400 * 50
    for visitor in many:
        visitor.writer.transport.abort()
    await until(lambda: house.server.connections == 1, "all have left")


async def test_no_more_is_read_of_one_that_waits_for_its_turn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await house.connect()
    assert await one.welcomed()
    [session] = house.server._sessions
    turn = asyncio.Event()
    monkeypatch.setattr(house.server.pace, "turn", turn.wait)
    one.say(b" " * 500)
    await until(lambda: session._reader.waiting == 500, "a piece")
    one.say(b" " * 500)
    await until(lambda: session._reader.waiting == 1000, "another one")
    one.say(b"get x\n")
    await turns(20)
    assert session._reader.waiting == 1000
    turn.set()
    assert await one.until(b"> ") == b"\n> "


async def test_a_short_command_waits_for_no_long_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for one of the same user on another connection, either; long ones are worked on one after the other."""
    for number in range(300):
        house.kernel.set_value(f"v{number}", "")
    house.kernel.set_value("w", "short")
    one = await house.connect()
    assert await one.welcomed()
    async with house.server.steps.turn:
        one.say(b"list values w\n")
        assert await one.until(b"> ") == b"w short\n> "
        one.say(b"remove values w\n")
        assert await one.until(b"> ") == b"\n> "
        monkeypatch.setattr(steps, "STEP", 0.0)
        one.say(b"list values v*\n")
        await turns(20)
        house.kernel.set_value("v", "")
    assert (await one.until(b"> ")).count(b"\n") == 301


async def test_who_reads_no_reply_in_time_is_disconnected(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_session, "WRITE_TIMEOUT", 0.1)
    house.kernel.set_value("a", "x" * 1_000_000)
    visitor = await house.connect()
    assert await visitor.welcomed()
    visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
    visitor.say(b"get a\n" * 100)
    await house.until_one_has_left()


async def test_stopping_tells_everybody_and_ends_what_runs(house: House) -> None:
    visitors = [await house.connect() for _ in range(4)]
    for visitor in visitors:
        assert await visitor.welcomed()
    idle, typing, watching, making = visitors
    typing.say(b"half a line")
    watching.say(b"make process p watch=1 /bin/sleep 600\n")
    await watching.until(b"\n")
    making.say(b"make process q /bin/sleep 600\n")
    async with asyncio.timeout(PATIENCE):
        while ("process", "q") not in house.kernel._reservations:  # for a few turns only
            await turns()
    await house.server.stop()
    for visitor in (idle, typing, watching):
        assert await visitor.rest() == b"Error: papad is stopping\n> "
    assert re.fullmatch(rb"q pid=\d+ .*\n> Error: papad is stopping\n> ", await making.rest())
    assert house.kernel._watches.open == {}


async def test_stopping_does_not_wait_for_a_watcher_that_does_not_read(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_server, "STOP_TIMEOUT", 10 * PATIENCE)
    visitor = await house.connect()
    assert await visitor.welcomed()
    (session,) = house.server._sessions
    session._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
    visitor.say(b"make process p shell=1 head -c 10m /dev/zero; exec sleep 600\n")
    async with asyncio.timeout(PATIENCE):
        # A batch of what had come by chance might be all with Linux, and nobody would wait for room.
        while not (made := house.kernel.list_processes()) or made[0].written < 10 * 1024 * 1024:
            await turns()
        visitor.say(b"watch process p\n")
        while session._writable:
            await turns()
    async with asyncio.timeout(PATIENCE):
        await house.server.stop()


async def test_a_defect_of_ours_is_an_internal_error(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(patterns: object) -> None:
        raise ZeroDivisionError(f"secret {patterns}")

    monkeypatch.setattr(house.kernel, "each_socket", fail)
    visitor = await house.connect()
    assert await visitor.welcomed()
    visitor.say(b"list sockets\nset a 1\nget a\n")
    assert await visitor.until(b"1\n> ") == b"Error: internal error\n> \n> 1\n> "
    assert "ZeroDivisionError" in caplog.text


# ------------------------------------------------------------- a watch of many


@pytest.fixture
async def holding(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have a watch of six processes read two at once, and the others in steps once this is called."""
    monkeypatch.setattr(steps, "AT_ONCE", 2)
    monkeypatch.setattr(steps, "STEP", 0.0)
    for name in "fedcba":
        await house.kernel.make_process(ProcessSpec(name, ("sh", "-c", f"echo {name}; exec sleep 600")))
    await until(lambda: all(info.written for info in house.kernel.list_processes()), "the output")
    with acting(Caller(1, None, "test")):
        return hold_watches(house.kernel)


async def watching(house: House) -> tuple[Visitor, Watch]:
    """Have a client watch them all, which is not answered yet."""
    visitor = await house.connect()
    assert await visitor.welcomed()
    visitor.say(b"watch processes\n")
    await until(lambda: house.kernel._watches.open, "the watch")
    [watch] = house.kernel._watches.open.values()
    assert watch.names == ["a", "b"]
    return visitor, watch


async def test_a_watch_of_many_is_answered_when_all_are_read(house: House, holding: Callable[[], None]) -> None:
    """What the client says meanwhile is taken as it always is: it ends the watch, and what comes then is a command."""
    visitor, watch = await watching(house)
    visitor.say(b"\n")  # acknowledges nothing yet
    await turns(10)
    holding()
    assert await visitor.until(b"\n") == b"Watching 6\n"
    batch = await visitor.until(b"] ")
    assert re.findall(rb"^out:(.):\S+:2$", batch, re.MULTILINE) == [b"a", b"b", b"c", b"d", b"e", b"f"]
    assert watch.names == list("abcdef")
    logs = [cursor.log for cursor in watch.cursors]
    visitor.say(b"q\nget a\n")
    assert (await visitor.until(b"> \n> ")).endswith(b"Stopped watching\n> \n> ")
    assert not any(log.readers or log.buffered for log in logs)


async def test_a_watch_of_many_stops_with_its_connection(house: House, holding: Callable[[], None]) -> None:
    visitor, watch = await watching(house)
    visitor.writer.transport.abort()
    await until(lambda: watch.closed, "its end")
    assert not watch.expected
    holding()
    await until(lambda: not house.server.connections, "the end of the connection")
    assert not any(process.log.readers for process in house.kernel._processes.every())


async def test_a_watch_of_many_stops_with_papad(house: House, holding: Callable[[], None]) -> None:
    visitor, watch = await watching(house)
    stopped = asyncio.ensure_future(house.server.stop())
    await until(lambda: watch.closed, "its end")
    holding()
    await stopped
    assert await visitor.rest() == b"Error: papad is stopping\n> "


async def test_a_watch_of_many_is_complete_when_the_next_papad_continues(
    house: House, holding: Callable[[], None]
) -> None:
    visitor, watch = await watching(house)
    over = asyncio.ensure_future(house.server.hand_over())
    await turns(10)
    assert not watch.closed
    assert not over.done()
    holding()
    listening, [connection] = await over
    assert await visitor.until(b"\n") == b"Watching 6\n"
    assert connection.left is not None
    assert connection.left.watch is not None
    assert len(connection.left.watch) == 6
    for fd in (*listening, connection.fd):
        os.close(fd)
    watch.close()


# ------------------------------------------------------------------------- the Unix socket


@pytest.fixture
def server() -> Iterator[LineServer]:
    """A front end that is not open yet."""
    kernel = Kernel()
    yield LineServer(kernel, Access())
    kernel.close()


def test_defect_04_a_second_server_does_not_take_the_first_ones_socket(papad: Papad, server: LineServer) -> None:
    with pytest.raises(Bind, match="somebody listens there"):
        server.bind_unix(papad.path)
    with LineClient(socket.socket(socket.AF_UNIX)) as client:
        client.sock.connect(papad.path)
        assert client.reply().startswith("Papa is home")


async def test_a_leftover_socket_is_replaced(server: LineServer, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    sock = server.bind_unix(str(path))
    assert path.stat().st_mode & 0o777 == 0o660
    await server.start([sock])
    visitor = Visitor(*await asyncio.open_unix_connection(str(path)))
    assert await visitor.welcomed()
    await server.stop()
    visitor.writer.close()
    assert not path.exists()


def test_what_is_no_socket_is_never_replaced(server: LineServer, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(Bind, match="is no socket"):
        server.bind_unix(str(path))
    assert path.read_text() == "precious"
    with pytest.raises(Bind, match="No such file"):
        server.bind_unix(str(tmp_path / "none" / "sock"))
    with pytest.raises(Bind, match="too long"):
        server.bind_unix(str(tmp_path / ("x" * 200)))


async def test_a_socket_that_is_anothers_by_now_is_left_alone(server: LineServer, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    await server.start([server.bind_unix(str(path))])
    path.unlink()
    path.write_text("another's")
    await server.stop()
    assert path.read_text() == "another's"


def test_a_port_that_is_taken(server: LineServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(Bind, match=os.strerror(errno.EADDRINUSE)):
        server.bind(other.getsockname()[1])
