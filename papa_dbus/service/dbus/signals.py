"""Tell everyone who may talk to papad which objects come and go and which properties change. Never output.

While the bus takes no messages, or has many that those who listen do not read, only the names of what changes are
kept, and compared with what there is once that is over: an object that came and went meanwhile is not mentioned, one
that was exchanged is removed and added. So there are never more names than objects that were there before and that are
there now.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from papa_dbus import names
from papa_dbus.bus import Bus, Message, MessageType, Variant
from papa_dbus.service.dbus import objects
from papa_dbus.service.dbus.broker_queues import EVERYBODY, Queues
from papa_dbus.service.kernel.changes import Change, Kind
from papa_dbus.service.kernel.kernel import Kernel

_COUNTS = {"socket": "SocketCount", "value": "ValueCount", "process": "ProcessCount"}
_INTERFACES = {"socket": objects.SOCKET_INTERFACE, "process": objects.PROCESS_INTERFACE}
_EACH = ("Running", "State", "ExitCode", "ExitKnown", "ExitTimestamp")  # what changes in a process's object
#: Seconds of telling what has changed meanwhile before others have their turn.
_TURN: Final = 0.005
#: Seconds for which changed counts are gathered into one signal.
_GATHER_SECONDS = 0.05


@dataclass(slots=True)
class _Since:
    """What an object's listeners do not know yet: whether it was there when they were last told, and went since."""

    was_there: bool
    has_gone: bool = False


class SignalEmitter:
    """Turns the kernel's changes into ObjectManager's and Properties' signals."""

    def __init__(self, kernel: Kernel, bus: Bus, tree: objects.Tree, queues: Queues) -> None:
        self._queues = queues
        self._kernel = kernel
        self._bus = bus
        self._tree = tree
        self._counts: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._untold: dict[tuple[Kind, str], _Since] = {}  # by kind and name
        self._turn: asyncio.Handle | None = None

    def reset(self) -> None:
        """Forget what is untold: another bus's clients know nothing yet."""
        self._counts.clear()
        self._untold.clear()

    def hear(self, change: Change) -> None:
        """Hear of a change: the kernel's callback."""
        if not self._bus.connected:
            return
        if change.what != "changed":
            self._counts.add(_COUNTS[change.kind])
            self._gather_counts()
        if change.kind not in _INTERFACES:
            return
        if self._untold or self._held_up:
            self._note(change)
        else:
            self._tell_object(change)

    def _gather_counts(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._tell_counts)

    @property
    def _held_up(self) -> bool:
        """Return whether the bus takes no messages, or those who listen read none; go_on() follows."""
        return self._bus.congested or not self._queues.room(EVERYBODY, None)

    # ------------------------------------------------- while the bus is congested

    def _note(self, change: Change) -> None:
        key = (change.kind, change.name)
        since = self._untold.get(key)
        if since is None:
            since = self._untold[key] = _Since(was_there=change.what != "added")
        if change.what == "removed":
            since.has_gone = True
            if not since.was_there:
                del self._untold[key]

    def go_on(self) -> None:
        """Tell what has changed, in turns, now that the bus takes messages again."""
        if self._turn is None and self._untold:
            self._turn = asyncio.get_running_loop().call_soon(self._emit_some)

    def _emit_some(self) -> None:
        self._turn = None
        loop = asyncio.get_running_loop()
        end = loop.time() + _TURN
        while self._untold and not self._held_up and loop.time() < end:
            key = next(iter(self._untold))
            self._tell_since(*key, self._untold.pop(key))
        if not self._held_up:
            self.go_on()

    def _tell_since(self, kind: Kind, name: str, since: _Since) -> None:
        is_there = bool(self._tree.interfaces(objects.child_path(kind, name)))
        if since.was_there and (since.has_gone or not is_there):
            self._tell_object(Change(kind, "removed", name))
        if is_there:
            is_new = since.has_gone or not since.was_there
            self._tell_object(Change(kind, "added" if is_new else "changed", name))

    def _tell_object(self, change: Change) -> None:
        path, interface = objects.child_path(change.kind, change.name), _INTERFACES[change.kind]
        if change.what == "removed":
            self._manager("InterfacesRemoved", "oas", [path, [interface]])
            return
        own = self._tree.interfaces(path, whole=False)
        if not own:
            return
        if change.what == "added":
            self._manager(
                "InterfacesAdded", "oa{sa{sv}}", [path, {interface: self._tree.variants(interface, own[interface])}]
            )
        else:
            values = {name: own[interface][name] for name in _EACH}
            self._properties(path, interface, self._tree.variants(interface, values))

    def _tell_counts(self) -> None:
        self._timer = None
        if self._held_up:
            self._gather_counts()
            return
        counts, self._counts = self._counts, set()
        if counts:
            now = {
                "SocketCount": self._kernel.socket_count,
                "ValueCount": self._kernel.value_count,
                "ProcessCount": self._kernel.process_count,
            }
            values = {name: now[name] for name in sorted(counts)}
            self._properties(
                names.OBJECT_PATH, objects.KERNEL_INTERFACE, self._tree.variants(objects.KERNEL_INTERFACE, values)
            )

    def _manager(self, member: str, signature: str, body: list[Any]) -> None:
        self._send(names.OBJECT_PATH, "org.freedesktop.DBus.ObjectManager", member, signature, body)

    def _properties(self, path: str, interface: str, values: dict[str, Variant]) -> None:
        self._send(path, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", [interface, values, []])

    def _send(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        signal = Message(
            message_type=MessageType.SIGNAL,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
        )
        if self._bus.send(signal, urgent=False):
            self._queues.sent(EVERYBODY, None, signal.size)
