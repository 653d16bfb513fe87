"""What an option or a command of Circus means under use_papa is what it means without; cases from public complaints."""

import resource
import socket
from collections.abc import Iterator

import pytest

from tests.circus.environments import VERSIONS
from tests.circus.sidebyside import FILES, Circusd, Place
from tests.support import PATIENCE, alive, wait_until
from tests.systemd.container import PROJECT

SLEEP = "[watcher:app]\ncmd = sleep infinity\nuse_papa = true\n"


@pytest.fixture(scope="module", params=VERSIONS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A papad, with one Circus after the other."""
    with Place(request.param) as made:
        yield made


@pytest.fixture
def circusd(place: Place, request: pytest.FixtureRequest) -> Iterator[Circusd]:
    """A circusd that leaves nothing."""
    made = place.circusd(request.node.originalname[:30])
    yield made
    made.ask("stop", waiting=True)
    made.quit()
    assert place.processes() == {}


def number(sections: str, count: int) -> str:
    return f"{sections}numprocesses = {count}\n"


def test_numprocesses_of_the_file_after_reloadconfig(circusd: Circusd) -> None:
    circusd.configure(number(SLEEP, 2))
    circusd.begin()
    circusd.configure(number(SLEEP, 4))
    circusd.do("reloadconfig")
    circusd.running("app", 4)
    circusd.quit()
    circusd.configure(number(SLEEP, 2))
    circusd.begin()
    assert len(circusd.running("app", 2)) == 2


def test_incr_after_reloadconfig_is_remembered_and_told(circusd: Circusd) -> None:
    circusd.configure(number(SLEEP, 2))
    circusd.begin()
    circusd.configure(number(SLEEP, 3))
    circusd.do("reloadconfig")
    circusd.do("incr", name="app")
    before = circusd.running("app", 4)
    circusd.quit()
    circusd.begin()
    assert circusd.running("app", 4) == before
    [warning] = circusd.warnings()
    assert "app: numprocesses is 4, as it was set with circusctl, and not 3 as in the file" in warning
    assert "circusctl set app numprocesses 3" in warning
    circusd.do("set", name="app", options={"numprocesses": 3})
    circusd.running("app", 3)
    circusd.quit()
    circusd.begin()
    assert len(circusd.running("app", 3)) == 3
    assert circusd.warnings() == []


def test_a_job_that_ended_meanwhile_is_not_run_again(circusd: Circusd, place: Place) -> None:
    told = circusd.folder / "told"
    circusd.configure(f"""
[watcher:job]
cmd = sh -c "echo run >>{told}; while [ ! -e {told}.end ]; do sleep 0.1; done; echo last words; exit 3"
autostart = false
respawn = false
use_papa = true
hooks.after_reap = noting.note
stdout_stream.class = FileStream
stdout_stream.filename = {circusd.folder}/job.log
[env:job]
NOTES = {circusd.folder}
""")
    hooks = {"PYTHONPATH": f"{PROJECT}:{FILES}"}
    circusd.begin(variables=hooks)
    circusd.do("start", name="job")
    circusd.running("job")
    circusd.quit()
    told.with_name("told.end").touch()
    wait_until(lambda: not place.processes(), place.processes)
    circusd.begin(variables=hooks)
    assert circusd.status("job") == "stopped"
    assert '["after_reap", {"exit_code": 3}]' in (circusd.folder / "job.hooks").read_text()
    assert told.read_text() == "run\n"
    assert (circusd.folder / "job.log").read_text() == "last words\n"
    assert "process 1 ended while circusd was away" in circusd.words()
    assert "exit code 3" in circusd.words()
    assert place.papa("p.list_processes()") == {}
    circusd.do("start", name="job")
    wait_until(lambda: told.read_text() == "run\nrun\n", told.read_text)  # by hand it can be had again


@pytest.mark.parametrize("start", [True, False])
def test_the_clients_add(circusd: Circusd, place: Place, start: bool) -> None:
    circusd.configure("")
    circusd.begin()
    options = {"use_papa": True, "copy_env": True}
    said = circusd.ask("add", name="added", cmd="sleep infinity", start=start, options=options, waiting=True)
    assert said["status"] == "ok", said
    if not start:
        circusd.do("start", name="added")
    [pid] = circusd.running("added")
    assert place.processes()["circus.added.1"]["pid"] == pid
    said = circusd.ask("add", name="other", cmd="true", options={"use_papa": "yes"})
    assert said["reason"] == "'use_papa' isn't a valid boolean"
    said = circusd.ask("set", name="added", options={"use_papa": False})
    assert "use_papa: cannot be set while added is there" in said["reason"]


@pytest.mark.parametrize("way", ["option", "inherited"])
def test_umask(circusd: Circusd, way: str) -> None:
    circusd.configure(
        f"[watcher:app]\ncmd = sh -c 'umask >{circusd.folder}/mask.new; mv {circusd.folder}/mask.new"
        f" {circusd.folder}/mask; exec sleep infinity'\ncopy_env = true\nuse_papa = true\n",
        circus="umask = 002\n" if way == "option" else "",
    )
    circusd.begin(*(("sh", "-c", 'umask 002; exec "$@"', "sh") if way == "inherited" else ()))
    mask = circusd.folder / "mask"
    wait_until(mask.exists, circusd.words)
    assert mask.read_text() == "0002\n"


def test_on_demand_is_taken_over(circusd: Circusd) -> None:
    circusd.configure(f"""
[socket:web]
path = {circusd.folder}/web
use_papa = true

[watcher:app]
cmd = python3 -uc "import socket; print('up'); s = socket.socket(fileno=$(circus.sockets.web)); s.setblocking(1);
 [print(s.accept()[0].recv(9).decode()) for _ in iter(int, 1)]"
on_demand = true
use_sockets = true
copy_env = true
use_papa = true
stdout_stream.class = FileStream
stdout_stream.filename = {circusd.folder}/app.log
""")
    log = circusd.folder / "app.log"
    circusd.begin()
    assert circusd.status("app") == "stopped"
    request(circusd, b"one")
    wait_until(lambda: log.read_text() == "up\none\n", circusd.words)
    before = circusd.running("app")
    circusd.quit()
    circusd.begin()
    assert circusd.status("app") == "active"
    assert circusd.running("app") == before
    request(circusd, b"two")
    wait_until(lambda: log.read_text() == "up\none\ntwo\n", circusd.words)
    circusd.do("stop", name="app")
    assert not alive(before[0])


def request(circusd: Circusd, text: bytes) -> None:
    """Ask the socket of a test."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(f"{circusd.folder}/web")
        sock.sendall(text)


def test_no_traceback_while_one_is_slow_to_stop(circusd: Circusd) -> None:
    """One ends again and again, and one that is too old ignores TERM: Circus looks after both at a time."""
    circusd.configure(f"""
[watcher:ends]
cmd = sh -c "echo x >>{circusd.folder}/ends; sleep 0.5"
copy_env = true
use_papa = true
[watcher:deaf]
cmd = sh -c "trap '' TERM; echo x >>{circusd.folder}/deaf; while :; do sleep 0.2; done"
max_age = 1
max_age_variance = 0
graceful_timeout = 1
copy_env = true
use_papa = true
""")
    circusd.begin()
    for name, times in (("deaf", 3), ("ends", 6)):
        told = circusd.folder / name
        wait_until(lambda told=told, times=times: told.read_text().count("x") >= times, circusd.words)  # type: ignore[misc]
    assert "Traceback" not in circusd.words()
    assert "ConflictError" not in circusd.words()


def test_a_limit_that_there_is_none_of_is_named_as_it_was_written(circusd: Circusd) -> None:
    circusd.configure("[watcher:app]\ncmd = sleep infinity\nrlimit_nofle = 100\nuse_papa = true\n")
    circusd.begin()
    wait_until(lambda: "option 'rlimit_nofle': is none of as, " in circusd.words(), circusd.words)


def test_an_option_of_a_socket_is_named_as_it_was_written(circusd: Circusd) -> None:
    circusd.configure("[socket:web]\ntype = SOCK_RAW\nso_reuseport = true\nuse_papa = true\n")
    circusd.launch()
    wait_until(lambda: "option 'so_reuseport': goes with type stream or dgram" in circusd.words(), circusd.words)


def test_an_empty_rlimit_is_none(circusd: Circusd) -> None:
    told = circusd.folder / "limits"
    circusd.configure(f"""
[watcher:app]
cmd = sh -c "ulimit -Sn >{told}.new; ulimit -Hn >>{told}.new; mv {told}.new {told}; exec sleep infinity"
rlimit_nofile =
copy_env = true
use_papa = true
""")
    circusd.begin()
    circusd.running("app")
    wait_until(told.exists, circusd.words)
    soft, hard = told.read_text().split()
    assert soft == hard
    assert hard == "unlimited" or int(hard) >= resource.getrlimit(resource.RLIMIT_NOFILE)[1]
