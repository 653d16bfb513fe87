"""What is stored where there is no room for it, and what becomes of a store that cannot be opened."""

from pathlib import Path

import pytest

from papa_dbus.errors import Limit, PapaError
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.items.store import Store
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import no_room


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a value in it."""
    path = tmp_path / "state.sqlite"
    store = Store(path)
    store.set_value("v", "kept")
    store.close()
    return path


def test_no_room_when_it_is_opened_is_no_damage(path: Path) -> None:
    with no_room(), pytest.raises(PapaError, match=r"state\.sqlite cannot be opened"):
        Store(path)
    assert [file.name for file in path.parent.iterdir() if "damaged" in file.name] == []
    store = Store(path)
    assert store.values() == {"v": "kept"}
    store.close()


def test_what_cannot_be_stored_is_an_error_and_changes_nothing(path: Path) -> None:
    store = Store(path)
    with no_room():
        for change in (
            lambda: store.set_value("w", "x"),
            lambda: store.remove_value("v"),
            lambda: store.add_socket(SocketSpec("s"), 1, 0),
        ):
            with pytest.raises(PapaError, match="papad cannot store this"):
                change()
        store.remove_process(1)  # of what has gone: that is so, whether it can be noted or not
    assert store.values() == {"v": "kept"}
    store.set_value("w", "x")
    assert store.values() == {"v": "kept", "w": "x"}
    store.close()


async def test_the_kernel_has_what_the_store_has(path: Path) -> None:
    store = Store(path)
    kernel = Kernel(store=store)
    kernel.set_value("a", "1")
    made = await kernel.make_socket(SocketSpec("s"))
    with no_room():
        with pytest.raises(PapaError):
            kernel.set_value("a", "2")
        with pytest.raises(PapaError):
            await kernel.make_socket(SocketSpec("t"))
        with pytest.raises(PapaError):
            kernel.remove_sockets(["s"])
        with pytest.raises(PapaError):
            kernel.remove_values(["a"])
    assert kernel.list_values() == {"a": "1"}
    assert kernel.list_sockets() == [made]
    kernel.remove_sockets(["s"])
    kernel.remove_values(["a"])
    kernel.close()


def test_a_full_store_is_a_limit(path: Path) -> None:
    store = Store(path)
    store._db.execute("PRAGMA max_page_count = 20").close()
    with pytest.raises(Limit, match="database or disk is full"):
        store.set_value("large", "x" * 1_000_000)
    store.close()
