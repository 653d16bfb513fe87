"""What survives papad itself: the registries in one SQLite file, and descriptors with an fd store that outlives papad.

The order of work is the point: what is needed to find a thing again is stored before the thing exists, so that at
any instant a ``kill -9`` loses nothing and leaves nothing behind that papad does not know. Where there is neither file
nor fd store, nothing is stored: it would end with papad, and nobody read it. Knows neither systemd nor any protocol.
"""

import itertools
import json
import logging
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from papa_dbus.errors import PapaError
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.fork.errand import FileIdentity
from papa_dbus.service.items.requests import Requests
from papa_dbus.service.items.rows import (
    CORRUPT_ROW,
    Gone,
    Kind,
    ProcessRecord,
    StoredProcess,
    StoredRequest,
    StoredSocket,
    dump,
    dump_fields,
    fields_of,
    load,
)
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
from papa_dbus.service.items.store_file import is_text, open_database

log = logging.getLogger(__name__)


#: Milliseconds in which another program's lock may go; until the store is open there are five seconds for it.
_BUSY_MS = 20


class FdStore(Protocol):
    """Holds descriptors while papad is away. A few characters name all descriptors of one item."""

    def store(self, name: str, fds: Sequence[int], more: bool = False) -> None:
        """Hold duplicates of these, too. ``more``: others of that name follow, which may not be refused then."""

    def remove(self, name: str) -> None:
        """Let go of all of that name."""

    async def kept(self) -> None:
        """Wait until all that was to be kept would outlive papad's end. Raises Limit if that takes too long."""


class Store:
    """The registries' rows, and the descriptors that go with them."""

    def __init__(self, path: Path | None = None, fd_store: FdStore | None = None) -> None:
        """Open what is at ``path``, or make it. Raises TooNew, and changes nothing, where a newer papad wrote it."""
        self._fd_store = fd_store
        self._lasts = path is not None
        self._keys = itertools.count(1)  # where nothing is stored
        self._db = open_database(path)
        self._db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        self._db.in_use = True
        self._requests = Requests(self._db)
        self.close = weakref.finalize(self, self._db.close)  # the file stays

    def _next_key(self) -> int:
        if not self._lasts:
            return next(self._keys)
        return int(self._db.one("UPDATE keys SET last = last + 1 RETURNING last"))

    def _keep(self, name: str, fds: Sequence[int], more: bool = False) -> None:
        if self._fd_store is not None:
            self._fd_store.store(name, fds, more)

    def _drop(self, name: str) -> None:
        if self._fd_store is not None:
            self._fd_store.remove(name)

    async def kept(self) -> None:
        """Wait until the fd store has all that it was given: what is stored would outlive papad's end then."""
        if self._fd_store is not None:
            await self._fd_store.kept()

    def drop_descriptors(self, name: str) -> None:
        """Let the fd store let go of what belongs to nothing."""
        self._drop(name)

    def drop_process_descriptors(self, key: int) -> None:
        """Let the fd store let go of what it has of a process that was forgotten."""
        self._drop(f"p{key}")

    def keep_again(self, key: int, fds: Sequence[int]) -> None:
        """Keep these of a process, in the place of those that were kept."""
        self._drop(f"p{key}")
        self._keep(f"p{key}", fds)

    # ----------------------------------------------------------------- sockets

    def add_socket(self, spec: SocketSpec, port: int | None, fd: int, file: FileIdentity | None = None) -> int:
        """Store a socket that has been bound, and what identifies the file that was made for it."""
        key = self._next_key()
        self._keep(f"s{key}", [fd])
        crash_point("socket kept")
        try:
            self._insert_socket(key, spec, port, fd, file)
        except PapaError:
            self._drop(f"s{key}")
            raise
        return key

    def _insert_socket(
        self, key: int, spec: SocketSpec, port: int | None, fd: int, file: FileIdentity | None = None
    ) -> None:
        if self._lasts:
            row = dump({**fields_of(spec), "inode": os.fstat(fd).st_ino, "file": file})
            with self._requests.made("socket", spec, key):
                self._db.execute("INSERT INTO sockets VALUES (?, ?, ?, ?)", (key, spec.name, row, port))

    def note_passed(self, passed: Iterable[tuple[SocketSpec, int]]) -> tuple[list[int], list[str]]:
        """Store which sockets papad was passed, with their descriptors, in the place of those of its last start.

        Nothing is kept of them: they are passed again. Returns their keys, and the names of last time's.
        """
        keys = []
        with self._db.all_or_nothing():
            before = [stored for stored in self.sockets() if stored.spec.passed]
            for stored in before:
                self._db.execute("DELETE FROM sockets WHERE key = ?", (stored.key,))
            for spec, fd in passed:
                keys.append(self._next_key())
                self._insert_socket(keys[-1], spec, spec.port, fd)
        return keys, [stored.spec.name for stored in before]

    def remove_socket(self, key: int, gone: Gone | None = None) -> None:
        """Forget a socket, but for what is still told of it."""
        if self._lasts:
            with self._requests.telling("socket", gone):
                self._db.execute("DELETE FROM sockets WHERE key = ?", (key,))
        crash_point("socket's row removed")
        self._drop(f"s{key}")

    def withdraw_socket(self, key: int, spec: SocketSpec) -> None:
        """Forget a socket that nobody was told of, and that it was asked for."""
        self.remove_socket(key)
        if spec.token is not None:
            self.forget_request("socket", spec.token)

    def sockets(self) -> list[StoredSocket]:
        """Return all that were stored, oldest first. A row that makes no sense is reported and forgotten."""
        found = []
        for key, name, spec in self._db.execute("SELECT key, name, spec FROM sockets ORDER BY key").fetchall():
            try:
                row = json.loads(spec)
                file = None if row.get("file") is None else tuple(map(int, row["file"]))
                found.append(StoredSocket(key, load(SocketSpec, spec), row.get("inode"), file))
            except CORRUPT_ROW as error:
                log.error("not recovered: socket '%s': its row is damaged: %s", name, error)
                self._forget("sockets", key)
        return found

    # ------------------------------------------------------------------ values

    def set_value(self, name: str, value: str) -> None:
        """Store a value."""
        if self._lasts:
            self._db.execute('INSERT OR REPLACE INTO "values" VALUES (?, ?)', (name, value))

    def remove_value(self, name: str) -> None:
        """Forget a value."""
        if self._lasts:
            self._db.execute('DELETE FROM "values" WHERE name = ?', (name,))

    def values(self) -> dict[str, str]:
        """Return all that were stored. A row that makes no sense is reported and forgotten."""
        found = {}
        for row, name, value in self._db.execute('SELECT rowid, name, value FROM "values" ORDER BY rowid').fetchall():
            if is_text(name) and is_text(value):
                found[name] = value
            else:
                log.error("not recovered: value %r: its row is damaged", name)
                self._forget('"values"', row)
        return found

    # --------------------------------------------------------------- processes

    def begin_process(self, spec: ProcessSpec, pipes: Mapping[Any, int], files: Sequence[int]) -> int:
        """Store a process that does not exist yet: its pipes and its log's files."""
        key = self._insert_process(spec, pipes) if self._lasts else self._next_key()
        crash_point("process noted")
        try:
            self._keep(f"p{key}", [*pipes.values(), *files], more=True)
        except BaseException:
            self.withdraw_process(key, spec)
            raise
        return key

    def _insert_process(self, spec: ProcessSpec, pipes: Mapping[Any, int]) -> int:
        inodes = {stream: os.fstat(fd).st_ino for stream, fd in pipes.items()}
        with self._db.all_or_nothing():  # one write to the file
            key = self._next_key()
            self._db.execute(
                "INSERT INTO processes VALUES (?, ?, ?, NULL, ?, 'starting')",
                (key, spec.name, dump_fields(spec), dump(inodes)),
            )
            if spec.token is not None:
                self._requests.insert("process", spec.token, spec.name, key)
        return key

    def process_runs(self, key: int, facts: ProcessRecord, pidfd: int) -> None:
        """Store that it is forked and placed; after this its gate may be opened.

        If papad ends before that, its status pipe tells the next one that it never ran.
        """
        self._keep(f"p{key}", [pidfd])
        crash_point("pidfd kept")
        self.update_process(key, facts, "running")

    def update_process(self, key: int, facts: ProcessRecord, state: str) -> None:
        """Store what has changed: it was removed, or a namesake has taken its place ('retired')."""
        if self._lasts:
            row = (dump_fields(facts), state, key)
            self._db.execute("UPDATE processes SET facts = ?, state = ? WHERE key = ?", row)

    def remove_process(self, key: int, gone: Gone | None = None) -> None:
        """Forget a process, but for what is still told of it."""
        self.forget_process(key, gone)
        crash_point("process's row removed")
        self._drop(f"p{key}")

    def withdraw_process(self, key: int, spec: ProcessSpec) -> None:
        """Forget a process that has not run, and that it was asked for."""
        self.remove_process(key)
        if spec.token is not None:
            self.forget_request("process", spec.token)

    def forget_process(self, key: int, gone: Gone | None = None) -> None:
        """Forget a process, but for what is still told of it, and not its descriptors."""
        self._forget("processes", key, gone)

    def _forget(self, table: str, key: int, gone: Gone | None = None) -> None:
        """Remove the row of what has gone. Where that cannot be done it stays: the next papad finds nothing to it."""
        if not self._lasts:
            return
        try:
            with self._requests.telling("process", gone):
                self._db.execute(f"DELETE FROM {table} WHERE rowid = ?", (key,))  # noqa: S608 (one of ours)
        except PapaError as error:
            log.error("a row of what has gone stays among the %s: %s", table, error)

    def processes(self) -> list[StoredProcess]:
        """Return all that were stored and had been forked, oldest first; what had not is forgotten: nothing of it ran.

        A row that makes no sense is reported and forgotten.
        """
        rows = self._db.execute("SELECT key, name, spec, facts, pipes, state FROM processes ORDER BY key").fetchall()
        found = []
        for key, name, spec, facts, pipes, state in rows:
            if state == "starting":
                self.remove_process(key)
                continue
            try:
                inodes = json.loads(pipes)
                if not isinstance(inodes, dict):
                    raise TypeError("its pipes are none")
                status = inodes.pop("status", None)
                found.append(
                    StoredProcess(key, load(ProcessSpec, spec), load(ProcessRecord, facts), inodes, state, status)
                )
            except CORRUPT_ROW as error:
                log.error("not recovered: process '%s': its row is damaged: %s", name, error)
                self.forget_process(key)
        return found

    # ---------------------------------------------------------------- requests

    def add_request(self, kind: Kind, token: str, name: str, key: int) -> None:
        """Store that an item that is there was asked for."""
        if self._lasts:
            self._requests.insert(kind, token, name, key)

    def forget_request(self, kind: Kind, token: str) -> None:
        """Forget a token. If that cannot be done, the next papad does it."""
        if self._lasts:
            self._requests.forget(kind, token)

    def requests(self, kind: Kind) -> list[StoredRequest]:
        """Return all that were stored, oldest first. A row that makes no sense is reported and forgotten."""
        return self._requests.read(kind)
