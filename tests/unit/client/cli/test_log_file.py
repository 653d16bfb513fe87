"""A file that output is appended to: rotated at line ends, found by its name, waited for."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papa_dbus.client.cli.log_file import LogFile
from tests.support import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def said(message: str) -> None:
    raise AssertionError(message)


def numbered(path: Path) -> list[Path]:
    """The file and those that it was rotated to, oldest first."""
    number = 1
    while Path(f"{path}.{number}").exists():
        number += 1
    return [*(Path(f"{path}.{n}") for n in range(number - 1, 0, -1)), path]


async def write(file: LogFile, *pieces: bytes) -> None:
    for piece in pieces:
        await file.write(piece)
        file.sync()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(min_size=1, max_size=30).map(lambda data: data.replace(b"a", b"\n").replace(b"b", b"\n"))),
    st.integers(1, 40),
    st.booleans(),
)
async def test_rotation_loses_nothing_and_cuts_no_line(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int, again: bool
) -> None:
    path = tmp_path_factory.mktemp("logs") / "log"
    file = LogFile(str(path), said, limit, 10_000)
    for piece in pieces:
        await write(file, piece)
        if again:  # as the next papactl finds it
            file.close()
            file = LogFile(str(path), said, limit, 10_000)
    file.close()
    contents = [each.read_bytes() for each in numbered(path)]
    assert b"".join(contents) == b"".join(pieces)
    for content in contents[:-1]:
        assert content.endswith(b"\n")
    for content in contents:
        assert len(content) <= limit or content[:-1].rfind(b"\n") < limit  # by a line that had begun


async def test_so_many_are_kept(path: Path) -> None:
    file = LogFile(str(path), said, 8, 2)
    await write(file, b"".join(b"line %d\n" % n for n in range(5)))
    assert [each.read_bytes() for each in numbered(path)] == [b"line 2\n", b"line 3\n", b"line 4\n"]
    file.close()
    file = LogFile(str(path), said, 8, 0)
    await write(file, b"line 5\n")
    assert path.read_bytes() == b"line 5\n"
    assert Path(f"{path}.1").read_bytes() == b"line 3\n"  # as logrotate has it with rotate 0: nothing is moved
    file.close()


@pytest.mark.root
async def test_a_rotated_file_is_followed_by_one_of_the_same_owner_and_mode(path: Path) -> None:
    path.touch()
    path.chmod(0o640)
    os.chown(path, 33, 4)
    file = LogFile(str(path), said, 4, 1)
    await write(file, b"one\ntwo\n")
    file.close()
    status = path.stat()
    assert (path.read_bytes(), status.st_mode & 0o777, status.st_uid, status.st_gid) == (b"two\n", 0o640, 33, 4)


async def test_a_file_that_was_moved_is_opened_again(path: Path, tmp_path: Path) -> None:
    file = LogFile(str(path), said)
    await write(file, b"one\n")
    path.rename(tmp_path / "old")
    await write(file, b"two\n")
    path.unlink()
    path.write_bytes(b"by logrotate's create\n")
    await write(file, b"three\n")
    path.write_bytes(b"")  # copytruncate
    await write(file, b"four\n")
    file.close()
    assert (tmp_path / "old").read_bytes() == b"one\n"
    assert path.read_bytes() == b"four\n"


async def test_what_asks_for_it_has_the_file_at_once_or_after_what_is_being_written(path: Path) -> None:
    file = LogFile(str(path), said)
    path.unlink()
    file.reopen()
    assert path.exists()
    await file.write(b"not on the disk yet")
    path.unlink()
    file.reopen()
    assert not path.exists()
    file.sync()
    assert path.read_bytes() == b""
    path.unlink()
    path.parent.rmdir()
    file.reopen()  # it cannot be
    with pytest.raises(FileNotFoundError, match="log"):
        await file.write(b"x")
    path.parent.mkdir()
    await write(file, b"x")
    assert path.read_bytes() == b"x"
    file.close()


@pytest.mark.root
async def test_a_full_disk_is_waited_for(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 60 * 1024)
    path = small_disk / "log"
    told: list[str] = []
    file = LogFile(str(path), told.append)
    lines = b"".join(b"%d\n" % n for n in range(4000))
    writing = asyncio.ensure_future(file.write(lines))
    await until(lambda: told, "a word about the full disk")
    assert told == [f"{path}: No space left on device: waiting for room, nothing is acknowledged meanwhile"]
    assert not writing.done()
    ballast.unlink()
    await writing
    file.sync()
    assert told[1:] == [f"{path}: there is room again"]
    assert path.read_bytes() == lines
    file.close()
