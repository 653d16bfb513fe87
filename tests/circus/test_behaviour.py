"""What circusctl does to watchers in Papa, and what Circus learns of their ends; each Circus, without systemd."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.circus.environments import COMBINATIONS, VERSIONS
from tests.circus.machine import WithoutSystemd, bare_machine
from tests.support import wait_until

FILES = Path(__file__).with_name("behaviour")
INI = "/srv/behaviour/behaviour.ini"
KILLS = 40


@pytest.fixture(scope="module")
def circus(request: pytest.FixtureRequest, wheel: Path) -> Iterator[WithoutSystemd]:
    """A machine whose circusd runs, with somebody who writes down its events."""
    with bare_machine(wheel, *request.param) as machine:
        machine.container.copy_in(FILES, "/srv/behaviour")
        machine.run("mkfifo /srv/behaviour/fifo")
        with machine.background("events", "/opt/circus/bin/python /srv/behaviour/events.py >/srv/behaviour/events.log"):
            machine.begin(INI)
            yield machine
            machine.ctl("stop", "--waiting")
            machine.quit()


every = pytest.mark.parametrize("circus", COMBINATIONS, ids="-".join, indirect=True, scope="module")
# What Circus 0.17.2 gets wrong with its own code.
ours = pytest.mark.parametrize(
    "circus", [(version, "papa-circusd") for version in VERSIONS], ids="-".join, indirect=True, scope="module"
)


def log(circus: WithoutSystemd, name: str) -> str:
    """What a watcher has logged."""
    return circus.path(f"/srv/web/log/{name}.log").read_text()


def wait_for_log(circus: WithoutSystemd, name: str, pattern: str) -> str:
    """Wait until a watcher has logged something."""
    found = wait_until(lambda: re.search(pattern, log(circus, name), re.MULTILINE), lambda: log(circus, name))
    return str(found[0])


def reaped(circus: WithoutSystemd, watcher: str) -> list[dict[str, object]]:
    """The reap events of a watcher."""
    lines = circus.path("/srv/behaviour/events.log").read_text().splitlines()
    return [said for topic, said in map(json.loads, lines) if topic == f"watcher.{watcher}.reap"]


def noted(circus: WithoutSystemd, hook: str) -> list[dict[str, object]]:
    """The calls of a hook."""
    lines = circus.path("/srv/behaviour/hooks.log").read_text().splitlines()
    return [said for said in map(json.loads, lines) if said["hook"] == hook]


def running(circus: WithoutSystemd, *pids: int) -> list[int]:
    """Those of the processes that are there."""
    said = circus.run(f"for p in {' '.join(map(str, pids))}; do [ ! -e /proc/$p ] || echo $p; done")
    return [int(pid) for pid in said.split()]


@every
def test_stop_and_start(circus: WithoutSystemd) -> None:
    before = circus.pids("a")
    circus.ctl("stop", "a", "--waiting")
    assert circus.ctl("status", "a") == "stopped"
    assert running(circus, *before) == []
    assert circus.ctl("status", "a.b") == "active"
    circus.ctl("start", "a", "--waiting")
    assert circus.ctl("status", "a") == "active"
    after = circus.pids("a")
    assert running(circus, *after) == after
    assert len(after) == 2
    assert not set(before) & set(after)


@every
@pytest.mark.parametrize("command", ["restart", "reload"])
def test_restart_and_reload(circus: WithoutSystemd, command: str) -> None:
    before = circus.pids("a")
    circus.ctl(command, "a", "--waiting")
    after = circus.pids("a")
    assert len(after) == 2
    assert not set(before) & set(after)
    assert running(circus, *before, *after) == after


@every
def test_incr_and_decr(circus: WithoutSystemd) -> None:
    before = circus.pids("a")
    circus.ctl("incr", "a", "2")
    more = wait_until(lambda: len(found := circus.pids("a")) == 4 and found, lambda: circus.pids("a"))
    assert set(before) < set(more)
    circus.ctl("decr", "a", "2")
    wait_until(lambda: len(circus.pids("a")) == 2, lambda: circus.pids("a"))
    assert (
        len(wait_until(lambda: len(left := running(circus, *more)) == 2 and left, lambda: running(circus, *more))) == 2
    )


@every
def test_a_signal(circus: WithoutSystemd) -> None:
    [pid] = circus.pids("signalled")
    wait_for_log(circus, "signalled", "^waiting$")
    circus.ctl("signal", "signalled", "usr1")
    wait_for_log(circus, "signalled", "^got SIGUSR1$")
    assert circus.pids("signalled") == [pid]


@ours
def test_an_exit_code_is_reaped(circus: WithoutSystemd) -> None:
    """A process that ends by itself: an event with its exit code, and another one."""
    [pid] = circus.pids("signalled")
    wait_for_log(circus, "signalled", "^waiting$")
    circus.run(f"kill -TERM {pid}")
    event = wait_until(
        lambda: [said for said in reaped(circus, "signalled") if said["process_pid"] == pid], circus.words
    )
    assert [said["exit_code"] for said in event] == [5]
    [other] = wait_until(lambda: running(circus, *circus.pids("signalled")), circus.words)
    assert other != pid


@ours
def test_hooks(circus: WithoutSystemd) -> None:
    [pid] = circus.pids("signalled")
    assert pid in [said["pid"] for said in noted(circus, "after_spawn")]
    circus.run(f"kill -KILL {pid}")
    wait_until(lambda: [said for said in noted(circus, "after_reap") if said["process_pid"] == pid], circus.words)
    [said] = [said for said in noted(circus, "after_reap") if said["process_pid"] == pid]
    assert said["exit_code"] == -9
    [other] = wait_until(lambda: running(circus, *circus.pids("signalled")), circus.words)
    assert other in [said["pid"] for said in noted(circus, "after_spawn")]


@ours
def test_the_flapping_plugin_acts(circus: WithoutSystemd) -> None:
    """It learns of each end, stops the watcher, tries it once more and gives it up."""
    circus.ctl("start", "fails")
    wait_for_log(circus, "circus", "fails: flapping detected: reached max retry limit")
    wait_until(lambda: circus.ctl("status", "fails") == "stopped", lambda: circus.ctl("status"))
    codes = [said["exit_code"] for said in reaped(circus, "fails")]
    assert len(codes) >= 6
    assert set(codes) == {3}
    assert set(log(circus, "fails").splitlines()) == {"trying"}


@ours
def test_commands_get_through_while_something_fails(circus: WithoutSystemd) -> None:
    """A process that fails at once, again and again, and no plugin that stops it."""
    circus.ctl("start", "fails_on")
    wait_until(lambda: len(reaped(circus, "fails_on")) >= 5, lambda: reaped(circus, "fails_on"))
    for _ in range(5):
        circus.ctl("restart", "a", "--waiting")
    circus.ctl("reload", "a", "--waiting")
    before = circus.pids("a")
    circus.terminate()
    circus.begin(INI)
    assert circus.pids("a") == before
    circus.ctl("stop", "fails_on", "--waiting")


@every
def test_killed_and_there_again(circus: WithoutSystemd) -> None:
    kill_often(circus, 3)


@ours
def test_killed_often_and_there_again(circus: WithoutSystemd) -> None:
    """However soon after its start it is killed, and Circus learns of each time."""
    before = len(reaped(circus, "killed"))
    kill_often(circus, KILLS)
    codes = wait_until(
        lambda: len(found := reaped(circus, "killed")[before:]) == KILLS and found, lambda: reaped(circus, "killed")
    )
    assert {said["exit_code"] for said in codes} == {-9}


def kill_often(circus: WithoutSystemd, times: int) -> None:
    """Kill a watcher's process each time as soon as circusd has it; one is there in the end."""
    pid = int(circus.run(["/opt/circus/bin/python", "/srv/behaviour/kill_often.py", str(times)]))
    assert running(circus, pid) == [pid]
    assert circus.pids("killed") == [pid]


@ours
def test_names_that_begin_alike_and_what_incr_did_over_a_restart(circus: WithoutSystemd) -> None:
    """Watchers `a` and `a.b` keep to their own; all processes are silent, and block nothing."""
    circus.ctl("incr", "a", "1")
    circus.ctl("incr", "a.b", "2")
    wait_until(lambda: (len(circus.pids("a")), len(circus.pids("a.b"))) == (3, 3), lambda: circus.ctl("list"))
    before = circus.pids("a"), circus.pids("a.b")
    assert not set(before[0]) & set(before[1])
    circus.quit()
    circus.begin(INI)
    assert (circus.pids("a"), circus.pids("a.b")) == before
    assert (circus.ctl("numprocesses", "a"), circus.ctl("numprocesses", "a.b")) == ("3", "3")
    circus.ctl("decr", "a", "1")
    circus.ctl("decr", "a.b", "2")
    wait_until(lambda: (len(circus.pids("a")), len(circus.pids("a.b"))) == (2, 1), lambda: circus.ctl("list"))
    circus.kill_and_begin()
    assert (len(circus.pids("a")), len(circus.pids("a.b"))) == (2, 1)


@ours
def test_what_was_started_by_hand_is_taken_over(circus: WithoutSystemd) -> None:
    """autostart is about what does not run: circusd never calls stopped what runs."""
    assert circus.ctl("status", "by_hand") == "stopped"
    circus.ctl("start", "by_hand", "--waiting")
    pids = circus.pids("by_hand")
    circus.quit()
    circus.begin(INI)
    assert circus.ctl("status", "by_hand") == "active"
    assert circus.pids("by_hand") == pids
    circus.ctl("stop", "by_hand", "--waiting")
    circus.quit()
    circus.begin(INI)
    assert circus.ctl("status", "by_hand") == "stopped"


@ours
def test_a_socket_for_each_process(circus: WithoutSystemd) -> None:
    """so_reuseport: each has one of its own on the same port, and each of them answers."""
    pids = circus.pids("shared")
    ask = "import socket\nwith socket.create_connection(('127.0.0.1', 8081), 20) as s: print(s.makefile().read())"
    answers = set()

    def all_answered() -> bool:
        answers.add(circus.run(["/usr/bin/python3", "-c", ask]).strip())
        return len(answers) == 2

    wait_until(all_answered, lambda: answers)
    assert sorted(int(answer.split()[0]) for answer in answers) == pids
    assert len({answer.split()[1] for answer in answers}) == 2


@ours
@pytest.mark.parametrize("circusd", ["stays", "returns"])
def test_a_line_in_pieces_is_stamped_once(circus: WithoutSystemd, circusd: str) -> None:
    circus.ctl("restart", "pieces", "--waiting")
    [pid] = circus.pids("pieces")
    seen = f"{circus.environment} /opt/circus/bin/python /srv/behaviour/last_seq.py circus.pieces.1"
    wait_until(lambda: int(circus.run(seen)) >= 1, circus.words)
    if circusd == "returns":
        circus.quit()
        circus.begin(INI)
    circus.run(f"echo {circusd} >/srv/behaviour/fifo")
    line = wait_for_log(circus, "pieces", f"^.*line, {circusd}$")
    assert re.fullmatch(rf"at \d\d:\d\d:\d\d \[{pid}\] \| one line, {circusd}", line)
    assert log(circus, "pieces").count(f"[{pid}]") == 1
