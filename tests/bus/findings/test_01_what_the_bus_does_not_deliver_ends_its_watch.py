"""A signal that the bus does not deliver ends its watch as 'failed', and its output is there for the next watch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.consumer import Gate, consumer
from tests.bus.daemon import Papad, start_papad, stop_with_children
from tests.bus.isolated import PrivateBus
from tests.support import until

PROCESSES, SIZE = 12, 600_000


@pytest.fixture
def papad(tmp_path: Path) -> Iterator[Papad]:
    bus = PrivateBus(tmp_path, limits={"max_outgoing_bytes": 1_000_000})
    papad = start_papad(bus.address, tmp_path / "line")
    yield papad
    log = stop_with_children(papad)
    bus.stop()
    assert "Traceback" not in log, log


async def test_its_watch_ends_and_what_was_not_acknowledged_comes_again(papad: Papad, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    async with consumer(papad.address) as stalled, consumer(papad.address) as other:
        names = [f"p{number}" for number in range(PROCESSES)]
        for name in names:
            await other.make_process(name, "sh", "-c", f"{gate.wait()}; head -c {SIZE} /dev/zero")
            await stalled.consume(name)
        stalled.stall()
        await gate.open()
        for name in names:
            await other.until_written(name, SIZE)
        await until(lambda: "does not deliver" in papad.log.read_text(), "warning")
        stalled.go_on()
        await stalled.until_all(PROCESSES * SIZE)
        await stalled.wait(lambda: len(stalled.exits) == PROCESSES, "ends")
        assert {reason for _, reason in stalled.ends} >= {"failed"}
        assert stalled.gaps == []
