"""MakeSocket, MakeProcess and MakeProcesses: the calls that wait for something else than papad."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from papa_dbus.bus import Message, Variant
from papa_dbus.errors import Limit
from papa_dbus.schema import PROCESS_OPTIONS, SOCKET_OPTIONS
from papa_dbus.service import limits
from papa_dbus.service.dbus import conversion
from papa_dbus.service.dbus.answers import Answers, Handler, Result, error_of
from papa_dbus.service.items.results import ProcessInfo
from papa_dbus.service.items.specs import ProcessSpec, SocketSpec
from papa_dbus.service.kernel.kernel import Kernel
from papa_dbus.service.steps import Pace

#: Bytes that each item which is being made costs beside its call's own.
_COST: Final = 65_536


class Making:
    """``handlers`` by method. Their calls do not hold up their sender's next ones."""

    def __init__(self, kernel: Kernel, answers: Answers) -> None:
        self._kernel = kernel
        self._answers = answers
        self._pace = Pace()
        self.handlers: Mapping[str, Handler] = {
            "MakeSocket": self._make_socket,
            "MakeProcess": self._make_process,
            "MakeProcesses": self._make_processes,
        }

    def cost(self, call: Message) -> int:
        """Return the bytes that a call counts while it is under way. Raises Limit if it asks for too many."""
        count: int = len(call.body[0]) if call.member == "MakeProcesses" else 1
        if count > limits.MAX_REQUESTS_OF_CALL:
            raise Limit(
                f"{call.member}: {count} processes are asked for; make {limits.MAX_REQUESTS_OF_CALL} at most in a call"
            )
        return int(call.size) + count * _COST

    async def _make_socket(self, call: Message) -> Result:
        name, options = call.body
        spec = SocketSpec(name=name, **conversion.options(SOCKET_OPTIONS, options))
        return (conversion.socket_result(await self._kernel.make_socket(spec)),)

    async def _make_process(self, call: Message) -> Result:
        return (conversion.process_result(await self._make(*call.body)),)

    async def _make(self, name: str, command: Sequence[str], options: Mapping[str, Variant]) -> ProcessInfo:
        spec = ProcessSpec(name=name, command=tuple(command), **conversion.options(PROCESS_OPTIONS, options))
        return await self._kernel.make_process(spec)

    async def _make_processes(self, call: Message) -> Result:
        """Start several side by side. One that fails does not concern the others."""
        requests = call.body[0]
        results: list[Any] = [None] * len(requests)
        to_do = iter(enumerate(requests))

        async def work() -> None:
            for number, request in to_do:
                await self._pace.turn()
                results[number] = await self._result(*request)

        await asyncio.gather(*(work() for _ in range(min(limits.MAX_STARTS_OF_CALL, len(requests)))))
        answer = self._answers.structs("a(sa{sv}ss)", iter(results))
        return answer if isinstance(answer, tuple) else await answer

    async def _result(self, name: str, command: Sequence[str], options: Mapping[str, Variant]) -> list[Any]:
        try:
            info = await self._make(name, command, options)
        except Exception as error:  # noqa: BLE001 (its result, as a call of its own would be answered)
            return [name, {}, *error_of(f"MakeProcesses of '{name}'", error)]
        return [name, conversion.process_result(info.short()), "", ""]
