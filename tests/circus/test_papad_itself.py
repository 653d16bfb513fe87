"""papad itself is upgraded, restarted and killed under a Circus, a served web page and a telnet session."""

from collections.abc import Iterator

import pexpect
import pytest

from tests.circus.logger_log import now, texts, wait_for_line_after
from tests.circus.machine import Booted
from tests.circus.test_story import hosted, load
from tests.systemd.container import Container

NEXT = "99.0.0"
#: Another version of the program in the place of the one that is installed, as a package manager would put it there.
_INIT = "$(echo /usr/local/lib/papa/lib/python3*/site-packages/papa_dbus/__init__.py)"
INSTALL = f"sed -i 's/^__version__ = .*/__version__ = \"{NEXT}\"/' {_INIT}"
VERSION = "busctl get-property org.papa.Kernel /org/papa/Kernel org.papa.Kernel Version"
PID = "systemctl show --property=MainPID --value papa"
KILL = "systemctl kill --kill-who=main --signal=KILL papa"


@pytest.fixture
def machine(booted_bed: Container) -> Iterator[Booted]:
    """A booted machine with the newest Circus."""
    yield Booted(booted_bed, "0.19.0", "papa-circusd")
    booted_bed.run("systemctl stop circus papa.service papa.slice")


def test_under_a_circus(machine: Booted) -> None:
    machine.begin()
    telnet = machine.container.command(["telnet", "127.0.0.1", "20202"])
    screen = pexpect.spawn(telnet[0], telnet[1:], timeout=20, encoding="utf-8", echo=False)
    try:
        screen.expect("> ")
        with load(machine) as running:
            before, pid, old = hosted(machine), machine.run(PID), machine.run(VERSION)
            machine.run(INSTALL)
            assert machine.run(VERSION) == old
            for how in ("systemctl reload papa", "systemctl restart papa", KILL):
                cursor = machine.container.journal_cursor()
                machine.run(how)
                machine.container.wait_for_journal(f"papad {NEXT} is ready", cursor)
                if "reload" in how:
                    assert machine.run(PID) == pid
                    screen.sendline("list processes circus.logger.*")
                    screen.expect("running=True")
                    screen.expect("> ")
                wait_for_line_after(machine, now(machine))
                running.go_on()
                assert hosted(machine) == before
            assert machine.run(VERSION).strip() == f's "{NEXT}"'
        (killed,) = before["logger"]
        machine.run(f"kill -KILL {killed}")  # Circus hears of ends, as before
        wait_for_line_after(machine, now(machine))
        assert machine.pids("logger") not in ([killed], [])
        machine.ctl("restart", "logger", "--waiting")
        machine.ctl("stop", "--waiting")
    finally:
        screen.close(force=True)
    first = next(n for n, text in enumerate(texts(machine)) if " line 1 at " in text and n)
    numbers = [int(text.split(" line ")[1].split()[0]) for text in texts(machine)[:first]]
    assert numbers == list(range(1, len(numbers) + 1)), "once each, and in order"
    machine.quit()
