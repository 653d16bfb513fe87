"""What outlives papad, read by a later one: of each layout that there was, damaged, or too new."""

import logging
import sqlite3
from pathlib import Path

import pytest

from papa_dbus.errors import PapaError
from papa_dbus.service.items.rows import ProcessRecord, StoredProcess, StoredSocket
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.items.store_file import VERSION, TooNew, check_file

STORES = Path(__file__).parent / "stores"


def stored(folder: Path, layout: int, *statements: str) -> Path:
    """A store of a layout, changed by statements."""
    path = folder / "state.sqlite"
    db = sqlite3.connect(path)
    db.executescript((STORES / f"{layout}.sql").read_text())
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()
    return path


@pytest.mark.parametrize("layout", range(1, VERSION + 1))
def test_each_layout_that_there_was_is_read(tmp_path: Path, layout: int) -> None:
    store = Store(stored(tmp_path, layout))
    assert store.values() == {"v": "it's"}
    [web] = store.sockets()
    spec = SocketSpec(name="web", host="127.0.0.1", port=8080, backlog=64)
    assert web == StoredSocket(3, spec, inode=None if layout < 2 else 77)
    assert [(each.token, each.key) for each in store.requests("socket")] == ([] if layout < 2 else [("ask-2", 3)])
    requests = [(each.token, each.name, each.key, each.gone) for each in store.requests("process")]
    assert requests == ([] if layout < 2 else [("ask_1", "p", 4, None), ("ask_0", "job", 1, 5_000_000)])
    old, running = store.processes()
    assert (old.key, old.spec.command, old.state) == (2, ("sh", "-c", "echo hi; sleep 1"), "retired")
    assert running == StoredProcess(
        key=4,
        spec=ProcessSpec(
            name="p",
            command=("sleep", "600"),
            env={"A": "B"},
            working_dir="/srv",
            uid="alice",
            gid=100,
            rlimits={"nofile": 99},
            umask=18,
            stderr="stdout",
            bufsize=4096,
            overflow="block",
            sockets=("web",),
        ),
        facts=ProcessRecord(491, 1795516747701620, 1000, 100, "/srv", None, removed=True),
        pipes={"out": 2775428},
        state="running",
        status=None if layout < 2 else 2775429,
    )
    store.close()


def test_what_this_version_does_not_know_of_a_row_is_not_asked_for(tmp_path: Path) -> None:
    """The same layout, and a later papad's new option: json_set() is SQLite's."""
    tables = (("sockets", "spec"), ("processes", "spec"), ("processes", "facts"))
    news = [f"UPDATE {table} SET {column} = json_set({column}, '$.news', 1)" for table, column in tables]  # noqa: S608
    store = Store(stored(tmp_path, VERSION, *news))
    assert [len(store.sockets()), len(store.processes())] == [1, 2]
    store.close()


@pytest.mark.parametrize("rubbish", ["", "{", "[]", "{}", "7", '{"name": 1}'])
@pytest.mark.parametrize(("table", "column"), [("sockets", "spec"), ("processes", "spec"), ("processes", "facts")])
def test_a_damaged_row_is_named_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str, column: str, rubbish: str
) -> None:
    key = 3 if table == "sockets" else 4
    path = stored(tmp_path, VERSION, f"UPDATE {table} SET {column} = '{rubbish}' WHERE key = {key}")  # noqa: S608
    store = Store(path)
    with caplog.at_level(logging.ERROR):
        read = [len(store.sockets()), len(store.processes())]
    assert read == ([0, 2] if table == "sockets" else [1, 1])
    assert f"'{'web' if table == 'sockets' else 'p'}': its row is damaged" in caplog.text
    store.close()
    again = Store(path)
    assert [len(again.sockets()), len(again.processes())] == read
    again.close()


@pytest.mark.parametrize(("table", "change"), [("sockets", "'$.type', 'x'"), ("processes", "'$.stdout', 'x'")])
def test_a_row_that_nobody_could_have_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str, change: str
) -> None:
    store = Store(stored(tmp_path, VERSION, f"UPDATE {table} SET spec = json_set(spec, {change})"))  # noqa: S608
    assert [len(store.sockets()), len(store.processes())] == ([0, 2] if table == "sockets" else [1, 0])
    assert "its row is damaged: option" in caplog.text
    store.close()


@pytest.mark.parametrize("rubbish", ["", "7", "[]", "null"])
def test_a_process_whose_pipes_make_no_sense(tmp_path: Path, caplog: pytest.LogCaptureFixture, rubbish: str) -> None:
    store = Store(stored(tmp_path, VERSION, f"UPDATE processes SET pipes = '{rubbish}' WHERE key = 4"))  # noqa: S608
    assert len(store.processes()) == 1
    assert "process 'p': its row is damaged" in caplog.text
    store.close()


@pytest.mark.parametrize(
    "change", ["key = 'x'", "token = x'ff'", "result = '{}'", "result = '[]', gone = 1", "gone = 'x'"]
)
def test_a_request_that_makes_no_sense(tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str) -> None:
    path = stored(tmp_path, VERSION, f"UPDATE requests SET {change} WHERE token = 'ask_0'")  # noqa: S608
    store = Store(path)
    assert [request.token for request in store.requests("process")] == ["ask_1"]
    assert "a request for process 'job' is forgotten: its row is damaged" in caplog.text
    store.close()
    store = Store(path)
    assert len(store.requests("process")) == 1
    store.close()


def test_what_was_passed_last_time_is_told_and_what_is_passed_now_is_noted(tmp_path: Path) -> None:
    store = Store(stored(tmp_path, VERSION))
    first, second = (SocketSpec(name, "inet", host="::", port=1, passed=True) for name in ("first", "second"))
    assert store.note_passed([(first, 0), (second, 0)])[1] == []
    assert store.note_passed([(second, 0)])[1] == ["first", "second"]
    assert [each.spec for each in store.sockets() if each.spec.passed] == [second]
    assert len(store.sockets()) == 2  # the other one is papad's own
    store.close()


@pytest.mark.parametrize("begin", [0, 20, 100, 4096, 8192, 16384])
def test_a_damaged_file_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, begin: int) -> None:
    path = stored(tmp_path, VERSION)
    data = bytearray(path.read_bytes())
    data[begin : begin + 600] = b"\xff" * 600
    path.write_bytes(data)
    store = Store(path)
    assert (store.values(), store.sockets(), store.processes()) == ({}, [], [])
    store.close()
    assert "is damaged" in caplog.text
    [aside] = tmp_path.glob("state.sqlite.damaged-*")
    assert aside.read_bytes()[begin : begin + 600] == b"\xff" * 600


def test_a_file_that_asks_for_a_later_sqlite_is_damaged_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite calls it read-only (its file format, 1.3.3: the file format version numbers)."""
    path = stored(tmp_path, VERSION)
    data = bytearray(path.read_bytes())
    data[18] = 3
    path.write_bytes(data)
    store = Store(path)
    assert store.values() == {}
    store.close()
    assert "is damaged (attempt to write a readonly database)" in caplog.text


def test_one_that_is_too_new_is_left_as_it_is(tmp_path: Path) -> None:
    path = stored(tmp_path, VERSION, f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(TooNew, match=rf"written by a newer papad \(layout {VERSION + 1}, this one knows {VERSION}\)"):
        Store(path)
    with pytest.raises(TooNew):
        check_file(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state.sqlite"]


def test_a_newer_version_asks_while_another_uses_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    check_file(path)  # there is none yet
    assert not path.exists()
    store = Store(path)
    check_file(path)
    store._db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(TooNew):
        check_file(path)
    store.close()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(PapaError, match="cannot be read"):
        check_file(path)
