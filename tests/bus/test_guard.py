"""The guard of the other tests: it finds what holds a papad's loop, and names it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bus.daemon import Papad
from tests.guard import sitecustomize as guard
from tests.support import PATIENCE

# Ready, as papad is, then callbacks: one waits, one computes, one does neither, and one starts a thread that Linux does
# not run at once.
HELD = """
import asyncio, gc, threading, time
def waits(): time.sleep(0.3)  # paces the loop, which it holds
def computes():
    end = time.thread_time() + 0.3
    while time.thread_time() < end: pass
def neither(): pass
class Late(threading.Thread):
    def _bootstrap(self):
        time.sleep(0.3)  # paces the thread, which has no processor
        super()._bootstrap()
def starts(): Late(target=neither).start()
async def main():
    for callback in (waits, computes, neither, starts):
        asyncio.get_running_loop().call_soon(callback)
    await asyncio.sleep(0)
time.sleep(0.3)  # paces the start, which may take long
gc.freeze()
asyncio.run(main())
"""


@pytest.mark.parametrize(("program", "found"), [("papa_dbus.service", ["waits", "computes"]), ("papactl", [])])
def test_what_holds_the_loop_of_a_papad_is_found(tmp_path: Path, program: str, found: list[str]) -> None:
    file = tmp_path / "held"
    file.touch()
    environment = {**os.environ, guard.FILE: str(file)}
    subprocess.run([sys.executable, "-c", HELD, program], env=environment, check=True, timeout=PATIENCE)
    held = [json.loads(line) for line in file.read_text().splitlines()]
    assert [
        name for name in ("waits", "computes", "neither", "starts") if any(name in each["by"] for each in held)
    ] == found
    assert all(each["held"] > guard.LIMIT for each in held)


def test_it_is_in_the_papads_of_the_other_tests(papad: Papad) -> None:
    """It has a file open by which it sees how long papad waited for a processor."""
    files = [os.readlink(file) for file in Path(f"/proc/{papad.process.pid}/fd").iterdir()]
    assert any(file.endswith("/schedstat") for file in files)
