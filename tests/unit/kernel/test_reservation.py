"""What is being made counts already, and is made once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from papa_dbus.errors import Exists, Limit
from papa_dbus.service import limits
from papa_dbus.service.items import sockets
from papa_dbus.service.items.sockets import HostedSocket
from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.kernel import Kernel
from tests.support import PATIENCE, run


async def test_42_what_is_being_made_counts(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PROCESSES", 2)
    made = await asyncio.gather(*(run(kernel, "sleep", "60", name=f"p{n}") for n in range(5)), return_exceptions=True)
    assert [type(each) for each in made if isinstance(each, Exception)] == [Limit] * 3
    assert kernel.process_count == 2
    monkeypatch.setattr(limits, "MAX_SOCKETS", 2)
    gate = asyncio.Event()
    opened = sockets.open_socket

    async def slow(*arguments: Any) -> HostedSocket:
        await asyncio.wait_for(gate.wait(), PATIENCE)
        return await opened(*arguments)

    monkeypatch.setattr(sockets, "open_socket", slow)
    asked = [asyncio.ensure_future(kernel.make_socket(SocketSpec(f"s{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    gate.set()
    made_sockets = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in made_sockets if isinstance(each, Exception)] == [Limit] * 3
    assert kernel.socket_count == 2


async def test_42_two_sockets_of_one_path_are_not_made_at_once(kernel: Kernel, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    made = await asyncio.gather(
        *(kernel.make_socket(SocketSpec(name, path=path)) for name in "ab"), return_exceptions=True
    )
    assert isinstance(made[1], Exists)
    assert "socket 'a' has the path" in str(made[1])
    assert [info.name for info in kernel.list_sockets()] == ["a"]
