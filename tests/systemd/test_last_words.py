"""The last seconds of a hosted program: its handler is not cut off and its last words are read, however it is ended.

On systemd 252, which gives papad's descriptors up at a stop, and on one that keeps them: there a program that prints
more than a pipe holds would wait for a reader until systemd kills it.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import Container
from tests.systemd.machines import as_after_boot
from tests.systemd.programs import LINES, MUCH
from tests.systemd.test_serving import call

#: Where the programs leave what is looked at when the machine is off.
FOLDER = "/var/lib/last-words"
#: Its handler takes a while, prints, writes a file and prints: SIGPIPE would end the shell at the first line.
WORDS = (
    "trap 'sleep 1; echo one; echo there >FILE; echo two; echo more >>FILE; exit 4' TERM; echo ready; "
    "while :; do sleep 0.1; done"
)
#: A manager that consumes. systemd stops it after papad: it is ordered before it.
SINK = f"""[Unit]
Before=papa.service
[Service]
ExecStart=/usr/local/bin/papactl consume much --to {FOLDER}/sink
"""


def words(file: str) -> list[str]:
    """A program with a handler."""
    return ["sh", "-c", WORDS.replace("FILE", file)]


def hosting(container: Container) -> None:
    """Have papad host a program with a handler, and two that print much: for a manager, and for the journal."""
    container.run(f"rm -rf {FOLDER}; mkdir {FOLDER}; systemctl start papa")
    (container.root / "root/much.py").write_text(MUCH)
    (container.root / "etc/systemd/system/sink.service").write_text(SINK)
    after = container.journal_cursor()
    container.run(["papactl", "run", "words", "--journal", "--", *words(f"{FOLDER}/words")])
    container.run("papactl run told --journal -- python3 /root/much.py; papactl run much -- python3 /root/much.py")
    container.run("systemctl daemon-reload; systemctl start sink.service")
    container.wait_until(f"grep -q ready {FOLDER}/sink")
    for name in ("words", "told"):
        is_ready(container, name, after)


def is_ready(container: Container, name: str, after: str) -> None:
    """Wait until it is; journalctl 252 may find nothing by a cursor and a field, so grep looks for the field."""
    container.wait_until(f"journalctl -q -o short --after-cursor='{after}' | grep ' {name}\\[[0-9]*\\]: ready'")


def had_their_say(container: Container, *which: str) -> None:
    """All that the programs said at their end has arrived; ``which`` selects from the journal."""
    container.run("journalctl --sync")
    lines = container.journal("--output=short", *which).splitlines()
    said = {name: [line.partition("]: ")[2] for line in lines if f" {name}[" in line] for name in ("words", "told")}
    assert said["words"][-3:] == ["one", "two", "ended with exit status 4"]
    assert said["told"][-2:] == ["the end", "ended with exit status 7"]
    assert said["told"][-LINES - 2 : -2] == ["y" * 99] * LINES
    consumed = container.run(f"cat {FOLDER}/sink").stdout.splitlines()
    assert consumed == ["ready", *["y" * 99] * LINES, "the end"]
    assert container.run(f"cat {FOLDER}/words").stdout == "there\nmore\n"


def cleared(container: Container) -> Iterator[Container]:
    yield as_after_boot(container)
    container.run("systemctl stop sink.service", check=False)  # it may never have been there
    container.run(f"rm -rf /etc/systemd/system/sink.service {FOLDER}; systemctl daemon-reload")
    as_after_boot(container)


@pytest.fixture(params=("bookworm", "trixie"))
def debian(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Iterator[Container]:
    """Give each Debian with papad not running."""
    yield from cleared(containers(request.param))


@pytest.fixture
def trixie(containers: Callable[[str], Container]) -> Iterator[Container]:
    """Give Debian 13 so."""
    yield from cleared(containers("trixie"))


@pytest.fixture(params=("dbus-broker", "bookworm", "trixie"))
def persistent(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Iterator[Container]:
    """Give each Debian, and the other message bus, with a journal that outlives the machine."""
    container = containers(request.param)
    container.run("mkdir -p /var/log/journal && journalctl --flush")
    yield from cleared(container)
    container.run("journalctl --relinquish-var && rm -rf /var/log/journal")


@pytest.mark.parametrize("units", ["papa.service papa.slice", "papa.slice papa.service"])
def test_stopped_with_what_it_hosts(debian: Container, units: str) -> None:
    """In either order: papad reads on until the programs that systemd ends have ended."""
    hosting(debian)
    after = debian.journal_cursor()
    debian.run(f"systemctl stop {units}")
    had_their_say(debian, f"--after-cursor={after}")


def test_stopped_alone(debian: Container) -> None:
    """What it hosts goes on, and papad does not wait for it."""
    hosting(debian)
    debian.run("systemctl stop papa.service", timeout=20)
    for name in ("words", "much", "told"):
        assert debian.run(f"systemctl is-active papa-{name}.scope").stdout == "active\n"
    debian.run("systemctl start papa")  # from systemd 254 on they would wait at their end for somebody who reads


@pytest.fixture
def ann(persistent: Container) -> Iterator[str]:
    """Give a user whose systemd runs without a session, with a program in a papad of its own."""
    container = persistent
    # By systemd-run: logind of systemd 257 looks at who asks, and a test's own command has a place outside of the
    # container.
    linger = "systemd-run --quiet --wait loginctl enable-linger ann"
    container.run(f"useradd --create-home ann && {linger} && systemctl start user@$(id -u ann)")
    after = container.journal_cursor()
    container.run("systemctl --user start papa", "ann")
    container.run(["papactl", "--bus", "session", "run", "anns", "--journal", "--", *words("/home/ann/words")], "ann")
    is_ready(container, "anns", after)
    yield "ann"
    container.run(f"systemctl stop user@$(id -u ann); {linger.replace('enable', 'disable')}; userdel --remove ann 2>&1")


def had_her_say(container: Container) -> None:
    container.run("journalctl --sync")
    assert container.run("cat /home/ann/words").stdout == "there\nmore\n"
    assert container.journal("-t", "anns").splitlines()[-3:] == ["one", "two", "ended with exit status 4"]


def test_power_off(persistent: Container, ann: str) -> None:
    """The machine's papad and a user's own; afterwards nothing is left, as is said."""
    hosting(persistent)
    persistent.run("systemctl poweroff", check=False)  # the machine may be off before the answer is there
    persistent.wait_until_off()
    persistent.boot()
    had_their_say(persistent, "--boot=-1")
    had_her_say(persistent)
    said = persistent.journal("--boot=-1", "-t", "papad").rpartition("is ready\n")[2]
    assert "process 'told' (PID " in said
    assert "has ended with exit status 7, which is forgotten" in said
    assert "kept for its next start" not in said
    assert call(persistent, "ListProcesses", "as", "0") == "a{sa{sv}} 0\n"


def test_logged_out(persistent: Container, ann: str) -> None:
    """A user who lingers keeps what is hosted; without lingering it ends a while after the last session, in order."""
    container = persistent
    container.run(f"systemd-run --unit=session --property=PAMName=login --property=User={ann} sleep infinity")
    sessions = f"loginctl list-sessions --no-legend | grep -v manager | grep -w {ann}"  # systemd 257 lists user@ as one
    container.wait_until(sessions)
    container.run("systemctl stop session")
    container.wait_until(f"! {sessions}")
    assert container.run("systemctl --user is-active papa-anns.scope papa.service", ann).stdout == "active\nactive\n"
    container.run(f"systemd-run --quiet --wait loginctl disable-linger {ann}")
    container.wait_until(f'[ "$(systemctl is-active user@$(id -u {ann}))" = inactive ]')
    had_her_say(container)


def test_soft_reboot(trixie: Container) -> None:
    """systemd 254 and up: processes end in order, all else that papad holds is there afterwards."""
    hosting(trixie)
    call(trixie, "SetValue", "ss", "v", "kept")
    call(trixie, "MakeSocket", "sa{sv}", "web", "1", "port", "q", "8080")
    after = trixie.journal_cursor()
    trixie.run("systemctl soft-reboot", check=False)
    trixie.wait_for_journal("Soft-reboot finished", after)
    trixie.wait_until("systemctl is-system-running --wait")
    had_their_say(trixie, f"--after-cursor={after}")
    assert "papad stops; kept for its next start: 1 socket, 1 value" in trixie.journal(f"--after-cursor={after}")
    trixie.run("systemctl start papa")
    assert call(trixie, "GetValue", "s", "v") == 's "kept"\n'
    assert '"port" q 8080' in call(trixie, "ListSockets", "as", "0")
    assert '"exit_code" i 4' in call(trixie, "ListProcesses", "as", "1", "words")
