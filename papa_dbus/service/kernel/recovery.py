"""What an earlier papad left behind, made into hosted items again; and what becomes of that which cannot be.

Nothing is killed over it. A pipe is never just closed: whoever still writes into it would get SIGPIPE.
"""

import asyncio
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

from papa_dbus.service.fork.exit_status import how_ended, pid_of, poll_exit_status
from papa_dbus.service.items import sockets
from papa_dbus.service.items.rows import StoredProcess
from papa_dbus.service.items.sockets import HostedSocket
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel.starts import Start
from papa_dbus.service.output.files import INDEX_NAME, OUTPUT_NAME, LogFiles
from papa_dbus.service.output.log import discard
from papa_dbus.service.output.records import Stream
from papa_dbus.service.process.gate import Word
from papa_dbus.service.process.hosted import HostedProcess, ProcessCallbacks, ProcessFds

log = logging.getLogger(__name__)

#: What a process's descriptors are called in /proc/self/fd.
_ROLES = {f"memfd:{OUTPUT_NAME}": "output", f"memfd:{INDEX_NAME}": "index", "pidfd": "pidfd"}


class Recovery:
    """One recovery: rows from the store, and ``descriptors`` that were kept, by name.

    To be asked for sockets, then for processes, then to ``finish()``. ``problems`` says in words for the journal what
    did not come back, if anything did: else papad was stopped, and the fd store gave everything up. ``starting`` are
    the processes that have not said yet whether their program was executed; each is to be hosted or forgotten.
    """

    def __init__(self, store: Store, descriptors: Mapping[str, Sequence[int]], callbacks: ProcessCallbacks) -> None:
        self.problems: list[str] = []
        self._store = store
        self._callbacks = callbacks
        self._left = {name: list(fds) for name, fds in descriptors.items()}
        self._nothing_came = not self._left
        self._given_up: list[str] = []
        self.starting: list[Start] = []

    def sockets(self) -> Iterator[HostedSocket]:
        """Return the sockets that are hosted again."""
        for stored in self._store.sockets():
            if stored.spec.passed:
                continue  # not kept, but passed again
            kept_as = f"s{stored.key}"
            fds = [fd for fd in self._left.get(kept_as, []) if stored.inode in (None, os.fstat(fd).st_ino)]
            if fds:
                others = [fd for fd in self._left.pop(kept_as) if fd not in fds]
                if others:
                    self._foreign(kept_as, others)
                yield sockets.recover_socket(stored, fds)
            else:
                self._lack(f"socket '{stored.spec.name}'", "its descriptor did not come back")
                self._store.remove_socket(stored.key)

    def _foreign(self, name: str, fds: Sequence[int]) -> None:
        """Another's that bears a name of papad's own: a socket unit's, say. What papad has kept under it stays kept."""
        self.problems.append(f"descriptor '{name}' is not the one that papad kept by that name; it is closed")
        for fd in fds:
            os.close(fd)

    def processes(self) -> Iterator[tuple[StoredProcess, HostedProcess]]:
        """Return the processes that are hosted again, oldest first."""
        for stored in self._store.processes():
            kept_as = f"p{stored.key}"
            if others := [fd for fd in self._left.get(kept_as, []) if _is_socket(fd)]:
                self._left[kept_as] = [fd for fd in self._left[kept_as] if fd not in others]
                self._foreign(kept_as, others)
            found = _by_role(stored, self._left.get(kept_as, []))
            if "pidfd" in found:
                del self._left[kept_as]
                start = Start(stored, found)
                match start.word:
                    case Word.NOTHING | Word.NO_HOME:
                        self.starting.append(start)
                    case Word.FAILED:
                        self.forget(start)
                    case _:
                        yield self.host(start)
            else:
                self._lack(_title(stored), "its pidfd did not come back; if it still runs, it goes on without papad")
                self._store.forget_process(stored.key)

    def host(self, start: Start) -> tuple[StoredProcess, HostedProcess]:
        """Make a process of one that has executed its program."""
        if start.word is Word.EXECUTED_WITHOUT_HOME:
            start.without_home(self._store)
        start.close_status()
        return start.stored, self._host(start.stored, start.found)

    def forget(self, start: Start) -> None:
        """Forget a process whose program was not executed: it ends by itself."""
        log.info("process '%s' (PID %d) was not started before papad ended", start.name, start.stored.facts.pid)
        self._store.remove_process(start.stored.key)
        poll_exit_status(start.found["pidfd"])  # it may be papad's child, after a reload
        start.close_status()
        for fd in start.found.values():
            os.close(fd)

    def _lack(self, item: str, what: str) -> None:
        if self._nothing_came:
            self._given_up.append(item)
        else:
            self.problems.append(f"{item}: {what}")

    def _host(self, stored: StoredProcess, found: dict[str, int]) -> HostedProcess:
        os.set_inheritable(found["pidfd"], False)
        pipes: dict[Stream, int] = {stream: found[stream] for stream in ("out", "err") if stream in found}
        try:
            files = _log_files(found)
            return HostedProcess(stored, ProcessFds(found["pidfd"], pipes, files), self._callbacks, recovered=True)
        except ValueError as error:
            self.problems.append(f"{_title(stored)}: its unread output is lost, and its numbers begin anew: {error}")
        for role in {"output", "index"} & set(found):
            os.close(found[role])
        files = LogFiles.create()
        self._store.keep_again(stored.key, [*pipes.values(), found["pidfd"], files.output, files.index])
        return HostedProcess(stored, ProcessFds(found["pidfd"], pipes, files), self._callbacks)

    def finish(self) -> None:
        """Let go of descriptors that belong to nothing; of a pipe only when its last writer has gone."""
        if self._given_up:
            count = len(self._given_up)
            are = "item is" if count == 1 else "items are"
            log.warning("systemd has given no descriptor back, as after a stop: %d %s no longer held", count, are)
        for item in self._given_up:
            log.info("no longer held: %s", item)
        for name, fds in self._left.items():
            pids = [pid for pid in map(pid_of, fds) if pid > 0]
            if pids:
                self.problems.append(
                    f"descriptors kept as '{name}', of PID {pids[0]}, belong to nothing that is stored: the process"
                    " goes on without papad, and what it prints is thrown away"
                )
            elif any(map(_is_socket, fds)):
                self.problems.append(
                    f"what came as '{name}' belongs to nothing that is stored, and is closed; if a socket unit passed"
                    " it: s or p and a number are papad's own names"
                )
            else:
                log.info("descriptors kept as '%s' belong to nothing that is stored; they are given up", name)
            pipes = [fd for fd in fds if _link(fd).startswith("pipe:")]
            for fd in set(fds) - set(pipes):
                os.close(fd)
            if pipes:
                _Drain(self._store, name, pipes)
            else:
                self._store.drop_descriptors(name)


def losses(held_sockets: Iterable[HostedSocket], processes: Iterable[HostedProcess]) -> list[str]:
    """Return what is lost if papad ends and its descriptors are not kept, in words for the journal."""
    lost = [f"socket '{hosted.spec.name}' is closed" for hosted in held_sockets]
    for process in processes:
        title = f"process '{process.spec.name}' (PID {process.pid})"
        unread = f"{process.log.buffered} bytes of its output that nobody has acknowledged are lost"
        if process.running:
            lost.append(f"{title} goes on without papad, and gets SIGPIPE for what it prints from now on; {unread}")
        elif not process.removable:
            lost.append(f"{title} has {how_ended(process.exit_code)}, which is forgotten; {unread}")
    return lost


def _title(stored: StoredProcess) -> str:
    return f"process '{stored.spec.name}' (PID {stored.facts.pid})"


class _Drain:
    """Reads pipes of something unknown until nobody writes into them any more. They stay kept that long, too."""

    def __init__(self, store: Store, name: str, pipes: Sequence[int]) -> None:
        self._store = store
        self._name = name
        self._open = set(pipes)
        self._loop = asyncio.get_running_loop()
        for fd in pipes:
            os.set_blocking(fd, False)
            self._loop.add_reader(fd, self._read, fd)

    def _read(self, fd: int) -> None:
        if discard(fd) != 0:
            return
        self._loop.remove_reader(fd)
        os.close(fd)
        self._open.remove(fd)
        if not self._open:
            self._store.drop_descriptors(self._name)


def _by_role(stored: StoredProcess, fds: list[int]) -> dict[str, int]:
    """Tell a process's descriptors apart. Closes those that came twice: stored again around a kill."""
    found: dict[str, int] = {}
    streams = {f"pipe:[{inode}]": stream for stream, inode in {**stored.pipes, "status": stored.status}.items()}
    for fd in list(fds):
        link = _link(fd)
        role = next((role for mark, role in _ROLES.items() if mark in link), streams.get(link, ""))
        if not role or role in found:
            fds.remove(fd)
            os.close(fd)
        else:
            found[role] = fd
    return found


def _log_files(found: Mapping[str, int]) -> LogFiles:
    missing = {"output", "index"} - set(found)
    if missing:
        raise ValueError(f"the log's {' and '.join(sorted(missing))} did not come back")
    return LogFiles(found["output"], found["index"])


def _link(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)
