"""Questions that libc answers only to those who wait: users, groups, host names. Each is asked in a thread.

A directory or a name server that hangs holds up whoever asks it: one user has a few questions under way at a time,
further ones wait for those, and nobody waits for longer than he wants to. libc waits for sockets there, which the end
of papad or execve(2) ends. What may hang in a file system does not belong here: its thread would keep papad from both.
"""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Final, TypeVar

from papa_dbus.errors import Limit

#: Questions under way at a time: of one user, and of all.
MAX_OF_USER: Final = 8
MAX_ALL: Final = 64

_T = TypeVar("_T")


class Slots:
    """Places for what may hang: so many for each user, so many in all."""

    def __init__(self, of_user: int = MAX_OF_USER, in_all: int = MAX_ALL) -> None:
        self._most_of_user = of_user
        self._of_user: weakref.WeakValueDictionary[Hashable, asyncio.Semaphore] = weakref.WeakValueDictionary()
        self._all = asyncio.Semaphore(in_all)

    async def take(self, user: Hashable) -> Callable[[], None]:
        """Wait for a place. Returns what gives it back."""
        of_user = self._of_user.get(user)
        if of_user is None:
            of_user = self._of_user[user] = asyncio.Semaphore(self._most_of_user)
        await of_user.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            of_user.release()
            raise

        def free() -> None:
            self._all.release()
            of_user.release()

        return free


class Lookups:
    """The questions that are under way."""

    def __init__(self) -> None:
        self._slots = Slots()

    async def ask(self, user: Hashable, question: Callable[[], _T], within: float) -> _T:
        """Return the answer to a question that is asked for ``user``, or raise what it raises.

        Raises TimeoutError if there is no answer ``within`` so many seconds, Limit if no thread can be started.
        """
        async with asyncio.timeout(within):
            return await _in_thread(question, await self._slots.take(user))


def _in_thread(question: Callable[[], _T], free: Callable[[], None]) -> "asyncio.Future[_T]":
    """Ask in a thread, and call ``free`` when it has ended."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def note(result: "_T | None", error: BaseException | None) -> None:
        free()
        if answer.done():  # nobody waits for it any more
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = question()
        except Exception as raised:  # noqa: BLE001 (it is raised where the answer is waited for)
            error = raised
        with contextlib.suppress(RuntimeError):  # papad has ended
            loop.call_soon_threadsafe(note, result, error)

    try:
        # A daemon: papad's end does not wait for what hangs.
        threading.Thread(target=work, name="look-up", daemon=True).start()
    except RuntimeError as error:
        free()
        raise Limit(f"no thread can be started for a look-up: {error}; try again later") from None
    return answer
