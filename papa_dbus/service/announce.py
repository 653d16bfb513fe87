"""What everyone who may talk to the kernel may hear: objects that come and go, properties that change. Never output."""

import asyncio
from typing import Any

from papa_dbus import names
from papa_dbus.bus import Bus, Message, MessageType, Variant
from papa_dbus.service import objects
from papa_dbus.service.kernel import Change, Kernel

_COUNTS = {"socket": "SocketCount", "value": "ValueCount", "process": "ProcessCount"}
_INTERFACES = {"socket": objects.SOCKET_INTERFACE, "process": objects.PROCESS_INTERFACE}
_EACH = ("Running", "State", "ExitCode", "ExitKnown")  # what changes in a process's object
#: Seconds for which changed counts are gathered into one signal.
_GATHER_SECONDS = 0.05


class Announcer:
    """Turns the kernel's changes into ObjectManager's and Properties' signals."""

    def __init__(self, kernel: Kernel, bus: Bus, tree: objects.Tree) -> None:
        self._kernel = kernel
        self._bus = bus
        self._tree = tree
        self._counts: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def reset(self) -> None:
        """A new bus knows nothing yet: there is nothing to correct."""
        self._counts.clear()

    def hear(self, change: Change) -> None:
        """The kernel's callback."""
        if not self._bus.connected:
            return
        if change.what != "changed":
            self._counts.add(_COUNTS[change.kind])
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._tell_counts)
        if change.kind in _INTERFACES:
            self._tell_object(change)

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
        self._bus.send(
            Message(
                message_type=MessageType.SIGNAL,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            ),
            urgent=False,
        )
