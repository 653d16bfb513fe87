"""Tasks that nobody waits for: the event loop itself keeps only weak references to tasks (asyncio.create_task)."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class BackgroundTasks:
    """Those of one object, kept until they are done."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` as a task of its own."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def ended(self, within: float) -> None:
        """Wait until none is under way any more, ``within`` so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)

    def cancel(self) -> None:
        """Cancel all that are under way."""
        for task in self._tasks:
            task.cancel()
