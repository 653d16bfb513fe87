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
    reply = replies.expect(5, "a.b")
    assert replies.deliver(message)
    assert await reply is message
    assert not is_closed(fd)
    os.close(fd)
    assert not replies.deliver(message)  # once


@pytest.mark.parametrize(
    ("called", "sender", "is_taken"),
    [
        ("org.freedesktop.DBus", "org.freedesktop.DBus", True),
        ("org.freedesktop.DBus", ":1.8", False),
        (":1.7", ":1.7", True),
        (":1.7", ":1.8", False),
        (":1.7", "org.freedesktop.DBus", True),  # which says that it has gone
        ("org.example.Other", ":1.8", True),
    ],
)
async def test_nobody_answers_in_the_place_of_another(called: str, sender: str, is_taken: bool) -> None:
    """Where the bus lets a stranger, that one could say in its place that a stranger is root."""
    replies = Replies()
    reply = replies.expect(5, called)
    message = Message(message_type=MessageType.METHOD_RETURN, reply_serial=5, sender=sender)
    assert replies.deliver(message) == is_taken == reply.done()


async def test_a_reply_to_a_caller_that_has_just_given_up() -> None:
    replies, (message, fd) = Replies(), reply_with_descriptor()
    replies.expect(5, "a.b").cancel()
    assert replies.deliver(message)
    assert is_closed(fd)


async def test_a_caller_that_gives_up_just_after_its_reply() -> None:
    replies, (message, fd) = Replies(), reply_with_descriptor()
    reply = replies.expect(5, "a.b")
    replies.deliver(message)
    replies.give_up(5, reply)
    assert is_closed(fd)


async def test_a_call_that_was_given_up_has_no_reply() -> None:
    replies, (message, fd) = Replies(), reply_with_descriptor()
    replies.give_up(5, replies.expect(5, "a.b"))
    assert not replies.deliver(message)
    os.close(fd)


@pytest.mark.parametrize("error", [None, OSError("gone")])
async def test_all_waiting_ends(error: OSError | None) -> None:
    replies = Replies()
    waiting = [replies.expect(serial, "a.b") for serial in (1, 2)]
    replies.expect(3, "a.b").cancel()
    replies.fail(error)
    assert await asyncio.gather(*waiting, return_exceptions=True) == [error, error]
