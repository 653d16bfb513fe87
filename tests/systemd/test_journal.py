"""Output in the real journal: its fields, papad ending in every way, a journald that does not read, and none at all."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.container import Container

#: Two streams of numbered lines, each in two pieces, until it is told to stop.
COUNTER = (
    'i=0; while [ ! -e /run/enough ]; do i=$((i+1)); printf "out"; printf "err" >&2; echo " $i"; echo " $i" >&2; '
    "sleep 0.003; done; echo last"
)
TOKEN = "/run/papa-crash-point"
PID_OF_JOURNALD = "$(systemctl show --property=MainPID --value systemd-journald)"


@pytest.fixture
def papa(machine: Container) -> Iterator[Container]:
    """Give the container with the kernel running, and take away what a test has left."""
    yield from serving(machine)


@pytest.fixture
def any_papa(container: Container) -> Iterator[Container]:
    """Give each kind of container so: each has another systemd or another Python."""
    yield from serving(container)


def serving(container: Container) -> Iterator[Container]:
    container.run("systemctl start papa")
    yield container
    container.run(f"systemctl unset-environment PAPA_CRASH_POINT; rm -f /run/enough {TOKEN}")
    container.run("systemctl stop papa.service papa.slice")


def run(container: Container, name: str, script: str, *options: str) -> None:
    """Start a shell whose output goes to the journal."""
    container.run(["papactl", "run", name, "--journal", *options, "--", "sh", "-c", script])


def entries(container: Container, *match: str) -> list[dict[str, Any]]:
    """What journalctl finds."""
    return [json.loads(line) for line in container.journal("--output=json", "--all", *match).splitlines()]


def until(container: Container, name: str, line: str) -> None:
    """Wait for a line of a process's."""
    container.run(["sh", "-c", f"timeout 30 journalctl -q -t {name} -f -n all -o cat | grep -q -x -m 1 '{line}'"])


def until_more(container: Container, name: str) -> None:
    """Wait for lines that come from now on."""
    after = container.journal_cursor()
    container.run(f"timeout 30 journalctl -q -t {name} -f --after-cursor='{after}' -o cat | head -n 20 | grep -c ''")


def say(container: Container, line: str) -> str:
    """A line of the line protocol, and what comes of it."""
    return container.run(
        ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/20202; printf '%s\\nquit\\n' '{line}' >&3; cat <&3"]
    ).stdout


def test_lines_are_found_by_name_by_field_and_by_unit(any_papa: Container) -> None:
    script = (
        "echo hello; printf ha; while [ ! -e /run/enough ]; do sleep 0.05; done; echo lf; "
        "printf '<4>careful\\n' >&2; printf 'a\\377b\\n'; "
        "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no end'; exit 3"
    )
    run(any_papa, "fields", script, "--user", "nobody", "--directory", "/")
    run(any_papa, "other", "echo hello too")
    until(any_papa, "fields", "hello")  # while the process lives journald finds more about it in /proc
    any_papa.run("touch /run/enough")
    until(any_papa, "fields", "ended with exit status 3")
    until(any_papa, "other", "ended with exit status 0")
    [process] = json.loads(any_papa.run("papactl list processes fields --json").stdout)
    assert process["journal"] is True
    assert "journal: True" in any_papa.run("papactl show fields").stdout
    found = entries(any_papa, "--identifier=fields")
    texts = [entry["MESSAGE"] for entry in found if entry.get("PAPA_STREAM") == "out"]
    assert texts[:3] == ["hello", "half", [97, 255, 98]]
    assert "".join(texts[3:-1]) == "x" * 100_000
    assert texts[-1] == "no end"
    hello, end = found[0], found[-1]
    assert (hello["PRIORITY"], hello["SYSLOG_FACILITY"], hello["SYSLOG_PID"]) == ("6", "3", str(process["pid"]))
    assert (hello["PAPA_PROCESS"], hello["PAPA_SEQ"]) == ("fields", "1")
    assert process["started"] <= int(hello["PAPA_TIMESTAMP"]) <= int(hello["__REALTIME_TIMESTAMP"])
    assert (hello["OBJECT_PID"], hello["OBJECT_UID"]) == (
        str(process["pid"]),
        any_papa.run("id -u nobody").stdout.strip(),
    )
    assert (end["PAPA_EXIT_CODE"], end["PRIORITY"]) == ("3", "5")
    [careful] = entries(any_papa, "PAPA_PROCESS=fields", "PAPA_STREAM=err")
    assert (careful["MESSAGE"], careful["PRIORITY"]) == ("careful", "4")
    assert {entry["OBJECT_SYSTEMD_UNIT"] for entry in found} == {"papa-fields.scope"}
    assert any_papa.journal("--unit=papa-fields.scope", "--priority=notice") == "careful\nended with exit status 3\n"
    of_other = any_papa.journal("--unit=papa-other.scope", "--identifier=other")
    assert of_other == "hello too\nended with exit status 0\n"
    assert any_papa.journal("PAPA_PROCESS=other").splitlines()[-2:] == ["hello too", "ended with exit status 0"]
    # Nothing of it was acknowledged, and whoever reads it gets what there would be without the journal.
    assert process["buffered"] == process["written"] > 100_000
    assert any_papa.run("papactl consume other").stdout == "hello too\n"


def test_it_goes_on_however_papad_ends(papa: Container) -> None:
    """Each line once and in order; killed it may write the line again that it has just written, and that one only."""
    run(papa, "counter", COUNTER)
    kill = "kill --kill-who=main --signal=KILL papa"
    for end in ("restart papa", "reload papa", kill) * 3:
        after = papa.journal_cursor()
        papa.run(f"systemctl {end}")
        papa.wait_for_journal("is ready", after)
        until_more(papa, "counter")
    papa.run("touch /run/enough")
    until(papa, "counter", "ended with exit status 0")
    for stream in ("out", "err"):
        found = [entry["MESSAGE"] for entry in entries(papa, "--identifier=counter", f"PAPA_STREAM={stream}")]
        assert [text for text in found if not re.fullmatch(rf"{stream} \d+|last", text)] == []
        numbers = [int(text.split()[1]) for text in found if text != "last"]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(1, numbers[-1] + 1))
        assert len(numbers) - numbers[-1] <= 3, "one for each kill"
    assert "PAPA_LEFT_OUT" not in {field for entry in entries(papa, "--identifier=counter") for field in entry}


def test_killed_at_the_worst_instant_one_line_comes_twice(papa: Container) -> None:
    papa.run(["systemctl", "set-environment", f"PAPA_CRASH_POINT=journal entry written:{TOKEN}"])
    papa.run(f"systemctl restart papa; touch {TOKEN}")
    run(papa, "twice", "echo one; echo two; exec sleep 1000")
    until(papa, "twice", "two")
    assert papa.run(f"test -e {TOKEN}", check=False).returncode == 1, "it was killed"
    assert papa.journal("--identifier=twice").splitlines() == ["one", "one", "two"]


def test_a_journald_that_does_not_read_holds_nobody_up(papa: Container) -> None:
    """It is stopped while a process floods; a bystander and the kernel go on, and what is left out is said."""
    papa.run(f"kill -STOP {PID_OF_JOURNALD}")
    try:
        run(papa, "flood", "seq 1 500000; exec sleep 1000", "--bufsize", "20000")
        run(papa, "later", "echo here; exit 7")
        for number in range(5):  # papad's own log has records of these
            papa.run(["papactl", "set", f"value-{number}", "x"])
        papa.run("timeout 30 papactl logs -f -o cat flood | grep -q -x -m 1 500000")
        assert papa.run("papactl logs -o cat later").stdout == "here\n"
    finally:
        papa.run(f"kill -CONT {PID_OF_JOURNALD}")
    until(papa, "flood", "500000")
    until(papa, "later", "ended with exit status 7")
    found = entries(papa, "--identifier=flood")
    lines = [entry for entry in found if "PAPA_STREAM" in entry]
    losses = [entry for entry in found if "PAPA_LEFT_OUT" in entry]
    whole = [int(entry["MESSAGE"]) for entry in lines if "PAPA_LINE_BREAK" not in entry]
    assert whole == sorted(set(whole))
    passed = sum(len(entry["MESSAGE"]) + (entry.get("PAPA_LINE_BREAK") != "gap") for entry in lines)
    [process] = json.loads(papa.run("papactl list processes flood --json").stdout)
    assert passed + sum(int(entry["PAPA_LEFT_OUT"]) for entry in losses) == process["written"]
    assert re.fullmatch(r"\d+ bytes of output are not in the journal: more came than it takes", losses[0]["MESSAGE"])
    assert len(entries(papa, "--identifier=papad", *(f"PAPA_VALUE=value-{number}" for number in range(5)))) == 5


def test_where_there_is_no_journal_it_is_refused_by_each_front_end(papa: Container) -> None:
    papa.run("mv /run/systemd/journal/socket /run/systemd/journal/aside")
    try:
        refused = papa.run("papactl run web --journal -- sleep 1000", check=False)
        assert refused.returncode != 0
        why = "': there is no systemd journal here (/run/systemd/journal/socket: No such file or"
        assert f"option '--journal{why}" in refused.stderr
        asked = ["org.papa.Kernel", "MakeProcess", "sasa{sv}", "web", "2", "sleep", "9", "1", "journal", "b", "true"]
        called = papa.run(["busctl", "call", "org.papa.Kernel", "/org/papa/Kernel", *asked], check=False)
        assert f"option 'journal{why}" in called.stderr
        assert f"Error: option 'journal{why}" in say(papa, "make process web journal=1 sleep 9")
        assert papa.run("papactl list processes --json").stdout == "[]\n"
    finally:
        papa.run("mv /run/systemd/journal/aside /run/systemd/journal/socket")
    assert " journal=1 args=" in say(papa, "make process web journal=1 echo from telnet")
    until(papa, "web", "from telnet")
    zero = papa.run("papactl run none --journal --bufsize 0 -- sleep 1000", check=False)
    assert "option '--journal': goes with a bufsize" in zero.stderr
