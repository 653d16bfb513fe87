"""What an earlier papad has started, and cannot be hosted."""

import errno
import os
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from papa_dbus.errors import Spawn
from papa_dbus.service.items.rows import ProcessRecord, StoredProcess
from papa_dbus.service.items.specs import ProcessSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel import starts
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import end, run

OTHER = "other_one-2"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a file."""
    return Store(tmp_path / "state.sqlite")


class Broken:
    """What an earlier papad has started, and the recovery that cannot host it."""

    name = "p"

    def __init__(self, store: Store) -> None:
        self.stored = StoredProcess(7, ProcessSpec("p", ("true",)), ProcessRecord(4711, 0, 0, 0, "/"), {}, "running")
        store.add_request("process", OTHER, "p", 7)

    async def executed(self, store: Store) -> bool:
        """Say that it runs."""
        return True

    def host(self, start: "Broken") -> NoReturn:
        """Fail."""
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_what_cannot_be_hosted_is_not_said_to_be_being_started(store: Store) -> None:
    """It may run, so the token does not start another one."""
    kernel = Kernel(store=store)
    broken = cast("Any", Broken(store))
    kernel._processes._tokens.recover({7: starts.being_started("p")})
    start = kernel._processes._starts._wait_for(broken, broken)
    for _ in range(2):
        with pytest.raises(Spawn, match=r"'p' \(PID 4711\) was started by an earlier papad and cannot be hosted"):
            await run(kernel, "true", token=OTHER)
    await start
    assert (await run(kernel, "true", token=f"{OTHER}2")).name == "p"
    end(kernel)
