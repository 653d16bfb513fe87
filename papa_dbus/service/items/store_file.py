"""The SQLite file of the store: opening it, its layout and its versions, and what becomes of a damaged one."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from papa_dbus.errors import Limit, PapaError

log = logging.getLogger(__name__)


#: Of the file's layout. A newer papad reads an older one's; an older papad refuses a newer one's. A change of it
#: takes the next number, a step in _STEPS that makes the layout before into it, and a sample in tests/unit/stores.
#: A new option of an item is no such change: rows are read by the names that are known.
VERSION = 2

_SCHEMA = """
CREATE TABLE sockets (key INTEGER PRIMARY KEY, name TEXT, spec TEXT, port INTEGER);
CREATE TABLE "values" (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE processes (key INTEGER PRIMARY KEY, name TEXT, spec TEXT, facts TEXT, pipes TEXT, state TEXT);
CREATE TABLE keys (last INTEGER);
INSERT INTO keys VALUES (0);
"""
#: What is added to a layout to make the next one of it.
_STEPS = {
    1: """
CREATE TABLE requests (kind TEXT, token TEXT, name TEXT, key INTEGER, result TEXT, gone INTEGER,
                       PRIMARY KEY (kind, token));
""",
}

#: What SQLite says where there is no room, say. Whatever else it says of a file, the file is not as papad left it.
_NO_DAMAGE = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
)
_TABLES = (
    "key, name, spec, port FROM sockets",
    'name, value FROM "values"',
    "key, name, spec, facts, pipes, state FROM processes",
    "kind, token, name, key, result, gone FROM requests",
    "last FROM keys",
)


class TooNew(PapaError):
    """The state was stored by a newer papad."""

    code = "too-new"


class Database(sqlite3.Connection):
    """Once it is in use, what cannot be stored is an error of the kernel's own."""

    in_use = False

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Do as sqlite3 does. Raises Limit if the file system is full, or another program has locked the file."""
        with self._explained():
            return super().execute(*arguments)

    def one(self, statement: str) -> Any:
        """Execute it to its end, and give the one value that it gives."""
        with self._explained():  # a statement that also gives rows may fail at its last
            [[value]] = super().execute(statement).fetchall()
            return value

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Store what is written meanwhile as one, or, after an error, none of it."""
        self.execute("BEGIN")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self.in_transaction:
                self.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:  # of what SQLite says of a damaged file, whose words it quotes
            raise sqlite3.DatabaseError(repr(error.object)) from None
        except sqlite3.Error as error:
            if not self.in_use:
                raise
            passing = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
            raise (Limit if passing else PapaError)(f"papad cannot store this: {error}") from None


def open_database(path: Path | None) -> Database:
    if path is None:
        return _create(sqlite3.connect(":memory:", isolation_level=None, factory=Database))
    try:
        return open_file(path)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error, path):
            raise PapaError(f"{path} cannot be opened: {error}") from None
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        log.error("%s is damaged (%s); it is kept as %s", path, error, aside)
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
        return open_file(path)


def _is_damage(error: sqlite3.DatabaseError, path: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code == sqlite3.SQLITE_READONLY:  # so it says, too, of a file whose header asks for a later SQLite
        return all(os.access(part, os.W_OK) for part in (path, path.parent))
    return code not in _NO_DAMAGE


def open_file(path: Path) -> Database:
    db = sqlite3.connect(path, isolation_level=None, factory=Database)
    db.text_factory = text_of
    try:
        version = refuse_newer(db, path)
        # It outlives papad, not the machine: nothing has to reach a disk.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = WAL")
        if version == 0:
            return _create(db)
        if (problem := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(problem)
        if version < 0:
            raise sqlite3.DatabaseError(f"there is no layout {version}")
        for step in range(version, VERSION):
            db.executescript(f"BEGIN; {_STEPS[step]} PRAGMA user_version = {step + 1}; COMMIT;")
        for table in _TABLES:
            db.execute(f"SELECT {table} LIMIT 1").fetchall()
        return db
    except BaseException:
        db.close()
        raise


def refuse_newer(db: sqlite3.Connection, path: Path) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise TooNew(f"{path} was written by a newer papad (layout {version}, this one knows {VERSION})")
    return version


def check_file(path: Path) -> None:
    """Raise PapaError where this version could not go on with what another papad has stored, and is using."""
    if not path.exists():
        return
    try:
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        with contextlib.closing(db):
            refuse_newer(db, path)
    except sqlite3.Error as error:
        raise PapaError(f"{path} cannot be read: {error}") from None


def text_of(stored: bytes) -> str:
    """Of what is no UTF-8 any more a row can still be reported."""
    return stored.decode("utf-8", "surrogateescape")


def is_text(value: object) -> bool:
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return isinstance(value, str)


def _create(db: Database) -> Database:
    db.executescript(f"BEGIN; {_SCHEMA} {''.join(_STEPS.values())} PRAGMA user_version = {VERSION}; COMMIT;")
    return db
