"""Beds with Papa installed, each made once for all tests and only when a test asks for it."""

from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import PROJECT, Bed

# This machine's files with either message bus, and the two Debians that the README names.
KINDS = ("dbus-daemon", "dbus-broker", "bookworm", "trixie")

# pip finds everything here, as a booted bed has no way out.
OFFLINE = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/wheels"


def readme_command(ending: str) -> str:
    """Give the one command in the README that ends so, for a root who has no sudo."""
    lines = (PROJECT / "README.md").read_text().splitlines()
    [line] = [line.removeprefix("sudo ") for line in lines if line.endswith(ending) and not line.startswith("#")]
    return line


def make_bed(kind: str) -> Bed:
    """Make a bed of one kind, not booted, with the project checked out in /root/papa."""
    if kind in ("dbus-daemon", "dbus-broker"):
        bed = Bed.of_this_machine()
        bed.use_bus(kind)
    else:
        bed = Bed.fresh(kind)
    bed.check_out("/root/papa")
    return bed


def _installed(kind: str, prepare: Callable[[Bed], None] = lambda bed: None) -> Bed:
    """Make a bed of one kind, with Papa installed, booted."""
    bed = make_bed(kind)
    try:
        prepare(bed)
        brings_make = readme_command("make run").removesuffix("make run")
        bed.run_unbooted(f"cd /root/papa && {brings_make}{readme_command('make install')}")
        bed.boot()
    except BaseException:
        bed.stop()
        raise
    return bed


@pytest.fixture(scope="session")
def beds() -> Iterator[Callable[[str], Bed]]:
    """Give the booted bed of a kind, with Papa installed."""
    made: dict[str, Bed] = {}

    def get(kind: str) -> Bed:
        if kind not in made:
            made[kind] = _installed(kind)
        return made[kind]

    yield get
    for bed in made.values():
        bed.stop()


def as_after_boot(bed: Bed) -> Bed:
    """Bring a bed's Papa back to how it is after a boot: the kernel not running, its port open, nothing hosted."""
    bed.run("systemctl stop papa.service papa.slice && systemctl clean --what=all papa.service")
    bed.run("systemctl reset-failed && systemctl start papa.socket")
    return bed


@pytest.fixture(params=KINDS)
def bed(request: pytest.FixtureRequest, beds: Callable[[str], Bed]) -> Bed:
    """Give each kind of bed in turn, with the kernel not running."""
    return as_after_boot(beds(request.param))


@pytest.fixture
def machine(beds: Callable[[str], Bed]) -> Bed:
    """Give the bed of this machine's own files, with the kernel not running."""
    return as_after_boot(beds("dbus-daemon"))


@pytest.fixture
def bare() -> Iterator[Bed]:
    """Give a booted bed of this machine's files without Papa, and with all packages at hand that it needs."""
    bed = make_bed("dbus-daemon")
    try:
        bed.run_unbooted(
            "python3 -m venv /tmp/wheels && cd /root/papa && mkdir /srv/wheels && "
            "/tmp/wheels/bin/pip wheel --quiet --use-pep517 --wheel-dir /srv/wheels '.[ctl]' hatchling editables"
        )
        bed.boot()
        yield bed
    finally:
        bed.stop()
