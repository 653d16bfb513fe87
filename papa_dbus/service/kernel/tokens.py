"""Requests that bore a token: asked again with it, papad answers with what the first request made.

What is answered does not depend on what has become of the item: it may run, have ended, or have gone a moment ago. All
of it is stored, so that a client may ask again after papad was killed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

from papa_dbus.errors import InvalidArgs
from papa_dbus.service import limits
from papa_dbus.service.clock import since_boot
from papa_dbus.service.items.results import ProcessInfo, SocketInfo
from papa_dbus.service.items.rows import Gone, Kind
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
from papa_dbus.service.items.store import Store

_Info = TypeVar("_Info", SocketInfo, ProcessInfo)
_Info_co = TypeVar("_Info_co", SocketInfo, ProcessInfo, covariant=True)


class Item(Protocol[_Info_co]):
    """What was asked for."""

    key: int

    def info(self) -> _Info_co:
        """Return what a client may know."""


@dataclass(slots=True)
class _Request(Generic[_Info]):
    """``answer`` gives the item's state now, or the last that was known of it; ``gone``: see `store.StoredRequest`."""

    name: str
    key: int
    answer: Callable[[], _Info]
    gone: int | None = None


class Tokens(Generic[_Info]):
    """The tokens of one kind of item."""

    def __init__(self, kind: Kind, store: Store) -> None:
        self._kind = kind
        self._store = store
        self._requests: dict[str, _Request[_Info]] = {}
        self._of_item: dict[int, list[str]] = {}  # by its key; the maker's comes first
        self._others: dict[str, None] = {}  # of items that are there, but those of their makers; oldest first
        self._gone: dict[str, None] = {}  # oldest first
        self._under_way: dict[str, str] = {}  # the names that are being made

    def find(self, spec: SocketSpec | ProcessSpec) -> _Info | None:
        """Return what a request with this token has made. Raises InvalidArgs if that has another name."""
        if spec.token is None:
            return None
        self._forget_old()
        request = self._requests.get(spec.token)
        name = self._under_way.get(spec.token) if request is None else request.name
        if name not in (None, spec.name):
            raise InvalidArgs(f"option 'token': {spec.token!r} was used for {self._kind} '{name}'; make up another one")
        return None if request is None else request.answer()

    @contextmanager
    def making(self, spec: SocketSpec | ProcessSpec) -> Iterator[None]:
        """Note that the item is being made meanwhile, for a request whose token was not found."""
        if spec.token is not None:
            self._under_way[spec.token] = spec.name
        try:
            yield
        finally:
            if spec.token is not None:
                del self._under_way[spec.token]

    def made(self, spec: SocketSpec | ProcessSpec, item: Item[_Info]) -> None:
        """Note what a request has made; it is stored already."""
        if spec.token is not None:
            self._note(spec.token, _Request(spec.name, item.key, item.info))

    def given(self, spec: SocketSpec | ProcessSpec, item: Item[_Info]) -> None:
        """Note, and store, that a request was given what was there."""
        if spec.token is None:
            return
        self._store.add_request(self._kind, spec.token, spec.name, item.key)
        self._note(spec.token, _Request(spec.name, item.key, item.info))

    def _note(self, token: str, request: _Request[_Info]) -> None:
        self._requests[token] = request
        if request.gone is not None:
            self._gone[token] = None
        else:
            tokens = self._of_item.setdefault(request.key, [])
            if tokens:
                self._others[token] = None
            tokens.append(token)
            if len(tokens) > 1 + limits.MAX_TOKENS_OF_ITEM:
                self._forget(tokens[1])
        self._bound()

    def last_of(self, item: Item[_Info]) -> Gone | None:
        """Return what the store has to keep of an item that is about to go."""
        tokens = self._of_item.get(item.key)
        return None if tokens is None else Gone(tuple(tokens), item.info().short(), since_boot())

    def gone(self, item: Item[_Info], last: Gone | None) -> None:
        """Note that an item has gone; ``last`` is what last_of() returned."""
        if last is None:
            return
        self._forget_old()
        for token in self._of_item.pop(item.key):
            request = self._requests[token]
            request.answer, request.gone = _constant(cast("_Info", last.result)), last.at
            self._others.pop(token, None)
            self._gone[token] = None
        self._bound()

    def _forget_old(self) -> None:
        oldest = since_boot() - limits.TOKEN_SECONDS * 1_000_000
        while self._gone and (self._requests[token := next(iter(self._gone))].gone or 0) <= oldest:
            self._forget(token)

    def _bound(self) -> None:
        while len(self._requests) > limits.MAX_TOKENS and (self._gone or self._others):
            self._forget(next(iter(self._gone or self._others)))

    def _forget(self, token: str) -> None:
        request = self._requests.pop(token)
        self._gone.pop(token, None)
        if self._others.pop(token, False) is None:
            self._of_item[request.key].remove(token)
        self._store.forget_request(self._kind, token)

    def recover(self, there: Mapping[int, Callable[[], _Info]]) -> None:
        """Read what was stored. ``there``: what to say of the items that are there, by their keys."""
        for each in sorted(self._store.requests(self._kind), key=lambda request: request.gone or 0):
            if each.gone is None and each.key in there:
                self._note(each.token, _Request(each.name, each.key, there[each.key]))
            elif each.gone is not None and each.result is not None:
                self._note(each.token, _Request(each.name, each.key, _constant(cast("_Info", each.result)), each.gone))
            else:  # it was never made, or has not come back
                self._store.forget_request(self._kind, each.token)
        self._forget_old()

    def now_answer(self, key: int, answer: Callable[[], _Info]) -> None:
        """Note what has become of an item that was being made when papad ended, and is there."""
        for token in self._of_item.get(key, ()):
            self._requests[token].answer = answer

    def not_made(self, key: int) -> None:
        """Note that an item that was being made when papad ended will not be there."""
        for token in self._of_item.pop(key, ()):
            self._others.pop(token, None)
            self._forget(token)


def _constant(result: _Info) -> Callable[[], _Info]:
    return lambda: result
