"""What runs in Papa otherwise than a circusd's file says is told in its log, and two circusds do not mix."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.circus.environments import VERSIONS
from tests.circus.sidebyside import Circusd, Place
from tests.support import PATIENCE, alive, wait_until

APP = "[watcher:app]\ncmd = sleep {}\nuse_papa = true\n"
OTHER = "[watcher:other]\ncmd = sleep 3000\nuse_papa = true\n"


@pytest.fixture(params=[VERSIONS[0], VERSIONS[-1]])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A papad, with the oldest Circus and the newest."""
    with Place(request.param) as made:
        yield made


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        (APP.format(2000), "cmd"),
        (APP.format(1000) + "numprocesses = 2\n", None),
        (APP.format(1000) + "[env:app]\nA = 1\n", "env"),
        (APP.format(1000) + "rlimit_nofile = 100\nworking_dir = /\n", "rlimits, working_dir"),
        (APP.format(1000) + "close_child_stderr = true\nuid = nobody\n", "close_child_stderr, gid, uid"),
    ],
    ids=["cmd", "same", "env", "two", "three"],
)
def test_other_options_than_the_files(circusd: Circusd, sections: str, names: str | None) -> None:
    circusd.configure(APP.format(1000) + "numprocesses = 2\n")
    circusd.begin()
    before = circusd.running("app", 2)
    circusd.quit()
    circusd.configure(sections.replace("use_papa", "numprocesses = 2\nuse_papa") if names else sections)
    circusd.begin()
    assert circusd.running("app", 2) == before
    if names is None:
        assert circusd.warnings() == []
        return
    [warning] = circusd.warnings()
    assert f"app: processes 1, 2 in papa differ from the file in {names}" in warning
    assert "circusctl restart app" in warning
    circusd.do("restart", name="app")
    after = circusd.running("app", 2)
    circusd.quit()
    circusd.begin()
    assert circusd.running("app", 2) == after
    assert circusd.warnings() == []


def test_an_environment_that_is_copied_is_not_a_difference(circusd: Circusd) -> None:
    circusd.configure(APP.format(1000) + "copy_env = true\n[env:app]\nA = 1\n")
    circusd.begin(variables={"INVOCATION_ID": "1"})
    circusd.quit()
    circusd.begin(variables={"INVOCATION_ID": "2"})
    circusd.running("app")
    assert circusd.warnings() == []


def test_a_watcher_that_is_gone(circusd: Circusd, place: Place) -> None:
    circusd.configure(APP.format(1000) + OTHER + "[socket:web]\nport = 0\nuse_papa = true\n")
    circusd.begin()
    [app], [other] = circusd.running("app"), circusd.running("other")
    circusd.quit()
    circusd.configure(APP.format(1000).replace("use_papa = true\n", ""))
    circusd.begin()
    [first, second, third] = circusd.warnings()
    assert f"process circus.app.1 runs in papa (PID {app}), and its watcher has no use_papa any more" in first
    assert f"process circus.other.1 runs in papa (PID {other}), and no watcher of the file is its own" in second
    assert "papactl kill circus.other.1, then papactl remove circus.other.1" in second
    assert "papactl socket remove circus.web" in third
    for pid in (app, other):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: place.processes() == {}, place.processes)
    place.papa("[p.remove_processes('circus.app.1', 'circus.other.1'), p.remove_sockets('circus.web')]")
    place.papa("p.remove_values('circus.app.1.asked', 'circus.other.1.asked', 'circus.circusd')")


def test_somebody_elses_process(circusd: Circusd, place: Place) -> None:
    place.papa("p.make_process('circus.app.1', args=['sleep', '5000'])")
    circusd.configure(APP.format(1000))
    circusd.begin()
    circusd.running("app")
    [warning] = circusd.warnings()
    assert "app: process 1 in papa differs from the file in cmd" in warning


def test_two_circusds(circusd: Circusd, place: Place) -> None:
    """The second is refused by what it would need, and with that neither sees the other's."""
    circusd.configure(APP.format(1000))
    circusd.begin()
    [pid] = circusd.running("app")
    second = place.circusd("second")
    second.configure(APP.format(2000))
    assert second.launch().wait(PATIENCE) == 1
    [refusal] = second.warnings()
    assert "papa_prefix: names in papa that begin with 'circus.' belong to the circusd of" in refusal
    assert str(circusd.folder / "circus.ini") in refusal
    assert f"set papa_prefix in [circus] of {second.folder}/circus.ini" in refusal
    second.log.unlink()

    second.configure(APP.format(2000), circus="papa_prefix = second\n")
    second.begin()
    [other] = second.running("app")
    assert {name: info["pid"] for name, info in place.processes().items()} == {
        "circus.app.1": pid,
        "second.app.1": other,
    }
    assert second.warnings() == []
    second.do("stop", name="app")
    assert not alive(other)
    assert alive(pid)
    second.do("start", name="app")
    [other] = second.running("app")
    second.quit()
    circusd.quit()
    second.begin()
    circusd.begin()
    assert (circusd.running("app"), second.running("app")) == ([pid], [other])
    second.do("stop")
    second.quit()


def test_what_a_circusd_has_left_is_not_another_ones(circusd: Circusd, place: Place) -> None:
    """Also if it does not run at the moment; once nothing of it is left, its names are free."""
    circusd.configure(APP.format(1000))
    circusd.begin()
    circusd.running("app")
    circusd.quit()
    second = place.circusd("second")
    second.configure(APP.format(2000))
    assert second.launch().wait(PATIENCE) == 1
    circusd.begin()
    circusd.do("stop")
    circusd.quit()
    second.log.unlink()
    second.begin()
    second.running("app")
    assert circusd.launch().wait(PATIENCE) == 1
    second.do("stop")
    second.quit()
    circusd.log.unlink()
    circusd.begin()


@pytest.mark.parametrize("name", ["a b", "a.b", ""])
def test_a_prefix_that_is_not_valid(circusd: Circusd, place: Place, name: str) -> None:
    other = place.circusd()
    other.configure(APP.format(1), circus=f"papa_prefix = {name}\n")
    assert other.launch().wait(PATIENCE) == 1
    assert f"papa_prefix: {name!r} is not valid" in other.words()
    circusd.configure(APP.format(1000))
    circusd.begin()


def test_a_prefix_that_changes_waits_for_a_restart(circusd: Circusd) -> None:
    circusd.configure(APP.format(1000))
    circusd.begin()
    [pid] = circusd.running("app")
    circusd.configure(APP.format(1000), circus="papa_prefix = other\n")
    circusd.do("reloadconfig")
    assert circusd.running("app") == [pid]
    [warning] = circusd.warnings()
    assert "papa_prefix has changed in" in warning


def test_what_is_left_under_another_prefix_is_told(circusd: Circusd, place: Place) -> None:
    """Until it is gone, and whichever of the two prefixes is the default one."""
    for before, after in (("", "papa_prefix = other\n"), ("papa_prefix = first\n", "")):
        old = before.rpartition("= ")[2].strip() or "circus"
        circusd.configure(APP.format(1000) + "[socket:web]\nport = 0\nuse_papa = true\n", circus=before)
        circusd.begin()
        [pid] = circusd.running("app")
        circusd.quit()
        circusd.configure(APP.format(1000), circus=after)
        circusd.begin()
        circusd.running("app")
        [warning] = circusd.warnings()
        assert f"papa_prefix was {old} before" in warning
        assert f"process {old}.app.1 (PID {pid}), socket {old}.web; to have it back, set papa_prefix = {old}" in warning
        assert f"papactl kill '{old}.*', then papactl remove '{old}.*' and papactl socket remove '{old}.*'" in warning
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not alive(pid), place.processes)  # type: ignore[misc]
        place.papa(f"[p.remove_processes('{old}.app.1'), p.remove_sockets('{old}.web')]")
        circusd.do("stop")
        circusd.quit()
        circusd.begin()
        circusd.do("stop")
        assert circusd.warnings() == []
        assert [name for name in place.papa("p.list_values()") if name.startswith(f"{old}.")] == []
        circusd.quit()
    circusd.begin()


def test_a_prefix_that_another_circusd_had_is_not_told(circusd: Circusd, place: Place) -> None:
    other = place.circusd("second")
    other.configure(OTHER, circus="papa_prefix = second\n")
    other.begin()
    other.quit()
    place.papa("p.set('strange.circusd', 'no JSON')")
    circusd.configure(APP.format(1000))
    circusd.begin()
    circusd.running("app")
    assert circusd.warnings() == []
    place.papa("p.remove_values('strange.circusd')")
    other.begin()
    other.do("stop")
    other.quit()


ODD = [
    "my app",
    "a/b",
    "a.b.1",
    "grün",
    "日本",
    "y" * 180,
    "A:B",
    "a*b",
    "a(b)",
    "100%",
    "tab\tname",
    'quo"te',
    "-dash",
]


def test_watchers_with_odd_names(circusd: Circusd, place: Place) -> None:
    """They are found again; one that cannot be named in Papa is refused by name, once."""
    sections = [f"[watcher:{name}]\ncmd = sleep 1000\nuse_papa = true\n" for name in [*ODD, "z" * 200, "bell\a"]]
    circusd.configure("".join(sections))
    circusd.begin()
    before = {name: circusd.running(name) for name in ODD}
    for warning, name in zip(sorted(circusd.warnings()), ("bell\a", "z" * 200), strict=True):
        assert f"[ERROR] {name}: its name (a name may " in warning
        assert warning.endswith(") is not possible with use_papa; it is not started")
        assert circusd.status(name) == "stopped"
    circusd.quit()
    circusd.configure(
        "".join(sections[: len(ODD)]).replace("[watcher:my app]\ncmd = sleep 1000\nuse_papa = true\n", "")
    )
    circusd.begin()
    assert {name: circusd.running(name) for name in ODD[1:]} == {name: before[name] for name in ODD[1:]}
    [warning] = circusd.warnings()
    assert f"process circus.my%20app.1 runs in papa (PID {before['my app'][0]}), and no watcher of the file" in warning
    circusd.quit()
    circusd.configure("".join(sections[: len(ODD)]).replace("use_papa = true\n", "", 1))
    circusd.begin()
    [warning] = circusd.warnings()
    assert f"process circus.my%20app.1 runs in papa (PID {before['my app'][0]}), and its watcher has no use" in warning
    os.kill(before["my app"][0], signal.SIGKILL)
    wait_until(lambda: not alive(before["my app"][0]), place.processes)
    place.papa("p.remove_processes('circus.my%20app.1')")
    place.papa("p.remove_values('circus.my%20app.1.asked')")


def test_a_restart_from_a_file_that_was_not_read(circusd: Circusd) -> None:
    circusd.configure(APP.format(1000))
    circusd.begin()
    circusd.do("restart", name="app")
    assert circusd.warnings() == []
    circusd.configure(APP.format(2000) + "# and more\n")
    circusd.do("restart", name="app")
    [warning] = circusd.warnings()
    assert "circus.ini has changed since it was read, and a restart is as it was" in warning
    circusd.do("reloadconfig")
    circusd.do("restart", name="app")
    assert circusd.warnings() == [warning]


def test_what_reloadconfig_makes_anew_is_as_the_file_says(circusd: Circusd) -> None:
    circusd.configure(APP.format(1000))
    circusd.begin()
    circusd.do("incr", name="app")
    circusd.running("app", 2)
    circusd.configure(APP.format(2000))
    circusd.do("reloadconfig")
    circusd.running("app", 1)
    circusd.quit()
    circusd.begin()
    circusd.running("app", 1)
    assert circusd.warnings() == []
