"""Another program's lock on papad's state is an error for the caller, and holds the loop for no more than a moment."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from papa_dbus.client import aio
from papa_dbus.errors import Limit
from tests.bus.isolated import SupervisedPapad
from tests.support import PATIENCE


async def test_what_cannot_be_stored_now_is_an_error_at_once(bus_address: str, tmp_path: Path) -> None:
    """The guard of all tests here sees to the loop."""
    papad = SupervisedPapad(bus_address, tmp_path)
    papad.start()
    async with aio.connect(papad.address, timeout=PATIENCE) as kernel:
        with contextlib.closing(sqlite3.connect(papad.runtime / "state.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                with pytest.raises(Limit, match="database is locked"):
                    await kernel.set_value("v", "text")
            assert await kernel.list_values() == {}
            other.execute("ROLLBACK")
        await kernel.set_value("v", "text")
        papad.kill()
        papad.start(RUNTIME_DIRECTORY=f"{papad.runtime}:{tmp_path}")  # as a drop-in with a further one has it
        assert await kernel.get_value("v") == "text"
    assert "Traceback" not in papad.stop()
