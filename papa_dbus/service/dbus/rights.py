"""What a call on the bus takes a right for."""

from collections.abc import Iterable, Iterator

from papa_dbus.bus import Message, read_body
from papa_dbus.service.access.policy import Right

#: Calls that change nothing. What a watch of one's own needs is as harmless as the watch itself.
_INSPECTING = frozenset(
    {"ListSockets", "ListValues", "GetValue", "ListProcesses", "Acknowledge", "Unwatch", "Get", "GetAll"}
    | {"GetManagedObjects", "Introspect", "Ping", "GetMachineId"}
)

_WATCHING = frozenset({"Watch", "OpenOutput"})
#: What those of the kernel take, and of a process's object; the options come last.
_WATCHES = frozenset({"asa{sv}", "a{sv}"})

_TO_INSPECT, _TO_MANAGE = (Right.INSPECT,), (Right.MANAGE,)


def rights_for(call: Message) -> Iterable[Right]:
    """Give the rights that a call takes, one after the other; all but reading takes everything."""
    if call.member in _WATCHING and call.signature in _WATCHES:
        return _rights_of_watch(call)
    return _TO_INSPECT if call.member in _INSPECTING else _TO_MANAGE


def _rights_of_watch(call: Message) -> Iterator[Right]:
    yield Right.INSPECT
    read_body(call)
    mode = call.body[-1].get("mode")
    if mode is None or mode.value != "observe":
        yield Right.MANAGE
