"""At shutdown circusd stops its watchers and has their last words, before papad ends; else it leaves them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.circus.environments import VERSIONS, install
from tests.circus.machine import INI
from tests.systemd.container import PROJECT, Container
from tests.systemd.machines import make_bed, readme_command
from tests.systemd.programs import LINES, MUCH

PAGE = PROJECT / "docs/howto/circus.md"
#: Where the programs leave what is looked at when the machine is off.
FOLDER = "/var/lib/last-words"
DROP_IN = "[Unit]\nBefore=circus.service\n"
#: The first signal counts: either may come while it deals with the other.
_TRAP = "trap 'trap \"\" TERM INT; echo {0}; sleep 1; echo one; sleep 1; echo two; exit 4' {0}; "
#: Its watcher says INT; systemd ends scopes by TERM.
WORDS = f"{_TRAP.format('TERM')}{_TRAP.format('INT')}echo ready; while :; do sleep 0.1; done"
CIRCUSCTL = "/opt/circus/bin/circusctl --timeout 30"
CIRCUS = f"""[circus]
logoutput = {FOLDER}/circus.log
[watcher:words]
cmd = sh {FOLDER}/words
stop_signal = INT
use_papa = true
stdout_stream.class = FileStream
stdout_stream.filename = {FOLDER}/words.log
[watcher:much]
cmd = python3 -u {FOLDER}/much
use_papa = true
stdout_stream.class = FileStream
stdout_stream.filename = {FOLDER}/much.log
"""


@pytest.fixture(scope="module", params=("bookworm", "trixie"))
def debian(request: pytest.FixtureRequest, wheel: Path) -> Iterator[Container]:
    """Give each Debian with Papa, Circus and the example's unit."""
    container = make_bed(request.param)
    try:
        brings_make = readme_command("make run").removesuffix("make run")
        container.run_unbooted(f"cd /root/papa && {brings_make}{readme_command('make install')}")
        install(container, VERSIONS[-1], wheel)
        (container.root / "opt/circus").symlink_to(f"circus-{VERSIONS[-1]}")
        container.boot()
        yield container
    finally:
        container.stop()


@pytest.fixture(params=[""])
def hosting(debian: Container, request: pytest.FixtureRequest) -> Iterator[Container]:
    """Have circusd run both programs; a parameter is the drop-in of all scopes."""
    debian.run(f"mkdir -p {FOLDER} {Path(INI).parent} /etc/systemd/system/papa-.scope.d; rm -f {FOLDER}/*")
    (debian.root / "etc/systemd/system/papa-.scope.d/circus.conf").write_text(request.param)
    for name, text in (("words", WORDS), ("much", MUCH)):
        (debian.root / FOLDER[1:] / name).write_text(text)
    (debian.root / INI[1:]).write_text(CIRCUS)
    debian.copy_in(PROJECT / "examples/circus/circus.service", "/etc/systemd/system/circus.service")
    debian.run("systemctl daemon-reload; systemctl start circus")
    for name in ("words", "much"):
        debian.wait_until(f"grep -q ready {FOLDER}/{name}.log || {{ cat {FOLDER}/circus.log >&2; false; }}")
    yield debian
    # circusd first: it would start again what has ended, and that would outlive papad.
    debian.run("systemctl stop circus; systemctl stop papa.slice papa.service; systemctl clean --what=all papa.service")
    debian.run("rm -rf /etc/systemd/system/papa-.scope.d")


def said(container: Container, name: str) -> list[str]:
    """What a program has in its log."""
    return container.run(f"cat {FOLDER}/{name}.log").stdout.splitlines()


def goes_off(container: Container) -> None:
    container.run("systemctl poweroff", check=False)  # the machine may be off before the answer is there
    container.wait_until_off()
    container.boot()


def had_their_say(container: Container, *signals: str) -> None:
    """The last words are in the files of their streams."""
    ready, by, *last = said(container, "words")
    assert (ready, last) == ("ready", ["one", "two"])
    assert by in signals
    assert said(container, "much") == ["ready", *["y" * 99] * LINES, "the end"]
    log = container.run(f"cat {FOLDER}/circus.log").stdout
    assert log.count("words stopped") == log.count("much stopped") == 1
    assert "left running" not in log


def test_the_machine_goes_off(hosting: Container) -> None:
    """systemd ends the programs at the same time, so that either signal may be the first."""
    goes_off(hosting)
    had_their_say(hosting, "TERM", "INT")


@pytest.mark.parametrize("hosting", [DROP_IN], indirect=True, ids=["ordered"])
def test_the_machine_goes_off_with_the_watchers_own_signals(hosting: Container) -> None:
    """With the drop-in that the page names systemd ends a scope only once circusd has ended."""
    assert DROP_IN in PAGE.read_text()
    goes_off(hosting)
    had_their_say(hosting, "INT")
    assert "systemd is ending" not in hosting.run(f"cat {FOLDER}/circus.log").stdout


def test_circusd_alone_is_restarted(hosting: Container) -> None:
    """What it hosts goes on."""
    before = hosting.run("papactl list processes --no-legend | awk '{print $1, $3}'").stdout
    hosting.run("systemctl restart circus")
    hosting.wait_until(f"grep -q 'words: process 1 was found' {FOLDER}/circus.log")
    assert hosting.run("papactl list processes --no-legend | awk '{print $1, $3}'").stdout == before
    assert said(hosting, "words") == ["ready"]


def test_the_slice_alone_is_stopped(hosting: Container) -> None:
    """circusd still runs, and starts the program again. What that prints is in the log once, over a restart too."""
    hosting.run("systemctl stop papa.slice")
    twice = f"[ $(grep -c ready {FOLDER}/words.log) = 2 ]"
    # If systemd was still ending the slice, circusd has used up its tries (max_retry), and is asked.
    hosting.wait_until(f"{twice} || {{ {CIRCUSCTL} start words >&2; {twice}; }}")
    assert said(hosting, "words") == ["ready", "TERM", "one", "two", "ready"]
    pid = hosting.run("papactl list processes circus.words.1 --no-legend | awk '{print $3}'").stdout
    hosting.run(f"systemctl stop circus; rm {FOLDER}/*.log; systemctl start circus")
    hosting.wait_until(f"grep -q 'words: process 1 was found in papa (PID {pid.strip()})' {FOLDER}/circus.log")
    assert said(hosting, "words") == []
    hosting.run(f"{CIRCUSCTL} stop words --waiting")
    assert said(hosting, "words") == ["INT", "one", "two"]
