"""A real dbus-daemon, a real papad on it, and a client that speaks D-Bus; what a test leaves behind fails it."""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from papa_dbus.client import Papa
from papa_dbus.client.compat.loop_thread import Background, the_background
from papa_dbus.service.private_bus import OwnBus
from tests.bus.client import Client, connected
from tests.bus.daemon import Papad, start_papad, stop_with_children
from tests.bus.lineclient import Papad as LinePapad
from tests.bus.scripted_child import ScriptedChild
from tests.guarding import guard_file, loop_is_never_held  # noqa: F401 (fixtures)
from tests.leftovers import ask_for_tasks, no_task_is_left, nothing_is_left, temporary_folder  # noqa: F401 (fixtures)
from tests.papactl import Papactl
from tests.support import wait_until

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have all tests here looked at for tasks that they leave."""
    ask_for_tasks([item for item in items if item.path.is_relative_to(FOLDER)])


@pytest.fixture(scope="session", autouse=True)
def background() -> Background:
    """Have the drop-in's loop run, which a program's first client over D-Bus starts and no client ends."""
    return the_background()


@pytest.fixture(autouse=True)
def no_client_is_left(nothing_is_left: None, background: Background) -> Iterator[None]:  # noqa: F811
    """Fail the test that leaves a client of the drop-in: it would connect again and again to a bus that has gone."""
    yield
    if background.kernels:
        gc.collect()
        wait_until(lambda: not background.kernels, lambda: f"clients that are closed: {background.kernels}")


@pytest.fixture
def bus_address() -> Iterator[str]:
    """A message bus of the test's own."""
    bus = OwnBus()
    yield bus.address
    bus.close()


@pytest.fixture
def papad(bus_address: str, tmp_path: Path) -> Iterator[Papad]:
    """A papad on a bus of its own; it must end cleanly and log no error."""
    papad = start_papad(bus_address, tmp_path / "line")
    yield papad
    log = stop_with_children(papad)
    assert papad.process.returncode == 0, log
    for word in ("Traceback", "Warning:", "failed", "internal"):
        assert word not in log, log


@pytest.fixture(scope="module")
def shared_papad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinePapad]:
    """One papad for all tests of this file."""
    papad = LinePapad(tmp_path_factory.mktemp("papad"))
    yield papad
    assert papad.stop() == 0
    assert "Traceback" not in papad.log.read_text()
    assert not Path(papad.path).exists()


@pytest.fixture
def scripted_child(p: Papa, tmp_path: Path) -> Iterator[ScriptedChild]:
    """A hosted process that prints what it is told."""
    scripted_child = ScriptedChild(tmp_path, "p", code=3)
    p.make_process("p", args=scripted_child.command)
    yield scripted_child
    scripted_child.end()


@pytest.fixture
async def client(papad: Papad) -> AsyncIterator[Client]:
    """A client of that papad."""
    async for client in connected(papad.address):
        yield client


@pytest.fixture
async def other(papad: Papad) -> AsyncIterator[Client]:
    """A second client."""
    async for client in connected(papad.address):
        yield client


@pytest.fixture
def papactl(papad: Papad) -> Papactl:
    """papactl for that papad."""
    return Papactl(papad.address)
