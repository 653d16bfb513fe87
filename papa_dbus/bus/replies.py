"""Calls that wait for their replies."""

import asyncio

from dbus_next import Message

from papa_dbus.bus.driver import DRIVER
from papa_dbus.bus.reader import close_descriptors

#: A reply, or None if the connection was closed.
Reply = asyncio.Future[Message | None]


class Replies:
    """The calls of one connection that have no reply yet, by serial number.

    A reply is the one's who was called, or the bus's: a policy may let others send some for any serial number. Nobody
    takes a reply whose caller has given up: its descriptors are closed.
    """

    def __init__(self) -> None:
        self._awaited: dict[int, tuple[Reply, str]] = {}

    def expect(self, serial: int, called: str | None) -> Reply:
        """Return a future for the reply to a call. ``give_up`` must follow if nobody awaits it to its end."""
        reply: Reply = asyncio.get_running_loop().create_future()
        self._awaited[serial] = reply, called or ""
        return reply

    def deliver(self, message: Message) -> bool:
        """Hand a reply to its caller; return False if it answers no call."""
        reply, called = self._awaited.get(message.reply_serial, (None, ""))
        if reply is None or not _may_answer(message.sender, called):
            return False
        del self._awaited[message.reply_serial]
        if reply.done():
            close_descriptors(message)
        else:
            reply.set_result(message)
        return True

    def give_up(self, serial: int, reply: Reply) -> None:
        """Forget a call, and a reply that came just before."""
        self._awaited.pop(serial, None)
        if reply.done() and not reply.cancelled() and reply.exception() is None:
            close_descriptors(reply.result())

    def fail(self, error: BaseException | None) -> None:
        """End the wait of all calls: with the error by which the connection was lost, None if it was closed."""
        awaited, self._awaited = self._awaited, {}
        for reply, _ in awaited.values():
            if reply.done():
                continue
            if error is None:
                reply.set_result(None)
            else:
                reply.set_exception(error)


def _may_answer(sender: str | None, called: str) -> bool:
    """Return whether a sender is the one who was called, as far as that is known by its name, or the bus."""
    if sender in (None, DRIVER[0]):  # None: who is at the other end itself, for the bus names all others
        return True
    return sender == called if called.startswith(":") else called != DRIVER[0]
