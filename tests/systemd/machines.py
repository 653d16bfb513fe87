"""Machines that several tests make: with this checkout, with Papa installed, as after a boot."""

from collections.abc import Callable

from tests.systemd.container import PROJECT, Container

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


def installed(kind: str, prepare: Callable[[Container], None] = lambda container: None) -> Container:
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


def as_after_boot(container: Container) -> Container:
    """Bring a container's Papa back to how it is after a boot: papad not running, its port open, nothing hosted."""
    container.run("systemctl stop papa.service papa.slice && systemctl clean --what=all papa.service")
    container.run("systemctl reset-failed && systemctl start papa.socket")
    return container
