"""Whom the local files make a member is let in at once, whatever strangers have the directory asked meanwhile."""

import os
import threading
from pathlib import Path

import pytest

from papa_dbus.service.access import group_members
from tests.support import PATIENCE

GROUP = "root:x:0:\npapa:x:990:mary,carl\npapa:x:991:nobody-else\n"
PASSWD = """root:x:0:0:root:/root:/bin/bash
mary:x:1001:1001::/home/mary:/bin/sh
carl:x:1002:1002::/home/carl:/bin/sh
own:x:1003:990::/home/own:/bin/sh
john:x:1004:1004::/home/john:/bin/sh
carl:x:1005:1005:a namesake::/bin/sh
mary:x:1004:1004:john is first of that number::/bin/sh
+::::::
"""
SWITCH = "passwd: files systemd sss  # comment\ngroup:\tfiles sss\nshadow: sss files\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of a user database of the test's own, whose directory never answers."""
    for name, text in (("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", SWITCH)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(
        group_members, "_FILES", [str(tmp_path / name) for name in ("passwd", "group", "nsswitch.conf")]
    )
    return tmp_path


async def test_local_members_wait_for_no_directory(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(group_members, "is_member", lambda group, uid: never.wait(PATIENCE))
    monkeypatch.setattr(group_members, "TIMEOUT", 0.2)
    members = group_members.Members("papa")
    assert [uid for uid in (0, *range(1001, 1007)) if members.known(uid)] == [1001, 1002, 1003, 1005]
    assert await members.has(1001)
    (files / "group").write_text(GROUP.replace("mary,", ""))
    os.utime(files / "group", ns=(1, 1))
    assert members.known(1001) is None  # out at once; the directory may still say that she is one
    never.set()


@pytest.mark.parametrize(
    ("switch", "there"),
    [
        (None, True),
        ("shadow: sss\n", True),
        ("passwd: sss files\ngroup: files\n", False),
        ("passwd: files\ngroup: sss files\n", False),
        ("passwd: files\ngroup: files\ninitgroups: sss\n", False),
        ("passwd:\n", False),
    ],
)
def test_only_if_libc_asks_the_local_files_first(files: Path, switch: str | None, there: bool) -> None:
    (files / "nsswitch.conf").unlink()
    if switch is not None:
        (files / "nsswitch.conf").write_text(switch)
    assert (1001 in group_members.local_members("papa")) == there


def test_files_that_make_no_sense_make_nobody_a_member(files: Path) -> None:
    assert group_members.local_members("no-such-group") == frozenset()
    (files / "passwd").write_bytes(b"\xff\xfe:\nmary:x:many:1::/:/bin/sh\n\n::::\n")
    assert group_members.local_members("papa") == frozenset()
    (files / "group").unlink()
    assert group_members.local_members("papa") == frozenset()
