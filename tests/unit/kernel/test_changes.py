"""A change is told to everybody."""

import pytest

from papa_dbus.service.items.specs import SocketSpec
from papa_dbus.service.kernel.changes import Change
from papa_dbus.service.kernel.kernel import Kernel


async def test_16_a_listener_that_fails_keeps_nothing_from_being_done(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(change: Change) -> None:
        raise ValueError(change.name)

    heard: list[Change] = []
    kernel.listeners += [fail, heard.append]
    for name in "ab":
        await kernel.make_socket(SocketSpec(name))
    assert kernel.remove_sockets(["a", "b"]) == ["a", "b"]
    assert [(change.what, change.name) for change in heard] == [
        *(("added", name) for name in "ab"),
        *(("removed", name) for name in "ab"),
    ]
    assert "a change of socket 'a' could not be told" in caplog.text
    caplog.clear()
