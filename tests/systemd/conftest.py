"""Beds with Papa installed, each made once for all tests and only when a test asks for it."""

from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import Container
from tests.systemd.machines import as_after_boot, installed, make_bed

# This machine's files with either message bus, and the two Debians that the README names.
KINDS = ("dbus-daemon", "dbus-broker", "bookworm", "trixie")


@pytest.fixture(scope="session")
def containers() -> Iterator[Callable[[str], Container]]:
    """Give the booted container of a kind, with Papa installed."""
    made: dict[str, Container] = {}

    def get(kind: str) -> Container:
        if kind not in made:
            made[kind] = installed(kind)
        return made[kind]

    yield get
    for container in made.values():
        container.stop()


@pytest.fixture(params=KINDS)
def container(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Container:
    """Give each kind of container in turn, with papad not running."""
    return as_after_boot(containers(request.param))


@pytest.fixture
def machine(containers: Callable[[str], Container]) -> Container:
    """Give the container of this machine's own files, with papad not running."""
    return as_after_boot(containers("dbus-daemon"))


@pytest.fixture
def bare() -> Iterator[Container]:
    """Give a booted container of this machine's files without Papa, and with all packages at hand that it needs."""
    container = make_bed("dbus-daemon")
    try:
        container.run_unbooted(
            "python3 -m venv /tmp/wheels && cd /root/papa && mkdir /srv/wheels && "
            "/tmp/wheels/bin/pip wheel --quiet --use-pep517 --wheel-dir /srv/wheels '.[ctl]' hatchling editables"
        )
        container.boot()
        yield container
    finally:
        container.stop()
