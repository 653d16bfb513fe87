"""papad's side of errands: the files of Unix sockets are made and removed by processes of their own, and it waits for
each for a bounded time, off its loop.
"""

import asyncio
import contextlib
import logging
import marshal
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Hashable
from typing import Any, Final
from weakref import WeakValueDictionary

from papa_dbus.errors import Bind, Limit, PapaError
from papa_dbus.service import limits
from papa_dbus.service.caller import acting_user
from papa_dbus.service.fork.errand import Errand, FileIdentity
from papa_dbus.service.fork.exit_status import reap_by_pid, reaped
from papa_dbus.service.fork.fork import Fork
from papa_dbus.service.lookups import Slots

log = logging.getLogger(__name__)


#: Errands under way at a time in one folder: if it hangs, there are places left for others.
MAX_OF_FOLDER: Final = 4
#: Errands that were given up and hang on, of one user and of all: they keep no place that others could have.
MAX_HUNG_OF_USER: Final = 32
MAX_HUNG: Final = 128


class _Folder:
    """A folder with files of sockets, which may hang."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(MAX_OF_FOLDER)
        self.hangs = False


class SocketFiles:
    """The files of Unix sockets. ``fork`` gives what forks at the time."""

    def __init__(self, fork: Callable[[], Fork]) -> None:
        self._fork = fork
        self._slots = Slots()
        self._folders: WeakValueDictionary[str, _Folder] = WeakValueDictionary()  # those that are waited for
        self._removing: dict[str, asyncio.Task[None]] = {}
        self._hung: Counter[Hashable] = Counter()  # by user

    async def bind(self, fd: int, path: str, umask: int) -> FileIdentity | None:
        """Bind a socket to a path, where a socket's file that nobody listens on makes room.

        Returns the file's identity. Raises Bind, Limit, or OSError as bind(2) has it.
        """
        await self.removed([path])
        try:
            async with self._turn(path) as folder:
                free = await self._slots.take(acting_user())
                async with asyncio.timeout(limits.PATH_TIMEOUT):
                    done, what = await self._run(Errand("bind", (0, path, umask), {0: fd}), folder, free)
        except Limit as error:
            raise Limit(f"option 'path': {path}: {error}") from None
        except TimeoutError:
            seconds = f"{limits.PATH_TIMEOUT:.0f} s"
            raise Bind(f"option 'path': {path}: its folder did not answer in {seconds}; choose another") from None
        if done == "refused":
            raise Bind(what)
        if done == "failed":
            raise OSError(what, os.strerror(what))
        return what  # type: ignore[no-any-return]

    def remove(self, name: str, path: str, whose: FileIdentity) -> None:
        """Begin to remove the file of a socket, if it still is that one. If it cannot be removed, that is logged."""
        before = self._removing.get(path)
        self._removing[path] = task = asyncio.ensure_future(self._remove(name, path, whose, before))
        task.add_done_callback(lambda _: self._removing.pop(path) if self._removing.get(path) is task else None)

    async def removed(self, paths: Collection[str] | None = None) -> None:
        """Wait until what is being removed, at these paths or anywhere, is removed, or its folder does not answer."""
        wanted = self._removing.keys() if paths is None else set(paths) & self._removing.keys()
        if tasks := [self._removing[path] for path in wanted]:
            await asyncio.wait(tasks, timeout=2 * limits.PATH_TIMEOUT)

    async def _remove(self, name: str, path: str, whose: FileIdentity, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            async with self._turn(path) as folder:
                errand = Errand("remove", (path, whose), {})
                free = await self._slots.take(acting_user())
                try:
                    async with asyncio.timeout(limits.PATH_TIMEOUT):
                        done, what = await self._run(errand, folder, free)
                except ConnectionResetError:  # the fork server has ended, and this may have been done
                    free = await self._slots.take(acting_user())
                    async with asyncio.timeout(limits.PATH_TIMEOUT):
                        done, what = await self._run(errand, folder, free)
            reason = os.strerror(what) if done == "failed" else ""
        except TimeoutError:
            reason = f"its folder did not answer in {limits.PATH_TIMEOUT:.0f} s"
        except (OSError, PapaError) as error:
            reason = str(error)
        if reason:
            log.warning("socket '%s': its file %s stays: %s", name, path, reason)

    @contextlib.asynccontextmanager
    async def _turn(self, path: str) -> AsyncIterator[_Folder]:
        """Wait for the turn of a file in its folder. Raises TimeoutError if that is known to hang, Limit if many do."""
        name = os.path.dirname(path)
        folder = self._folders.get(name)
        if folder is None:
            folder = self._folders[name] = _Folder()
        async with folder.places:
            if folder.hangs:
                raise TimeoutError
            if self._hung[acting_user()] >= MAX_HUNG_OF_USER or self._hung.total() >= MAX_HUNG:
                raise Limit(
                    f"{self._hung.total()} files of sockets wait already for folders that do not answer; see to these"
                    " (a file server, say), then try again"
                )
            yield folder

    async def _run(self, errand: Errand, folder: _Folder, free: Callable[[], None]) -> tuple[str, Any]:
        """Have it done, and call ``free`` when that is over, or given up. Raises OSError, and Limit."""
        try:
            pid, status = await self._begin(errand)
        except BaseException:
            free()
            raise
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.close(status)
            os.kill(pid, signal.SIGKILL)
            reap_by_pid(pid).add_done_callback(lambda _: free())
            raise Limit(f"no file descriptor is left ({error.strerror}): raise LimitNOFILE= of papad") from None
        ended = reaped(pidfd)
        try:
            answer = await _answer(status)
            await asyncio.wait([ended])  # it has nothing more to do
            return answer
        finally:
            os.close(status)
            if not ended.done():  # it may hang for ever
                self._note_hung(folder, ended)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            free()

    def _note_hung(self, folder: _Folder, ended: "asyncio.Future[None]") -> None:
        user = acting_user()
        self._hung[user] += 1
        folder.hangs = True

        def answer(_: object) -> None:
            self._hung.subtract((user,))
            self._hung += Counter()  # which takes out who has none
            folder.hangs = False

        ended.add_done_callback(answer)

    async def _begin(self, errand: Errand) -> tuple[int, int]:
        """Fork it; returns its PID and the end of its status pipe. Raises OSError."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as undo:
            gate, opener = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, gate)
            ours.callback(os.close, opener)
            status, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ours.callback(os.close, theirs)
            undo.callback(os.close, status)
            os.write(opener, b"x")
            pid = await self._fork()(errand, gate, theirs)
            undo.pop_all()
        return pid, status


async def _answer(status: int) -> tuple[str, Any]:
    """Wait for what an errand says. Raises OSError if it says nothing, as one that was killed."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bytes] = loop.create_future()

    def hear() -> None:
        if not said.done():
            said.set_result(os.read(status, 4096))

    loop.add_reader(status, hear)
    try:
        answer = await said
    finally:
        loop.remove_reader(status)
    try:
        done, what = marshal.loads(answer)  # noqa: S302 (papad's own)
    except (EOFError, ValueError, TypeError):
        raise OSError(0, answer.decode("utf-8", "replace") or "the process that was to do it has ended") from None
    return done, what
