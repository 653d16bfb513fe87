"""The D-Bus Specification's own interfaces, of each object: Peer, Introspectable, Properties, ObjectManager."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from papa_dbus.bus import Message, Variant
from papa_dbus.service.dbus.answers import Answers, Handler, Refused, Result
from papa_dbus.service.dbus.objects import Tree

PEER = "org.freedesktop.DBus.Peer"
#: Where a machine's identity is (machine-id(5)); D-Bus's own is older.
_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


class StandardInterfaces:
    """Answers them from the tree of objects. ``handlers``: by interface and method.

    ``writable``: what sets a property, which raises InvalidArgs, by path and name.
    """

    def __init__(
        self, tree: Tree, answers: Answers, writable: Mapping[tuple[str, str], Callable[[Variant], None]]
    ) -> None:
        self._tree = tree
        self._answers = answers
        self._writable = writable
        self.handlers: Mapping[str, dict[str, Handler]] = {
            PEER: {"Ping": lambda call: (), "GetMachineId": lambda call: (_machine_id(),)},
            "org.freedesktop.DBus.Introspectable": {"Introspect": self._introspect},
            "org.freedesktop.DBus.Properties": {"Get": self._get, "GetAll": self._get_all, "Set": self._set},
            "org.freedesktop.DBus.ObjectManager": {"GetManagedObjects": self._managed},
        }

    def _managed(self, call: Message) -> Result | Awaitable[Result]:  # noqa: ARG002
        return self._answers.dictionary("a{oa{sa{sv}}}", self._tree.managed())

    def _introspect(self, call: Message) -> Result | Awaitable[Result]:
        pieces = self._tree.introspect(call.path)
        if pieces is None:
            raise Refused("UnknownObject", f"there is no object {call.path}")
        return self._answers.text(pieces)

    def _values(self, call: Message) -> dict[str, Any]:
        """Return the properties of the interface that a call names, of all if it names none (an empty string)."""
        wanted = call.body[0]
        own = self._tree.interfaces(call.path)
        if wanted and wanted not in (self._tree.shown(call.path) or ()):
            raise Refused("UnknownInterface", f"{call.path} has no interface '{wanted}'")
        found: dict[str, Any] = {}
        for interface, values in own.items():
            if wanted in ("", interface):
                found |= self._tree.variants(interface, values)
        return found

    def _get(self, call: Message) -> Result:
        values = self._values(call)
        if call.body[1] not in values:
            raise Refused("UnknownProperty", f"{call.body[0] or call.path} has no property '{call.body[1]}'")
        return (values[call.body[1]],)

    def _get_all(self, call: Message) -> Result:
        return (self._values(call),)

    def _set(self, call: Message) -> Result:
        self._get(call)
        _, name, value = call.body
        if (call.path, name) not in self._writable:
            raise Refused("PropertyReadOnly", f"property '{name}' can only be read")
        self._writable[call.path, name](value)
        return ()


def _machine_id() -> str:
    for path in map(Path, _MACHINE_IDS):
        with contextlib.suppress(OSError):
            if found := path.read_text(encoding="ascii").strip():
                return found
    raise Refused("FileNotFound", f"this machine has no identity: neither of {', '.join(_MACHINE_IDS)} can be read")
