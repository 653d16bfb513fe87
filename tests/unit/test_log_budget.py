"""Refusals and nonsense: some records in an interval, and a count of the rest."""

import asyncio
import logging

import pytest

from papa_dbus.service.log_budget import LogBudget
from tests.support import PATIENCE


class Written(logging.Handler):
    """Gathers records, and lets a test wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.something = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.something.set()

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(PATIENCE):
            while len(self.records) < count:
                self.something.clear()
                await self.something.wait()
        return [record.getMessage() for record in self.records]


@pytest.fixture
def written() -> Written:
    return Written()


async def test_what_is_more_is_counted_at_the_end_of_the_interval(written: Written) -> None:
    log = logging.getLogger("papa_dbus.service.log_budget")
    log.addHandler(written)
    try:
        budget = LogBudget(most=2, interval=0.01)
        for number in range(5):
            budget.warn("refused %d", number, extra={"PAPA_CALLER_UID": "1"})
        texts = await written.until(3)
        assert texts[:2] == ["refused 0", "refused 1"]
        assert written.records[0].__dict__["PAPA_CALLER_UID"] == "1"
        assert texts[2].startswith("3 more refusals and messages that make no sense")
        budget.warn("refused %d", 9)  # the next interval has a budget of its own
        assert (await written.until(4))[3] == "refused 9"
    finally:
        log.removeHandler(written)
