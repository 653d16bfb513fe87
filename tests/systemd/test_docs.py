"""docs/: each command of each page does what the page says, on a booted machine where Papa was installed just now."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.systemd.bed import PROJECT, Bed
from tests.systemd.conftest import as_after_boot
from tests.systemd.console import Shell, commands, differences, fences

DOCS = PROJECT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
#: The user whose prompt is "$": a member of the group papa, with a session bus.
USER = "ada"

#: The first lines of the only commands that are not run here, and why.
NOT_RUN = {
    ("tutorial.md", "apt-get update && apt-get install -y make"): "each bed is installed so, while it has a network",
}
#: Languages of blocks that have no commands in them.
NO_COMMANDS = {"text", "ini", "python", "xml"}
#: Where a page may leave something behind.
PLACES = "/etc /home /opt /root /srv /tmp /usr/local/bin /var/log /var/www"
#: A file whose time says when a page was begun.
BEGUN = "/run/page-begun"


def name_of(page: Path) -> str:
    """A page's name, as links have it."""
    return str(page.relative_to(DOCS))


@pytest.fixture(scope="module")
def reader(beds: Callable[[str], Bed]) -> Iterator[Bed]:
    """Give a machine with a user who is a member of the group papa."""
    bed = beds("dbus-daemon")
    bed.run(f"useradd --create-home --shell /bin/bash --groups papa {USER} && loginctl enable-linger {USER}")
    bed.run(f"timeout 30 sh -c 'until test -S /run/user/$(id -u {USER})/bus; do sleep 0.1; done'")
    yield bed
    bed.run(
        f"loginctl disable-linger {USER} && systemctl stop user-$(id -u {USER}).slice && userdel --remove {USER} 2>&1"
    )


def left_behind(bed: Bed) -> str:
    """What a page has not taken away again of what it made."""
    hosted = bed.run("papactl list").stdout
    units = bed.run(
        "systemctl list-units --plain --quiet --all 'papa-*.scope'; systemctl list-units --quiet --failed"
    ).stdout
    files = bed.run(f"find {PLACES} -xdev -not -type d -cnewer {BEGUN} -not -path '*/journal/*'").stdout
    return f"{hosted}{units}{files}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_a_page(page: Path, reader: Bed) -> None:
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
    """What is not run has a reason, and no command hides in a block of another kind."""
    left_out = set()
    for page in PAGES:
        for block in fences(page):
            language = block.info.split()[0] if block.info else ""
            if language == "sh":
                left_out.add((name_of(page), block.content.partition("\n")[0]))
            elif language == "" and block.type == "fence":
                assert not any(line.startswith(("$ ", "# ")) for line in block.content.splitlines()), page
            else:
                assert language in NO_COMMANDS | {"console"} or language.startswith("{"), f"{page}: {block.content}"
    assert left_out == set(NOT_RUN)
