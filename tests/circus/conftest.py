"""Machines with Circus and Papa: one booted container for all, and one of its own for each without systemd."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.circus.environments import VERSIONS, build_wheel, install
from tests.circus.machine import Booted, Machine, WithoutSystemd
from tests.circus.sidebyside import Circusd, Place
from tests.systemd.conftest import make_bed, readme_command
from tests.systemd.container import Container

#: Each Circus with the project's command, and the one that knows Papa by itself without it, too.
COMBINATIONS = [("0.17.2", "plain"), *((version, "papa-circusd") for version in VERSIONS)]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, to be installed."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@contextmanager
def bare_machine(wheel: Path, version: str, how: str, *papad: str) -> Iterator[WithoutSystemd]:
    """A machine without systemd."""
    container = Container.of_this_machine()
    try:
        install(container, version, wheel)
        container.start_without_systemd()
        machine = WithoutSystemd(container, version, how, *papad)
        yield machine
        machine.stop()
        for word in ("Traceback", "internal"):
            assert word not in machine.words("papad"), machine.words("papad")
    finally:
        container.stop()


@pytest.fixture(scope="session")
def booted_bed(wheel: Path) -> Iterator[Container]:
    """A booted container with Papa installed, and each Circus."""
    container = make_bed("dbus-daemon")
    try:
        brings_make = readme_command("make run").removesuffix("make run")
        container.run_unbooted(f"cd /root/papa && {brings_make}{readme_command('make install')}")
        for version in VERSIONS:
            install(container, version, wheel)
        container.boot()
        yield container
    finally:
        container.stop()


@pytest.fixture(params=["booted", "bare"])
def machine(request: pytest.FixtureRequest, combination: tuple[str, str], wheel: Path) -> Iterator[Machine]:
    """A machine of either kind, with the example in /srv/web."""
    if request.param == "bare":
        with bare_machine(wheel, *combination) as bare:
            yield bare
    else:
        container: Container = request.getfixturevalue("booted_bed")
        yield Booted(container, *combination)
        container.run("systemctl stop circus papa.service papa.slice")


@pytest.fixture
def circusd(place: Place) -> Iterator[Circusd]:
    """A circusd that leaves nothing, on the papad and the Circus that a file's `place` is."""
    made = place.circusd()
    yield made
    made.ask("stop", waiting=True)
    made.quit()
    assert place.papa("p.list_values()") == {}
