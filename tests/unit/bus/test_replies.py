"""Replies and those who wait for them, in whichever order they come and give up."""

import asyncio
import os

import pytest
from dbus_next import Message, MessageType

from papa_dbus.bus.replies import Replies


def reply_with_descriptor() -> tuple[Message, int]:
    fd = os.open(os.devnull, os.O_RDONLY)
    return Message(message_type=MessageType.METHOD_RETURN, reply_serial=5, unix_fds=[fd]), fd


def is_closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


async def test_a_reply_is_its_callers() -> None:
    replies, (message, fd) = Replies(), reply_with_descriptor()
    reply = replies.expect(5)
    assert replies.deliver(message)
    assert await reply is message
    assert not is_closed(fd)
    os.close(fd)
    assert not replies.deliver(message)  # once


async def test_a_reply_to_a_caller_that_has_just_given_up() -> None:
    replies, (message, fd) = Replies(), reply_with_descriptor()
    replies.expect(5).cancel()
    assert replies.deliver(message)
    assert is_closed(fd)


async def test_a_caller_that_gives_up_just_after_its_reply() -> None:
    replies, (message, fd) = Replies(), reply_with_descriptor()
    reply = replies.expect(5)
    replies.deliver(message)
    replies.give_up(5, reply)
    assert is_closed(fd)


async def test_a_call_that_was_given_up_has_no_reply() -> None:
    replies, (message, fd) = Replies(), reply_with_descriptor()
    replies.give_up(5, replies.expect(5))
    assert not replies.deliver(message)
    os.close(fd)


@pytest.mark.parametrize("error", [None, OSError("gone")])
async def test_all_waiting_ends(error: OSError | None) -> None:
    replies = Replies()
    waiting = [replies.expect(serial) for serial in (1, 2)]
    replies.expect(3).cancel()
    replies.fail(error)
    assert await asyncio.gather(*waiting, return_exceptions=True) == [error, error]
