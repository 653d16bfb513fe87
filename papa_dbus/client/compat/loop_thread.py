"""The thread in which a synchronous client's asyncio runs, and the connections that all of the process share there.

The thread's loop owns the connections; callers hand it coroutines and wait. A child that is forked has none of it: what
it needs it makes anew.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from papa_dbus.client.aio import Kernel
from papa_dbus.client.discovery import find_bus, offers_kernel
from papa_dbus.errors import NoReply, PapaError, Unreachable

_T = TypeVar("_T")
_PAUSE = 0.05  # seconds


class Background:
    """The thread with the loop, and the connections by what they are called."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.kernels: dict[str, tuple[Kernel, int]] = {}  # and how many use it
        self.lock = asyncio.Lock()
        threading.Thread(target=self._work, name="papa", daemon=True).start()

    def _work(self) -> None:
        # Signals are for the program's own threads: it may have blocked one there to wait for it (sigwait(3)).
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.loop.run_forever()

    @property
    def forked(self) -> bool:
        """Return whether this is a child that was forked since: the thread is its parent's."""
        return self is not _background

    def check(self) -> None:
        """Raise PapaError in a forked child."""
        if self.forked:
            raise PapaError("this was made before a fork, and is the parent's: make another in the child")

    def run(self, work: Coroutine[Any, Any, _T], *, to_its_end: bool = False) -> _T:
        """Have the loop do it, and wait. Raises PapaError in a forked child.

        Whoever is interrupted meanwhile does not wait for what is done ``to_its_end``; the rest is not done then.
        """
        try:
            self.check()
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except BaseException:
            work.close()  # else it would be said that nobody awaited it
            raise
        try:
            return future.result()
        except BaseException:
            if not to_its_end:
                future.cancel()
            raise

    def start(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Have the loop do it, and do not wait: for a finalizer, which may run anywhere."""
        if not self.forked:
            self.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(work(*arguments)))

    async def acquire(self, address: str | None, timeout: float, patience: float) -> Kernel:  # noqa: ASYNC109
        """Return a connection, shared, to a papad that answers within ``patience`` seconds.

        Raises Unreachable where it is neither there nor can be started by the bus, NoReply where it does not answer.
        """
        try:
            async with asyncio.timeout(patience):
                kernel = await self._share(address, timeout)
                try:
                    await _ping(kernel)
                except BaseException:
                    await self.release(address)
                    raise
                return kernel
        except TimeoutError:
            raise NoReply(
                f"papad did not answer in {patience:.3g} s; its log says why ('journalctl --unit=papa')"
            ) from None

    async def _share(self, address: str | None, timeout: float) -> Kernel:  # noqa: ASYNC109
        async with self.lock:
            kernel, users = self.kernels.get(address or "", (None, 0))
            if kernel is None:
                kernel = await _connect(address, timeout)
            self.kernels[address or ""] = kernel, users + 1
            return kernel

    async def release(self, address: str | None) -> None:
        """Use a connection no more."""
        async with self.lock:
            kernel, users = self.kernels.pop(address or "")
            if users > 1:
                self.kernels[address or ""] = kernel, users - 1
            else:
                await kernel.close()


async def _connect(address: str | None, timeout: float) -> Kernel:  # noqa: ASYNC109
    bus = await find_bus(address)
    try:
        offered = await offers_kernel(bus)
    finally:
        await bus.close()
    if not offered:
        raise Unreachable(
            f"there is no papad on the bus at {bus.address}, and the bus cannot start one; start it, or install it"
        )
    kernel = await Kernel(bus.address, timeout)
    # An end is followed by calls that block their caller, so none is delivered while the bus does not answer.
    kernel.link.watches.uses_sockets = False
    return kernel


async def _ping(kernel: Kernel) -> None:
    """See papad answer; the bus starts it where it does not run."""
    while True:
        try:
            await kernel.link.ping()
            return
        except NoReply:  # it has just gone
            await asyncio.sleep(_PAUSE)


_background: Background | None = None
_starting = threading.Lock()
#: Of the parents: kept, since a loop that goes away would say that it is still open.
_left: list[Background] = []


def the_background() -> Background:
    global _background  # noqa: PLW0603 (one for each process)
    with _starting:
        if _background is None:
            _background = Background()
        return _background


def _after_fork_in_child() -> None:
    global _background, _starting  # noqa: PLW0603
    if _background is not None:
        _left.append(_background)
        _background = None
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
