"""The README's way from nothing to Circus on Papa, as it is written there, on a fresh Debian."""

import re
from collections.abc import Iterator

import pytest

from tests.support import wait_until
from tests.systemd.container import PROJECT, Container
from tests.systemd.machines import make_bed


def readme_lines() -> list[str]:
    """The commands of the README's section on Circus; what is continued on a second line is one."""
    section = (PROJECT / "README.md").read_text().partition("## Circus on Papa\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(block.splitlines()) == 10
    return str(block).replace("\\\n", "").splitlines()


@pytest.fixture
def fresh() -> Iterator[Container]:
    """A fresh Debian with the checkout, not booted."""
    container = make_bed("bookworm")
    try:
        yield container
    finally:
        container.stop()


def listed(container: Container, command: str) -> str:
    """What `circusctl list` prints, once circusd has something to list."""
    return wait_until(
        lambda: container.run(command, check=False).stdout.strip() or None, lambda: container.journal("--unit=circus")
    )


def test_from_nothing_to_circus_on_papa(fresh: Container) -> None:
    *install, run, first, restart, second, tail = readme_lines()
    fresh.run_unbooted("cd /root/papa\n" + "\n".join(install))  # only there it has a network
    fresh.boot()
    fresh.run(run)

    pid = listed(fresh, first)
    fresh.run(restart)
    assert listed(fresh, second) == pid
    fresh.run(f"timeout 20 {tail.replace('tail', 'tail --follow --lines=1')} | head -n 2")
    seconds = [line for line in fresh.run(tail).stdout.splitlines() if line]
    assert len(seconds) == len(set(seconds)) > 1
