"""Beds with Papa installed, each made once for all tests and only when a test asks for it."""

from collections.abc import Callable, Iterator

import pytest

from tests.systemd.container import PROJECT, Container

# This machine's files with either message bus, and the two Debians that the README names.
KINDS = ("dbus-daemon", "dbus-broker", "bookworm", "trixie")

# pip finds everything here, as a booted container has no way out.
OFFLINE = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/wheels"


def readme_command(ending: str) -> str:
    """Give the one command in the README that ends so, for a root who has no sudo."""
    lines = (PROJECT / "README.md").read_text().splitlines()
    [line] = [line.removeprefix("sudo ") for line in lines if line.endswith(ending) and not line.startswith("#")]
    return line


def make_bed(kind: str) -> Container:
    """Make a container of one kind, not booted, with the project checked out in /root/papa."""
    if kind in ("dbus-daemon", "dbus-broker"):
        container = Container.of_this_machine()
        container.use_bus(kind)
    else:
        container = Container.fresh(kind)
    container.check_out("/root/papa")
    return container


def _installed(kind: str, prepare: Callable[[Container], None] = lambda container: None) -> Container:
    """Make a container of one kind, with Papa installed, booted."""
    container = make_bed(kind)
    try:
        prepare(container)
        brings_make = readme_command("make run").removesuffix("make run")
        container.run_unbooted(f"cd /root/papa && {brings_make}{readme_command('make install')}")
        container.boot()
    except BaseException:
        container.stop()
        raise
    return container


@pytest.fixture(scope="session")
def containers() -> Iterator[Callable[[str], Container]]:
    """Give the booted container of a kind, with Papa installed."""
    made: dict[str, Container] = {}

    def get(kind: str) -> Container:
        if kind not in made:
            made[kind] = _installed(kind)
        return made[kind]

    yield get
    for container in made.values():
        container.stop()


def as_after_boot(container: Container) -> Container:
    """Bring a container's Papa back to how it is after a boot: papad not running, its port open, nothing hosted."""
    container.run("systemctl stop papa.service papa.slice && systemctl clean --what=all papa.service")
    container.run("systemctl reset-failed && systemctl start papa.socket")
    return container


@pytest.fixture(params=KINDS)
def container(request: pytest.FixtureRequest, containers: Callable[[str], Container]) -> Container:
    """Give each kind of container in turn, with the kernel not running."""
    return as_after_boot(containers(request.param))


@pytest.fixture
def machine(containers: Callable[[str], Container]) -> Container:
    """Give the container of this machine's own files, with the kernel not running."""
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
