"""A client that speaks D-Bus by the contract."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from papa_dbus.bus import Bus, Message, Variant
from papa_dbus.names import BUS_NAME, OBJECT_PATH
from tests.support import PATIENCE, until


class Client:
    """Calls the kernel's methods and gathers the signals that reach it."""

    def __init__(self, address: str) -> None:
        self.bus = Bus(address)
        self.bus.on_signal.append(self._hear)
        self.signals: list[Message] = []
        self._something = asyncio.Event()

    def _hear(self, signal: Message) -> None:
        if signal.path.startswith(OBJECT_PATH):
            self.signals.append(signal)
            self._something.set()

    async def call(self, member: str, signature: str = "", *body: Any, interface: str = BUS_NAME, **at: Any) -> Any:
        """A method's first result, or None."""
        reply = await self.bus.call(
            BUS_NAME, at.get("path", OBJECT_PATH), interface, member, signature, body, at.get("timeout", PATIENCE)
        )
        if reply.unix_fds:
            return reply.unix_fds[0]
        return plain(reply.body[0]) if len(reply.body) == 1 else plain(reply.body) or None

    async def make_process(self, name: str, *command: str, **options: Variant) -> dict[str, Any]:
        """MakeProcess."""
        result: dict[str, Any] = await self.call("MakeProcess", "sasa{sv}", name, list(command), options)
        return result

    async def watch(self, *patterns: str, **options: Variant) -> int:
        """Watch; the number of the watch."""
        number: int = (await self.call("Watch", "asa{sv}", list(patterns), options))[0]
        return number

    async def listed(self, name: str) -> dict[str, Any]:
        """What ListProcesses says of one process."""
        listed: dict[str, Any] = (await self.call("ListProcesses", "as", [name]))[name]
        return listed

    async def until_written(self, name: str, size: int) -> None:
        """Wait until papad has read so many bytes of a process's output."""

        async def written() -> bool:
            return bool((await self.listed(name))["written"] >= size)

        await until(written, f"{size} bytes of {name}")

    async def until_buffered(self, name: str, size: int) -> None:
        """Wait until so much of a process's output waits for an acknowledgement."""

        async def buffered() -> bool:
            return bool((await self.listed(name))["buffered"] == size)

        await until(buffered, f"{size} bytes of {name} that wait")

    async def until_ended(self, name: str) -> None:
        """Wait until a process is listed as ended, without taking anything from it."""

        async def ended() -> bool:
            return not (await self.listed(name))["running"]

        await until(ended, f"the end of {name}")

    def of(self, member: str) -> list[list[Any]]:
        """The bodies of the signals of one kind."""
        return [signal.body for signal in self.signals if signal.member == member]

    def output(self, process: str = "", stream: str = "") -> bytes:
        """What came as Output."""
        return b"".join(
            data
            for _, name, records in self.of("Output")
            for _, _, kind, data in records
            if process in ("", name) and stream in ("", kind)
        )

    async def until(self, member: str, count: int = 1) -> list[list[Any]]:
        """Wait for so many signals of one kind."""
        await self.wait(lambda: len(self.of(member)) >= count, member)
        return self.of(member)[:count]

    async def until_output(self, text: bytes) -> None:
        """Wait for a text in the output."""
        await self.wait(lambda: text in self.output(), repr(text))

    async def wait(self, condition: Any, what: str) -> Any:
        """Wait until a condition holds, looked at after each signal."""
        while not (result := condition()):
            self._something.clear()
            try:
                await asyncio.wait_for(self._something.wait(), PATIENCE)
            except TimeoutError:
                raise AssertionError(f"no {what}: {[(s.member, s.body) for s in self.signals][-10:]}") from None
        return result


def plain(value: Any) -> Any:
    """A D-Bus value without its variants."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


async def connected(address: str) -> AsyncIterator[Client]:
    """A client, for as long as a test needs it."""
    client = Client(address)
    await client.bus.start()
    yield client
    await client.bus.close()
