"""What goes wrong at three in the morning, and stays small; without systemd.

With the oldest Circus and the newest: 0.18.0 differs from 0.19.0 in nothing that is touched here.
"""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.circus.environments import VERSIONS
from tests.circus.machine import WithoutSystemd, bare_machine
from tests.support import wait_until

FILES = Path(__file__).with_name("trouble")
INI = "/srv/trouble/trouble.ini"
OTHER_INI = "/srv/trouble/other.ini"
MANY, STOPS = 12, 3
LINES = [f"line {number:04} {'x' * 90}" for number in range(60)]


@pytest.fixture(scope="module", params=[VERSIONS[0], VERSIONS[-1]])
def circus(request: pytest.FixtureRequest, wheel: Path) -> Iterator[WithoutSystemd]:
    """A machine whose circusd runs, and one of whose logs is on a small disk."""
    with bare_machine(wheel, request.param, "papa-circusd") as machine:
        machine.container.copy_in(FILES, "/srv/trouble")
        machine.run("cd /srv/trouble && mkfifo ends.fifo parts.fifo full.fifo leaves.fifo")
        machine.run("mkdir /srv/full && mount -t tmpfs -o size=64k none /srv/full")
        machine.begin(INI)
        yield machine
        machine.ctl("stop", "--waiting")
        machine.quit()


def log(circus: WithoutSystemd, name: str) -> list[str]:
    """The lines that a watcher has logged."""
    return circus.path(f"/srv/web/log/{name}.log").read_text().splitlines()


def say(circus: WithoutSystemd, watcher: str, text: str) -> None:
    """Have a watcher's process print something."""
    circus.path(f"/srv/trouble/{watcher}.txt").write_text(text)
    circus.run(f"cd /srv/trouble && cat {watcher}.txt >{watcher}.fifo")


#: In circusd's log, once for each time that a stream begins to fail.
CANNOT = "full: the stdout of process"


def wait_kept(circus: WithoutSystemd, process: str, size: int) -> None:
    """Wait until Papa keeps so many bytes of a process."""
    code = (
        "import asyncio, sys\nfrom papa_dbus.client import aio\n"
        "async def main():\n async with aio.connect() as kernel:\n"
        "  print((await kernel.list_processes(sys.argv[1]))[sys.argv[1]].buffered)\n"
        "asyncio.run(main())"
    )
    ask = ["env", circus.environment, "/opt/circus/bin/python", "-c", code, process]
    wait_until(lambda: int(circus.run(ask)) == size, lambda: circus.run(ask))


def running(circus: WithoutSystemd, watcher: str, other: int = 0) -> int:
    """Wait until a watcher has a process that runs, other than one."""

    def found() -> int | None:
        pids = [pid for pid in circus.pids(watcher) if pid != other]
        return pids[0] if len(pids) == 1 and circus.run(f"[ ! -e /proc/{pids[0]} ] || echo y") else None

    return wait_until(found, lambda: circus.ctl("status"))


def test_an_end_while_circusd_is_away(circus: WithoutSystemd) -> None:
    """It is reaped with its code and its last words, no hook takes it for a new one, and there is a new one."""
    pid = running(circus, "ends")
    circus.quit()
    say(circus, "ends", "last words\n")
    wait_kept(circus, "circus.ends.1", len("last words\n"))
    circus.run(f"kill -KILL {pid}")
    circus.begin(INI)
    new = running(circus, "ends", other=pid)
    assert circus.ctl("status", "ends") == "active"
    assert log(circus, "ends") == ["last words"]
    assert [said["pid"] for said in noted(circus) if said["hook"] == "after_spawn"] == [pid, new]
    assert reaped(circus, pid) == [-9]


def noted(circus: WithoutSystemd) -> list[dict[str, Any]]:
    """What the hooks have been told."""
    return [json.loads(line) for line in circus.path("/srv/trouble/hooks.log").read_text().splitlines()]


def reaped(circus: WithoutSystemd, pid: int) -> list[int]:
    """The exit codes with which a process has been reaped."""
    of_it = (said for said in noted(circus) if said.get("process_pid") == pid)
    return [said["exit_code"] for said in of_it if said["hook"] == "after_reap"]


def test_an_end_that_leaves_a_descendant(circus: WithoutSystemd) -> None:
    """A descendant that has the pipes is no reason to reap twice, nor to start nothing; it runs on."""
    words = circus.path("/srv/web/log/circus.log")
    pid = running(circus, "leaves")
    for _ in range(2):
        circus.run(f"kill -KILL {pid}")
        last, pid = pid, running(circus, "leaves", other=pid)
        assert reaped(circus, last) == [-9]
    assert "leaves: process 1 ended while circusd was away" not in words.read_text()
    for left in circus.path("/srv/trouble/left.pids").read_text().split():
        circus.run(f"kill -0 {left}")  # fails if there is none


def test_an_end_that_an_earlier_circusd_has_read(circus: WithoutSystemd) -> None:
    """It was killed before it reaped: the next does, with the code that Papa still has, and starts another."""
    pid = running(circus, "leaves")
    circus.quit()
    circus.run(f"kill -KILL {pid}")
    consume = (
        "import asyncio\nfrom papa_dbus.client import aio\nfrom papa_dbus.client.records import Exited\n"
        "async def main():\n async with aio.connect() as kernel:\n"
        "  async with kernel.watch('circus.leaves.1') as events:\n"
        "   async for event in events:\n    if isinstance(event, Exited): break\n"
        "asyncio.run(main())"
    )
    circus.run(["env", circus.environment, "/opt/circus/bin/python", "-c", consume])
    circus.begin(INI)
    running(circus, "leaves", other=pid)
    assert reaped(circus, pid) == [-9]


def test_a_line_begun_before_circusd_quits(circus: WithoutSystemd) -> None:
    """Its first part comes again with the whole line before it, which is not logged twice."""
    pid = running(circus, "parts")
    say(circus, "parts", "a whole one\nan")
    wait_until(lambda: log(circus, "parts"), lambda: log(circus, "parts"))
    for _ in range(2):
        circus.quit()
        circus.begin(INI)
    say(circus, "parts", "other\nthe last\n")
    wait_until(lambda: len(log(circus, "parts")) >= 3, lambda: log(circus, "parts"))
    texts = [re.sub(r"^at \d\d:\d\d:\d\d ", "", line) for line in log(circus, "parts")]
    assert texts == [f"[{pid}] | {text}" for text in ("a whole one", "another", "the last")]


def test_a_line_begun_before_circusd_quits_and_the_next_is_killed(circus: WithoutSystemd) -> None:
    """The next circusd has not acknowledged it, so the one after that knows as well what of it was logged."""
    pid = running(circus, "parts")
    before = len(log(circus, "parts"))
    say(circus, "parts", "one more\nand the be")
    wait_until(lambda: len(log(circus, "parts")) >= before + 1, lambda: log(circus, "parts"))
    circus.quit()
    circus.begin(INI)
    circus.kill_and_begin()
    say(circus, "parts", "ginning\n")
    wait_until(lambda: log(circus, "parts")[-1].endswith("ginning"), lambda: log(circus, "parts"))
    texts = [re.sub(r"^at \d\d:\d\d:\d\d ", "", line) for line in log(circus, "parts")[before:]]
    assert texts == [f"[{pid}] | {text}" for text in ("one more", "and the beginning")]


def test_a_disk_that_is_full_for_a_while(circus: WithoutSystemd) -> None:
    """Nothing is lost meanwhile, nothing is there twice, and no line is torn."""
    running(circus, "full")
    full = circus.path("/srv/web/log/circus.log")
    read = "cat /srv/full/full.log"
    say(circus, "full", f"{LINES[0]}\n")  # so that a part of the next ones finds room on the file's last page
    wait_until(lambda: circus.run(read), lambda: circus.run(read))
    circus.run("dd if=/dev/zero of=/srv/full/fill bs=1k count=100 2>/dev/null || true")
    say(circus, "full", "".join(f"{line}\n" for line in LINES[1:]))
    wait_until(lambda: CANNOT in full.read_text(), full.read_text)
    circus.run("rm /srv/full/fill")
    wait_until(lambda: LINES[-1] in circus.run(read), lambda: circus.run(read))
    assert circus.run(read).splitlines() == LINES
    assert full.read_text().count(CANNOT) == 1  # however often it was tried


def test_an_end_while_the_disk_is_full(circus: WithoutSystemd) -> None:
    """The next process does not wait for the disk; what could not be logged is told."""
    pid = running(circus, "full")
    circus.run("dd if=/dev/zero of=/srv/full/fill bs=1k count=100 2>/dev/null || true")
    words = circus.path("/srv/web/log/circus.log")
    before = words.read_text().count(CANNOT)
    say(circus, "full", "y" * 5000 + "\n")
    wait_until(lambda: words.read_text().count(CANNOT) > before, words.read_text)
    circus.run(f"kill -KILL {pid}")
    running(circus, "full", other=pid)
    assert f"full: 5001 bytes of the output of process {pid} are lost" in words.read_text()
    circus.run("rm /srv/full/fill")


def all_run(circus: WithoutSystemd, but: Collection[int] = ()) -> list[int]:
    """Wait until the watcher with many processes has all of them, none of which is one of the others."""

    def found() -> list[int] | None:
        pids = circus.pids("many")
        there = circus.run(f"for pid in {' '.join(map(str, pids))}; do [ ! -e /proc/$pid ] || echo $pid; done").split()
        return pids if len(there) == MANY and not set(pids) & set(but) else None

    return wait_until(found, lambda: circus.ctl("list", "many"))


def test_ends_while_papa_does_not_answer(circus: WithoutSystemd) -> None:
    """circusd does, and makes the processes again as soon as it can."""
    pids = all_run(circus)
    bus = "kill -{} $(pgrep --parent $(cat /run/papad.pid) dbus-daemon)"  # papad's own, all answers come by it
    circus.run(bus.format("STOP"))
    circus.run(f"kill -KILL {' '.join(map(str, pids))}")
    for _ in range(10):  # several times that circusd looks after its watchers
        answer = circus.container.run(["/opt/circus/bin/circusctl", "--timeout", "15", "status", "many"], check=False)
        assert (answer.returncode, answer.stdout.strip()) == (0, "active")
    circus.run(bus.format("CONT"))
    all_run(circus, but=pids)


def test_a_stop_in_the_moment_of_an_end(circus: WithoutSystemd) -> None:
    for _ in range(STOPS):
        pids = all_run(circus)
        circus.run(
            f"kill -KILL {' '.join(map(str, pids[:6]))}; /opt/circus/bin/circusctl --timeout 30 stop many --waiting"
        )
        wait_until(lambda: circus.ctl("list", "many") == "", lambda: circus.ctl("list", "many"))
        assert circus.ctl("status", "many") == "stopped"
        circus.ctl("start", "many", "--waiting")
        assert not set(pids) & set(all_run(circus))


def test_a_name_that_papa_would_not_have(circus: WithoutSystemd) -> None:
    name = "a name (5*5: 25)"
    pid = running(circus, name)
    circus.quit()
    circus.begin(INI)
    assert running(circus, name) == pid


@pytest.mark.parametrize(
    ("ini", "words"),
    [
        ("[socket:web]\nport = 8099\nuse_papa = true\n", "cannot bind localhost port 8099"),
        (
            "[circus]\npapa_endpoint = dbus:unix:path=/run/none\n[watcher:it]\ncmd = true\nuse_papa = true\n",
            "/run/none",
        ),
    ],
    ids=["socket", "papa"],
)
def test_circusd_does_not_start_without_what_it_needs(circus: WithoutSystemd, ini: str, words: str) -> None:
    """As it does not without Papa: it says what is missing, and whoever started it can start it again."""
    circus.quit()
    circus.path(OTHER_INI).write_text(ini)
    taken = "import signal, socket\nwith socket.create_server(('127.0.0.1', 8099)): signal.pause()"
    with circus.background("taker", f"/usr/bin/python3 -c '{taken.replace(chr(39), chr(34))}'"):
        wait_until(lambda: ":1FA3 " in circus.run("cat /proc/net/tcp"), lambda: circus.run("cat /proc/net/tcp"))
        done = circus.container.run(["env", circus.environment, "/opt/circus/bin/papa-circusd", OTHER_INI], check=False)
    assert words in done.stdout + done.stderr
    circus.begin(INI)
