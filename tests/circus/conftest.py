"""Machines with Circus and Papa: one booted container for all, and one of its own for each without systemd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.circus.environments import VERSIONS, build_wheel, install
from tests.circus.machine import Booted, Machine, bare_machine
from tests.circus.sidebyside import Circusd, Place
from tests.systemd.container import Container
from tests.systemd.machines import make_bed, readme_command


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, to be installed."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


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
