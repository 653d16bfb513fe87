"""Answers pings on a message bus, with dbus-next alone. Argument: the bus's address; prints its own name there."""

import asyncio
import sys

from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus


async def main(address: str) -> None:
    """Answer until it is killed."""
    bus = await MessageBus(address).connect()

    def answer(message: Message) -> Message | None:
        if message.message_type is MessageType.METHOD_CALL and message.interface == "org.bare":
            return Message.new_method_return(message, message.signature, message.body)
        return None

    bus.add_message_handler(answer)
    print(bus.unique_name, flush=True)
    await bus.wait_for_disconnect()


asyncio.run(main(sys.argv[1]))
