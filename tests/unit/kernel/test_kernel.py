"""The kernel as a whole: it ends where nothing is held."""

import logging
import os
import signal

import pytest

from papa_dbus.service.caller import Caller, acting
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import Reader, run


async def test_it_exits_if_nothing_is_held_and_the_journal_says_who_asked(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exits = []
    kernel.on_exit = lambda: exits.append(True)
    kernel.set_value("v", "1")
    assert not kernel.exit_if_idle()
    kernel.remove_values(["v"])
    await run(kernel, "sleep", "60")
    assert not kernel.exit_if_idle()
    os.kill(kernel.list_processes()[0].pid, signal.SIGKILL)
    await Reader(kernel, ["p"]).until_exited()
    with acting(Caller(1000, 7, ":1.9")):
        assert kernel.exit_if_idle()
    assert exits == [True]
    [record] = [record.__dict__ for record in caplog.records if record.__dict__.get("PAPA_ACTION") == "ended"]
    assert (record["PAPA_KERNEL"], record["PAPA_CALLER_UID"], record["PAPA_CALLER"]) == ("papad", "1000", ":1.9")
