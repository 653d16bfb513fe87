"""The sockets that papad hosts, by name: made for clients, passed by systemd, or recovered."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from papa_dbus.errors import Exists, Limit, PapaError
from papa_dbus.service import audit, limits
from papa_dbus.service.crash_points import crash_point
from papa_dbus.service.fork.fork import Fork
from papa_dbus.service.items import sockets
from papa_dbus.service.items.registry import Registry, is_number
from papa_dbus.service.items.results import SocketInfo
from papa_dbus.service.items.socket_files import SocketFiles
from papa_dbus.service.items.sockets import HostedSocket
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel.changes import Tell
from papa_dbus.service.kernel.reservation import Key, Reservations
from papa_dbus.service.kernel.selection import all_found, check_some, not_there
from papa_dbus.service.kernel.tokens import Tokens
from papa_dbus.service.lookups import Lookups
from papa_dbus.service.remedies import typed

_NUMBERED = re.compile(r"-\d+$")


class Sockets:
    """The sockets by name. What is done is stored, recorded and told.

    ``fork`` gives what forks now: the files of Unix sockets are made and removed by children.
    """

    def __init__(
        self, store: Store, reservations: Reservations, tell: Tell, lookups: Lookups, fork: Callable[[], Fork]
    ) -> None:
        self._store = store
        self._reservations = reservations
        self._tell = tell
        self._lookups = lookups
        self._files = SocketFiles(fork)
        self._hosted: Registry[HostedSocket] = Registry()
        self._tokens: Tokens[SocketInfo] = Tokens("socket", store)

    @property
    def hosted(self) -> Mapping[str, HostedSocket]:
        """Return all of them, as they are now, by name."""
        return self._hosted

    @property
    def not_passed(self) -> list[HostedSocket]:
        """Return those that end with papad, unless their descriptors are kept: no socket unit holds them."""
        return [hosted for hosted in self._hosted.values() if not hosted.spec.passed]

    async def make(self, spec: SocketSpec) -> SocketInfo:
        """Host a socket. Raises Exists, Bind or Limit; asked for again it is given as it is."""
        keys = _keys(spec)
        await self._reservations.wait_for(*keys)
        if (answer := self._tokens.find(spec)) is not None:
            return answer
        existing = self._hosted.get(spec.name)
        if existing is not None:
            return self._give(existing, spec)
        self._reservations.check_room("socket", spec.name, len(self._hosted), limits.MAX_SOCKETS)
        for other in self._hosted.values():
            if spec.path is not None and other.spec.path == spec.path:
                raise Exists(
                    f"socket '{spec.name}': socket '{other.spec.name}' has the path {spec.path}; remove that first"
                    f" {typed('socket remove', 'remove socket', other.spec.name)}, or choose another path"
                )
        with self._reservations.reserve(*keys), self._tokens.making(spec):
            hosted = await self._open(spec)
            self._hosted[spec.name] = hosted
            self._tokens.made(spec, hosted)
        audit.record("made", "socket", spec.name)
        self._tell("socket", "added", spec.name)
        return hosted.info()

    def _give(self, existing: HostedSocket, spec: SocketSpec) -> SocketInfo:
        if differences := spec.differences(existing.spec, existing.port):
            raise Exists(
                f"socket '{spec.name}' already exists, and has other options: {differences}; remove it first"
                f" {typed('socket remove', 'remove socket', spec.name)}, or use another name"
            )
        if not existing.spec.passed:  # at each start that is another one
            self._tokens.given(spec, existing)
        return existing.info()

    async def _open(self, spec: SocketSpec) -> HostedSocket:
        """Open and store a socket. After an error nothing of it is left."""
        hosted = await sockets.open_socket(spec, self._lookups, self._files)
        try:
            hosted.key = self._store.add_socket(spec, hosted.port, hosted.fileno, hosted.file)
        except BaseException:
            self._close(hosted)
            raise
        crash_point("socket stored")
        try:
            await self._store.kept()
        except BaseException:
            self._close(hosted)
            self._store.withdraw_socket(hosted.key, spec)
            raise
        return hosted

    def _close(self, hosted: HostedSocket) -> None:
        hosted.close()
        if hosted.file is not None:
            self._files.remove(hosted.spec.name, str(hosted.spec.path), hosted.file)

    def each(self, patterns: Sequence[str]) -> Iterator[SocketInfo]:
        """Give those that match, one by one, all without a pattern: what goes meanwhile is left out."""
        found, _ = self._select(patterns)
        return (self._hosted[name].info() for name in found if name in self._hosted)

    def removing(self, patterns: Sequence[str]) -> Iterator[str]:
        """Close sockets, one by one; give their names. Raises NotFound if a name is not there, and then closes none."""
        return self._remove(all_found(*self._select(check_some(patterns, "socket")), "socket"))

    def _remove(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            hosted = self._hosted.get(name)
            if hosted is None:  # it has gone meanwhile
                continue
            last = self._tokens.last_of(hosted)
            self._store.remove_socket(hosted.key, last)
            del self._hosted[name]
            self._tokens.gone(hosted, last)
            crash_point("socket removed")
            self._close(hosted)
            holder = hosted.unit or "its socket unit"
            still = f"{holder} holds it still, and passes it again when papad starts anew" if hosted.spec.passed else ""
            audit.record("removed", "socket", name, still)
            self._tell("socket", "removed", name)
            yield name

    def files(self, patterns: Sequence[str]) -> list[str]:
        """Return the files of the sockets that match, for files_removed()."""
        found, _ = self._select(patterns)
        return [str(self._hosted[name].spec.path) for name in found if self._hosted[name].file is not None]

    async def files_removed(self, files: Sequence[str] | None = None) -> None:
        """Wait until files of sockets that were removed are gone, all without ``files``, or do not answer."""
        await self._files.removed(files)

    def open(self, name: str) -> int:
        """Return a descriptor of the socket, for the caller to close. Raises NotFound."""
        if name not in self._hosted:
            raise not_there("socket", name)
        return self._hosted[name].duplicate()

    def _select(self, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
        numbers = any(map(is_number, patterns))
        by_number = {sock.fileno: name for name, sock in self._hosted.items()} if numbers else {}
        return self._hosted.select(patterns, by_number.get)

    # ------------------------------------------------ from an earlier papad, and from systemd

    def recover(self, recovered: Iterable[HostedSocket]) -> None:
        """Host again what an earlier papad has hosted."""
        for hosted in recovered:
            self._hosted[hosted.spec.name] = hosted
        self._tokens.recover({hosted.key: hosted.info for hosted in self._hosted.values()})

    def host_passed(self, passed: Mapping[str, Sequence[int]]) -> list[str]:
        """Do what `Kernel.host_passed` says."""
        problems, hosted = [], []
        for name, fds in passed.items():
            for number, fd in enumerate(fds, 1):
                called = name if number == 1 else f"{name}-{number}"
                try:
                    self._check_passed(called)
                    hosted.append(sockets.passed_socket(called, fd))
                except PapaError as error:
                    problems.append(f"what was passed as '{name}' is not hosted, and closed: {error}")
                    os.close(fd)
                else:
                    self._hosted[called] = hosted[-1]
        return [*problems, *self._note_passed(hosted)]

    def _note_passed(self, hosted: Sequence[HostedSocket]) -> list[str]:
        """Store which were passed, and return which no longer are, in words for the journal."""
        try:
            keys, before = self._store.note_passed([(each.spec, each.fileno) for each in hosted])
        except PapaError as error:
            return [f"which sockets were passed cannot be noted: {error}"]
        for each, key in zip(hosted, keys, strict=True):
            each.key = key
            if each.spec.name not in before:
                audit.record("made", "socket", each.spec.name, "it was passed to papad")
        gone = [name for name in before if name not in self._hosted]
        return [f"socket '{name}' is no longer hosted: its socket unit has not passed it again" for name in gone]

    def _check_passed(self, name: str) -> None:
        if name in self._hosted:
            raise Exists(
                f"another socket '{name}' was passed, too"
                if self._hosted[name].spec.passed
                else f"a client has had another socket '{name}' made; remove that, and restart papad"
            )
        if len(self._hosted) >= limits.MAX_SOCKETS:
            raise Limit(f"there may be {limits.MAX_SOCKETS} sockets at most")

    def name_units(self, units: Mapping[str, str]) -> None:
        """Note which socket unit passes the descriptors of which name."""
        for name, hosted in self._hosted.items():
            if hosted.spec.passed:
                hosted.unit = units.get(name) or units.get(_NUMBERED.sub("", name), "")

    @property
    def passed(self) -> dict[str, list[int]]:
        """Return the descriptors of those that were passed, by name."""
        return {name: [hosted.fileno] for name, hosted in self._hosted.items() if hosted.spec.passed}


def _keys(spec: SocketSpec) -> list[Key]:
    """Return what no other request may make at the same time: the name, and the path."""
    return [("socket", spec.name)] + ([] if spec.path is None else [("path", spec.path)])
