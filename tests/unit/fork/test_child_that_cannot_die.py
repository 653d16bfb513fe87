"""papad's loop waits for no child: not for one that hangs on its way to its program, and cannot even be killed."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from papa_dbus.errors import Spawn
from papa_dbus.service.fork.fork import ForkServer
from papa_dbus.service.kernel.kernel import Kernel
from tests.hung import HungFolder
from tests.support import PATIENCE, children, output_of, run, until

pytestmark = pytest.mark.root


@pytest.fixture(params=["papad", "fork server"])
def forking(request: pytest.FixtureRequest, kernel: Kernel) -> Iterator[set[int]]:
    """Have either fork; give the children that there are then."""
    fork_server = ForkServer() if request.param == "fork server" else None
    if fork_server is not None:
        kernel.fork = fork_server.fork
    yield children()
    if fork_server is not None:
        fork_server.close()


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[HungFolder]:
    """Give a folder on a file system that answers nothing."""
    folder = HungFolder(tmp_path)
    yield folder
    folder.release()


async def until_gone(children_before: set[int]) -> None:
    await until(lambda: not children() - children_before, lambda: f"end of {children() - children_before}")


async def test_one_that_cannot_be_placed(kernel: Kernel, forking: set[int], hung: HungFolder) -> None:
    async def place(pid: int, name: str, resources: Mapping[str, int]) -> None:
        if name == "hung":
            await asyncio.to_thread(hung.wait_until_asked)
            raise Spawn("it has no scope")

    kernel.assign_scope = place
    with pytest.raises(Spawn, match="process 'hung': it has no scope"):
        await run(kernel, "true", name="hung", working_dir=f"{hung.path}/home")
    assert len(children() - forking) == 1  # it hangs there still
    assert await output_of(kernel, "echo", "served") == "served\n"
    hung.release()
    await until_gone(forking)


async def test_one_that_nobody_waits_for_any_more(kernel: Kernel, forking: set[int], hung: HungFolder) -> None:
    start = asyncio.ensure_future(run(kernel, "true", name="hung", working_dir=f"{hung.path}/home"))
    await asyncio.to_thread(hung.wait_until_asked)
    start.cancel()
    await asyncio.wait([start], timeout=PATIENCE)
    assert start.cancelled()
    assert len(children() - forking) == 1
    hung.release()
    await until_gone(forking)
