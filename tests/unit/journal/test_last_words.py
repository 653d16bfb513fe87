"""At papad's end the journal and consumers get what ended processes have said, and nobody waits for ever."""

import asyncio
from collections.abc import Callable

import pytest

from papa_dbus.service import limits
from papa_dbus.service.journal.forwarder import Fields
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import Reader, end, run, until


class SlowJournal:
    """A journal that is full after each entry, until the loop has come round."""

    def __init__(self) -> None:
        self.on_room: list[Callable[[], object]] = []
        self.lines: list[str] = []
        self._full = False

    def unavailable_reason(self) -> str | None:
        """Say that there is one."""
        return None

    def send(self, fields: Fields, /) -> bool:
        """Take an entry, or none."""
        if self._full:
            return False
        self._full = True
        asyncio.get_running_loop().call_soon(self._drain)
        message = dict(fields)["MESSAGE"]
        self.lines.append(message.decode() if isinstance(message, bytes) else message)
        return True

    def _drain(self) -> None:
        self._full = False
        for tell in self.on_room:
            tell()


async def ended(kernel: Kernel, *command: str, name: str = "p", **options: object) -> None:
    """Run a process to its end, which nobody acknowledges."""
    await run(kernel, *command, name=name, **options)
    await until(lambda: not kernel.list_processes([name])[0].running, "the end")


async def test_the_journal_takes_an_entry_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is written, beyond what a process may write in an interval as well."""
    monkeypatch.setattr(limits, "JOURNAL_BURST", 5)
    journal = SlowJournal()
    kernel = Kernel(journal=journal)
    try:
        await ended(kernel, "seq", "100", journal=True)
        await kernel.tell_last_words()
        lines = [line for line in journal.lines if line.isdigit()]
        assert lines == [str(number) for number in range(1, 101)]
        assert journal.lines[-1] == "ended with exit status 0"
    finally:
        end(kernel)


async def test_a_consumer_takes_the_rest() -> None:
    kernel = Kernel()
    try:
        await run(kernel, "sh", "-c", "echo much; exit 3")
        reader = Reader(kernel, ["p"])
        await until(lambda: not kernel.process_count or not kernel.list_processes(["p"])[0].running, "the end")
        await kernel.tell_last_words()
        assert reader.data() == b"much\n"
        assert [exited.exit_code for exited in reader.ends] == [3]
    finally:
        end(kernel)


async def test_one_who_takes_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAST_WORDS_TIMEOUT", 0.05)
    kernel = Kernel()
    try:
        await run(kernel, "sh", "-c", "echo much; exit 3")
        reader = Reader(kernel, ["p"], acknowledge=False)
        await reader.until_exited()
        await kernel.tell_last_words()
        assert kernel.list_processes(["p"])[0].buffered == 5
    finally:
        end(kernel)


async def test_a_process_that_runs_is_not_waited_for() -> None:
    """Although somebody consumes it, and has not acknowledged what it printed."""
    kernel = Kernel()
    try:
        await run(kernel, "sh", "-c", "echo much; exec sleep 600")
        reader = Reader(kernel, ["p"], acknowledge=False)
        await reader.until("much")
        assert not kernel._journal.has_more()
        assert not kernel._processes.has_last_words()
    finally:
        end(kernel)
