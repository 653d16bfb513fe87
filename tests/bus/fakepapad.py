"""A service on a real bus in papad's place, which answers, is late and goes away as a test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from papa_dbus.bus import Bus, Message, MessageType, read_body
from papa_dbus.errors import NotSupported, PapaError, dbus_name
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.support import PATIENCE

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

#: A reply's signature and body, an error, or None: no answer.
Answer = tuple[str, list[Any]] | PapaError | None


class FakePapad:
    """Owns papad's name. Calls are kept in ``calls`` and answered by ``answers``, by their member's name."""

    def __init__(self, address: str, **answers: Callable[[Message], Answer]) -> None:
        self.bus = Bus(address)
        self.bus.on_call = self._take
        self.answers: dict[str, Callable[[Message], Answer]] = {
            "OpenOutput": lambda _: NotSupported("it is older"),
            "Unwatch": done,
            "ListProcesses": lambda _: ("a{sa{sv}}", [{}]),
            **answers,
        }
        self.calls: list[Message] = []
        self._something = asyncio.Event()

    async def start(self) -> None:
        """Connect, and take the name."""
        await self.bus.start()
        assert (await self.bus.call(*_BUS, "RequestName", "su", [BUS_NAME, 4])).body[0] == 1

    def _take(self, call: Message) -> None:
        read_body(call)
        self.calls.append(call)
        self._something.set()
        answer = self.answers[call.member](call)
        if answer is not None:
            self.answer(call, answer)

    def answer(self, call: Message, answer: Answer) -> None:
        """Answer a call, at once or later."""
        if isinstance(answer, PapaError):
            self.bus.send(Message.new_error(call, dbus_name(answer), str(answer)))
        elif answer is not None:
            self.bus.send(Message.new_method_return(call, *answer))

    def signal(self, call: Message, member: str, signature: str, *body: Any) -> None:
        """Send a signal to whoever made a call."""
        self.bus.send(
            Message(
                message_type=MessageType.SIGNAL, destination=call.sender, path=OBJECT_PATH, interface=BUS_NAME,
                member=member, signature=signature, body=list(body),
            )
        )  # fmt: skip

    def records(self, call: Message, watch: int, name: str, *numbers: int) -> None:
        """Send records that hold their own numbers, a second after each other."""
        records = [[number, number * 1_000_000, "out", b"%d\n" % number] for number in numbers]
        self.signal(call, "Output", "tsa(ttsay)", watch, name, records)

    def exited(self, call: Message, watch: int, name: str, seq: int, code: int = 0) -> None:
        """Send a process's end."""
        self.signal(call, "Exited", "tsttib", watch, name, seq, seq * 1_000_000, code, True)

    def of(self, member: str) -> list[Message]:
        """Return the calls of a method."""
        return [call for call in self.calls if call.member == member]

    @property
    def acknowledged(self) -> list[tuple[int, dict[str, int]]]:
        """The acknowledgements that have come: watch, and numbers by process."""
        return [(call.body[0], call.body[1]) for call in self.of("Acknowledge")]

    async def until(self, member: str, count: int = 1) -> Message:
        """Wait for so many calls of a method; returns the last one of them."""
        async with asyncio.timeout(PATIENCE):
            while len(self.of(member)) < count:
                self._something.clear()
                await self._something.wait()
        return self.of(member)[count - 1]


def done(_: Message) -> Answer:
    """Answer without a result."""
    return "", []


def numbered_watches(*names: str) -> Callable[[Message], Answer]:
    """Answer Watch with 1, 2 and so on, for these processes."""
    numbers = iter(range(1, 1000))
    return lambda _: ("tas", [next(numbers), list(names)])


@contextlib.asynccontextmanager
async def fake_papad(address: str, **answers: Callable[[Message], Answer]) -> AsyncIterator[FakePapad]:
    """A fake papad, for as long as a test needs it."""
    papad = FakePapad(address, **answers)
    await papad.start()
    try:
        yield papad
    finally:
        await papad.bus.close()
