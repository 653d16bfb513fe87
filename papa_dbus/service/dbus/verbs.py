"""The methods of sockets' and processes' objects: each is one of the kernel's own, for the object's name."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from papa_dbus.bus import Message
from papa_dbus.service.dbus import objects
from papa_dbus.service.dbus.answers import Handler, Result


class _Verb(NamedTuple):
    """The kernel's method that does it, the arguments of that, and which parts of its answer are told."""

    method: str
    arguments: Callable[[str, Sequence[Any]], list[Any]]
    told: tuple[int, ...]


def _name(name: str, body: Sequence[Any]) -> list[Any]:
    return [name, *body]


def _one_name(name: str, body: Sequence[Any]) -> list[Any]:
    return [[name], *body]


_VERBS: Mapping[str, Mapping[str, _Verb]] = {
    objects.SOCKET_INTERFACE: {
        "Open": _Verb("OpenSocket", _name, (0,)),
        "Remove": _Verb("RemoveSockets", _one_name, ()),
    },
    objects.PROCESS_INTERFACE: {
        "Watch": _Verb("Watch", _one_name, (0,)),
        "OpenOutput": _Verb("OpenOutput", _one_name, (0, 2)),
        "OpenPidfd": _Verb("OpenProcess", _name, (0,)),
        "Remove": _Verb("RemoveProcesses", _one_name, ()),
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
        return told(result) if isinstance(result, tuple) else told_later(result)

    def told(result: Result) -> Result:
        return tuple(result[place] for place in verb.told)

    async def told_later(result: Awaitable[Result]) -> Result:
        return told(await result)

    return handle
