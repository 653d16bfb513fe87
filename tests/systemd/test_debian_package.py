"""`make deb` on fresh Debian 12 and 13, and what apt makes of it: installed, upgraded under load, refused, purged."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from papa_dbus.service.items.store_file import VERSION
from tests.systemd.container import Container
from tests.systemd.machines import make_bed
from tests.systemd.test_starting import CALL
from tests.systemd.test_upgrade import NEXT, load, main_pid, version

APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold"
INSTALL = f"{APT} install --yes --no-install-recommends"
FILES = "find . -path ./dist -prune -o -type f -exec sha256sum {} +"
PYTHON = "/usr/bin/python3"
LAYOUT = "import sqlite3; sqlite3.connect('/run/papa/state.sqlite').execute('PRAGMA user_version = {}')"


@dataclass
class Packages:
    """What `make deb` has made, outside of any container, and what it and lintian have said."""

    suite: str
    folder: Path
    said: str
    lintian: str


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Build the package of this checkout as root, and one of a higher version as an ordinary user."""
    container = make_bed(request.param)
    try:
        container.run_unbooted(f"{APT} update && {INSTALL} make lintian && useradd --create-home builder")
        checkout = container.run_unbooted(f"cd /root/papa && {FILES}")
        said = container.run_unbooted("cd /root/papa && make deb")
        assert container.run_unbooted(f"cd /root/papa && {FILES}") == checkout
        lintian = container.run_unbooted(
            "runuser -u builder -- lintian --version; lintian --allow-root /root/papa/dist/*.deb"
        )
        container.run_unbooted(
            f"""cp -r /root/papa /home/builder && cd /home/builder/papa && rm -r dist && chown -R builder . &&
            sed -i 's/^__version__ = .*/__version__ = "{NEXT}"/' papa_dbus/__init__.py && runuser -u builder make deb"""
        )
        folder = tmp_path_factory.mktemp(request.param)
        for dist in ("root/papa/dist", "home/builder/papa/dist"):
            [package] = (container.root / dist).iterdir()
            shutil.copy(package, folder)
        return Packages(request.param, folder, said, lintian)
    finally:
        container.stop()


@pytest.fixture(scope="module")
def debian(packages: Packages) -> Iterator[Container]:
    """Give a fresh Debian, booted, that has fetched what the package depends on and installed nothing of it."""
    container = Container.fresh(packages.suite)
    try:
        container.copy_in(packages.folder, "/srv")
        container.run_unbooted(
            f"{APT} update && {INSTALL} inetutils-telnet && {INSTALL} --download-only /srv/papa_2*.deb"
        )
        container.run_unbooted("for user in ann joe; do useradd --create-home --shell /bin/sh $user; done")
        container.boot()
        yield container
    finally:
        container.stop()


def install(container: Container, package: str) -> str:
    """Install a package without a network, an older one too; gives what is said."""
    done = container.run(f"{INSTALL} --allow-downgrades /srv/{package}", timeout=120)
    return done.stdout + done.stderr


def upgrade(container: Container, package: str) -> str:
    """Install a package in place of a running one, an older one too, and wait until its kernel is there."""
    cursor = container.journal_cursor()
    said = install(container, package)
    container.wait_for_journal(f"papad {package.removeprefix('papa_').removesuffix('*.deb')}", cursor)
    container.run("papactl list")  # waits for it
    return said


@pytest.fixture
def papa(debian: Container) -> Container:
    """Give the Debian with the package of this checkout, the kernel not running and nothing hosted."""
    debian.run("systemctl stop papa.service papa.slice; systemctl clean --what=all papa.service", check=False)
    install(debian, "papa_2*.deb")
    return debian


def test_lintian_has_nothing_to_say(packages: Packages) -> None:
    assert "papa: built dist/papa_" in packages.said
    lines = packages.lintian.splitlines()
    assert lines[0].startswith("Lintian v")
    assert [line for line in lines[1:] if line[:2] in ("E:", "W:")] == []


def test_installed_as_debian_packages_are(debian: Container) -> None:
    install(debian, "papa_2*.deb")
    assert debian.run("systemctl is-enabled papa.socket papa.service", check=False).stdout == "enabled\ndisabled\n"
    assert debian.run("systemctl is-active papa.socket papa.service", check=False).stdout == "active\ninactive\n"
    assert debian.run("dpkg --verify papa && dpkg --audit").stdout == ""
    assert debian.run(CALL).stdout == "a{ss} 0\n"  # the bus starts it, by its unit
    assert debian.run("systemctl show --property=FragmentPath papa").stdout.endswith(
        "/lib/systemd/system/papa.service\n"
    )
    kept = debian.run("systemctl show --property=FileDescriptorStorePreserve papa").stdout
    assert kept == ("" if "bookworm" in debian.name else "FileDescriptorStorePreserve=yes\n")

    # The group is there and the bus knows it; without polkit nobody else is let in.
    debian.run("usermod --append --groups papa ann")
    assert debian.run("papactl list && papactl status", "ann").stdout.startswith("● Papa 2.")
    assert debian.run("papactl list", "joe", check=False).returncode == 6
    assert "bad" not in debian.run("papactl doctor --json").stdout
    for file in ("man/man1/papactl.1.gz", "man/man8/papad.8.gz", "bash-completion/completions/papactl",
                 "zsh/vendor-completions/_papactl", "polkit-1/actions/org.papa.kernel.policy",
                 "dbus-1/interfaces/org.papa.Kernel.Process.xml"):  # fmt: skip
        assert debian.run(f"dpkg --search /usr/share/{file}").stdout.startswith("papa: ")


def test_upgraded_under_load(papa: Container) -> None:
    """The system's kernel and a user's: same PIDs, and nobody notices."""
    user = papa.run("id --user joe").stdout.strip()
    papa.run(f"systemctl start papa user@{user}")
    theirs = papa.run("papactl --user run mine -- sleep 600", "joe").stdout
    with load(papa, PYTHON):
        pid = main_pid(papa)
        said = upgrade(papa, f"papa_{NEXT}*.deb")
        assert "papa: the new version takes over: systemctl reload papa\n" in said
        assert version(papa) == NEXT
        assert main_pid(papa) == pid
    assert papa.run("papactl --user status", "joe").stdout.startswith(f"● Papa {NEXT} on the session bus\n")
    assert theirs.split()[2].rstrip(",") in papa.run("papactl --user list", "joe").stdout
    papa.run("systemctl --user stop papa.socket papa.service papa.slice", "joe")


def test_an_older_one_that_cannot_read_the_state_is_not_installed(papa: Container) -> None:
    install(papa, f"papa_{NEXT}*.deb")
    papa.run("papactl run p -- sleep 600")
    pid = main_pid(papa)
    papa.run([PYTHON, "-c", LAYOUT.format(999)])
    done = papa.run(f"{INSTALL} --allow-downgrades /srv/papa_2*.deb", check=False)
    assert done.returncode != 0
    assert f"was written by a newer papad (layout 999, this package's knows {VERSION})" in done.stdout + done.stderr
    assert NEXT in papa.run("dpkg-query --show papa").stdout
    assert papa.run("dpkg --verify papa && dpkg --audit").stdout == ""
    assert main_pid(papa) == pid
    assert version(papa) == NEXT

    papa.run([PYTHON, "-c", LAYOUT.format(VERSION)])
    upgrade(papa, "papa_2*.deb")
    assert version(papa).startswith("2.")
    assert main_pid(papa) == pid
    assert "running" in papa.run("papactl list processes").stdout


def test_purged_with_nothing_left(papa: Container) -> None:
    user = papa.run("id --user joe").stdout.strip()
    papa.run(f"systemctl start user@{user}")
    papa.run("papactl --user run theirs -- sleep 601", "joe")
    papa.run("papactl run ours -- sleep 602")
    said = papa.run(f"{APT} purge --yes papa", timeout=120).stdout
    assert "these processes end with the papad that hosts them" in said
    assert "sleep 602" in said

    names = "find / -xdev -iname '*papa*' -not -path '/srv/*' -not -path '/proc/*'"
    assert papa.run(names).stdout == ""
    assert papa.run("find /run -iname '*papa*' -not -path '/run/user/*/systemd/*'").stdout == f"/run/user/{user}/papa\n"
    assert papa.run("systemctl list-units --all --plain --no-legend 'papa*'").stdout == ""
    assert papa.run("systemctl --user list-units --all --plain --no-legend 'papa*'", "joe").stdout == ""
    running = papa.run("readlink /proc/[0-9]*/exe", check=False).stdout
    assert "systemd" in running
    assert not re.search("python|sleep", running)
    assert papa.run("getent group papa").stdout.startswith("papa:")  # as Debian's policy has it
    assert "not provided" in papa.run(CALL, check=False).stderr
