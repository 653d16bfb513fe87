"""The requests that bore a token, as they are stored: what was asked for, and what is still told of what has gone."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from papa_dbus.errors import PapaError
from papa_dbus.service.items.rows import CORRUPT_ROW, Gone, Kind, StoredRequest, dump_fields, load_info
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
from papa_dbus.service.items.store_file import Database, is_text

log = logging.getLogger(__name__)


class Requests:
    """The rows of the requests."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def insert(self, kind: Kind, token: str, name: str, key: int) -> None:
        """Store a request, and the key of what it was given."""
        # Whoever asks has looked for the token: a row that has it is one that could not be forgotten.
        self._db.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, NULL, NULL)", (kind, token, name, key))

    @contextmanager
    def made(self, kind: Kind, spec: SocketSpec | ProcessSpec, key: int) -> Iterator[None]:
        """Store the request's token, if it has one, together with what is stored meanwhile."""
        if spec.token is None:
            yield
            return
        with self._db.all_or_nothing():
            yield
            self.insert(kind, spec.token, spec.name, key)

    @contextmanager
    def telling(self, kind: Kind, gone: Gone | None) -> Iterator[None]:
        """Store what is still told of an item that is forgotten meanwhile, together with that."""
        if gone is None:
            yield
            return
        with self._db.all_or_nothing():
            yield
            result = dump_fields(gone.result)
            for token in gone.tokens:
                change = "UPDATE requests SET result = ?, gone = ? WHERE kind = ? AND token = ?"
                self._db.execute(change, (result, gone.at, kind, token))

    def forget(self, kind: Kind, token: str) -> None:
        """Forget a token. If that cannot be done, the journal says so, and the next papad does it."""
        try:
            self._db.execute("DELETE FROM requests WHERE kind = ? AND token = ?", (kind, token))
        except PapaError as error:
            log.error("a token of a request for a %s stays stored: %s", kind, error)

    def read(self, kind: Kind) -> list[StoredRequest]:
        """Return all that were stored, oldest first. A row that makes no sense is reported and forgotten."""
        query = "SELECT token, name, key, result, gone FROM requests WHERE kind = ? ORDER BY rowid"
        found = []
        for token, name, key, result, gone in self._db.execute(query, (kind,)).fetchall():
            try:
                if not (is_text(token) and is_text(name)):
                    raise TypeError("its token or name is not text")
                last = None if result is None else load_info(kind, result)
                found.append(StoredRequest(token, name, int(key), last, None if last is None else int(gone)))
            except CORRUPT_ROW as error:
                log.error("a request for %s %r is forgotten: its row is damaged: %s", kind, name, error)
                self.forget(kind, token)
        return found
