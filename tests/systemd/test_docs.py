"""docs/: each command of each page does what the page says, on a booted machine where Papa was installed just now."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from markdown_it.token import Token

from tests.systemd.console import Shell, commands, differences, fences
from tests.systemd.container import PROJECT, Container
from tests.systemd.machines import as_after_boot, make_bed

pytestmark = pytest.mark.timeout(600)  # seconds: Circus comes from PyPI

DOCS = PROJECT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
#: The user whose prompt is "$": a member of the group papa, with a session bus.
USER = "ada"

#: A booted container has no network: the sh blocks of these pages run before it boots, in this order.
BEFORE_BOOT = ("tutorial.md", "howto/circus.md")
#: Lines of other sh blocks, which cannot run here at all, by page and line; and why, or where they do run.
NOT_RUN = {
    ("howto/upgrading.md", line): where
    for where, lines in (
        ("test_debian_package.py", ("git pull", "sudo make deb", "sudo apt install ./dist/papa_*.deb")),
        ("test_upgrade.py", ("git pull", "sudo make install", "sudo systemctl reload papa")),
        ("no newer version is on PyPI", ("/opt/papa/bin/pip install --upgrade './papa[ctl]'", "systemctl reload papa")),
    )
    for line in lines
}
#: Languages of blocks that have no commands in them.
NO_COMMANDS = {"text", "ini", "python", "{eval-rst}", "{literalinclude}", "{manual}", "{raw}", "{toctree}"}
#: Where a page may leave something behind.
PLACES = "/etc /home /opt /root /srv /tmp /usr/local/bin /usr/local/sbin /var/log /var/www"
#: Another machine is this one, by ssh all the same; tests/systemd/test_other_machine.py has two.
SERVER = """
echo 127.0.0.1 server >>/etc/hosts
mkdir -p /run/sshd && ssh-keygen -A && systemctl start ssh
mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
sed 's/^/server /' /etc/ssh/ssh_host_*_key.pub >/root/.ssh/known_hosts
"""
#: A file whose time says when a page was begun.
BEGUN = "/run/page-begun"


def name_of(page: Path) -> str:
    """A page's name, as links have it."""
    return str(page.relative_to(DOCS))


def language_of(block: Token) -> str:
    """A block's language, or its directive in braces."""
    return block.info.split()[0] if block.info else ""


def sh_blocks(page: Path) -> str:
    """The sh blocks of a page, one after the other."""
    return "".join(block.content for block in fences(page) if language_of(block) == "sh")


@pytest.fixture(scope="module")
def reader() -> Iterator[Container]:
    """Give a machine made by the pages' own commands, with a user of the group papa, and with `server` to log in to."""
    container = make_bed("dbus-daemon")
    try:
        container.run_unbooted("cd /root/papa\n" + "".join(sh_blocks(DOCS / page) for page in BEFORE_BOOT))
        container.boot()
        container.run(f"useradd --create-home --shell /bin/bash --groups papa {USER} && loginctl enable-linger {USER}")
        container.wait_until(f"test -S /run/user/$(id -u {USER})/bus")
        container.run(SERVER)
        yield container
    finally:
        container.stop()


def left_behind(container: Container) -> str:
    """What a page has not taken away again of what it made."""
    hosted = container.run("papactl list").stdout
    units = container.run(
        "systemctl list-units --plain --quiet --all 'papa-*.scope'; systemctl list-units --quiet --failed"
    ).stdout
    files = container.run(f"find {PLACES} -xdev -not -type d -cnewer {BEGUN} -not -path '*/journal/*'").stdout
    return f"{hosted}{units}{files}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_a_page(page: Path, reader: Container) -> None:
    as_after_boot(reader).run(f"touch {BEGUN}")
    with ExitStack() as shells:
        opened: dict[str, Shell] = {}

        def shell_of(user: str) -> Shell:
            if user not in opened:
                bash = reader.command(["bash", "--norc", "--noprofile", "--noediting"], USER if user == "$" else None)
                opened[user] = shells.enter_context(Shell(bash))
            return opened[user]

        wrong = list(differences(page, shell_of))
    assert not wrong, "\n\n".join(wrong)
    assert left_behind(reader) == ""


def test_no_command_is_left_out() -> None:
    """None hides in a block of another kind, and each that needs a network is known."""
    others = [page for page in PAGES if name_of(page) not in BEFORE_BOOT]
    assert {(name_of(page), line) for page in others for line in sh_blocks(page).splitlines()} == set(NOT_RUN)
    for page in PAGES:
        for block in fences(page):
            language = language_of(block)
            if language == "" and block.type == "fence":
                assert not any(line.startswith(("$ ", "# ")) for line in block.content.splitlines()), page
            else:
                assert language in {"console", "sh", *NO_COMMANDS}, f"{page}: {block.content}"
