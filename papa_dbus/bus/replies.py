"""Calls that wait for their replies."""

import asyncio

from dbus_next import Message

from papa_dbus.bus.reader import close_descriptors

#: A reply, or None if the connection was closed.
Reply = asyncio.Future[Message | None]


class Replies:
    """The calls of one connection that have no reply yet, by serial number.

    Nobody takes a reply whose caller has given up: its descriptors are closed.
    """

    def __init__(self) -> None:
        self._awaited: dict[int, Reply] = {}

    def expect(self, serial: int) -> Reply:
        """Return a future for the reply to a call. ``give_up`` must follow if nobody awaits it to its end."""
        reply: Reply = asyncio.get_running_loop().create_future()
        self._awaited[serial] = reply
        return reply

    def deliver(self, message: Message) -> bool:
        """Hand a reply to its caller; return False if it answers no call."""
        reply = self._awaited.pop(message.reply_serial, None)
        if reply is None:
            return False
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
        for reply in awaited.values():
            if reply.done():
                continue
            if error is None:
                reply.set_result(None)
            else:
                reply.set_exception(error)
