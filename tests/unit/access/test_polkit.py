"""polkit's word is polkit's own."""

from typing import Any, cast

import pytest

from papa_dbus.bus import Bus, Message, MessageType
from papa_dbus.service.access.policy import Right
from papa_dbus.service.access.polkit import Polkit


class Answering:
    """A bus where polkit is :1.3, and a policy that lets another answer in its place."""

    def __init__(self, sender: str) -> None:
        self._sender = sender

    async def call(self, destination: str, path: str, interface: str, member: str, *_: Any) -> Message:
        del destination, path, interface
        signature, body = ("s", [":1.3"]) if member == "GetNameOwner" else ("(bba{ss})", [[True, False, {}]])
        return Message(
            message_type=MessageType.METHOD_RETURN,
            reply_serial=1,
            sender=self._sender,
            signature=signature,
            body=body,
        )


@pytest.mark.parametrize(("sender", "authorized"), [(":1.3", True), (":1.8", False)])
async def test_polkit_alone_answers_for_polkit(sender: str, authorized: bool) -> None:
    ask = Polkit(cast("Bus", Answering(sender)))
    assert await ask(":1.8", Right.MANAGE, False) == authorized
