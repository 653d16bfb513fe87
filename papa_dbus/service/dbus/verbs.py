"""The methods of sockets' and processes' objects: each is one of the kernel's own, for the object's name."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from papa_dbus.bus import Message
from papa_dbus.service.dbus import objects
from papa_dbus.service.dbus.answers import Handler, Result


class _Verb(NamedTuple):
    """The kernel's method that does it, the arguments of that, and how much of its answer is told."""

    method: str
    arguments: Callable[[str, Sequence[Any]], list[Any]]
    told: int


def _name(name: str, body: Sequence[Any]) -> list[Any]:
    return [name, *body]


def _one_name(name: str, body: Sequence[Any]) -> list[Any]:
    return [[name], *body]


_VERBS: Mapping[str, Mapping[str, _Verb]] = {
    objects.SOCKET_INTERFACE: {
        "Open": _Verb("OpenSocket", _name, 1),
        "Remove": _Verb("RemoveSockets", _one_name, 0),
    },
    objects.PROCESS_INTERFACE: {
        "Watch": _Verb("Watch", _one_name, 1),
        "OpenPidfd": _Verb("OpenProcess", _name, 1),
        "Remove": _Verb("RemoveProcesses", _one_name, 0),
    },
}


def handlers(kernel: Mapping[str, Handler]) -> dict[str, dict[str, Handler]]:
    """Return the methods of objects, by interface, made of the kernel's."""
    return {
        interface: {name: _handler(kernel[verb.method], verb) for name, verb in verbs.items()}
        for interface, verbs in _VERBS.items()
    }


def _handler(of_kernel: Handler, verb: _Verb) -> Handler:
    def handle(call: Message) -> Result | Awaitable[Result]:
        call.body = verb.arguments(objects.name_at(call.path), call.body)
        result = of_kernel(call)
        return result[: verb.told] if isinstance(result, tuple) else told(result)

    async def told(result: Awaitable[Result]) -> Result:
        return (await result)[: verb.told]

    return handle
