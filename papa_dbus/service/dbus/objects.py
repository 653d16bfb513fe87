"""The tree of objects below /org/papa/Kernel, for the standard D-Bus interfaces.

Peer, Introspectable, Properties and ObjectManager, answered from the contract's XML and from what the kernel says now.
dbus-next's own export costs a scan of every object at each signal; this costs what is asked for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from papa_dbus import names
from papa_dbus.bus import Variant

_PACKAGE = Path(__file__).parents[2]
KERNEL_INTERFACE = names.BUS_NAME
SOCKET_INTERFACE = f"{names.BUS_NAME}.Socket"
PROCESS_INTERFACE = f"{names.BUS_NAME}.Process"
_INTERFACES = {"socket": SOCKET_INTERFACE, "process": PROCESS_INTERFACE}

_HEAD = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)

_STANDARD = """
<node>
  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId"><arg type="s" name="machine_uuid" direction="out"/></method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect"><arg name="xml_data" type="s" direction="out"/></method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="props" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged">
      <arg type="s" name="interface_name"/>
      <arg type="a{sv}" name="changed_properties"/>
      <arg type="as" name="invalidated_properties"/>
    </signal>
  </interface>
  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg type="a{oa{sa{sv}}}" name="object_paths_interfaces_and_properties" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg type="o" name="object_path"/>
      <arg type="a{sa{sv}}" name="interfaces_and_properties"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg type="o" name="object_path"/>
      <arg type="as" name="interfaces"/>
    </signal>
  </interface>
  <interface name="org.freedesktop.LogControl1">
    <property name="LogLevel" type="s" access="readwrite">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
      <annotation name="org.freedesktop.systemd1.Privileged" value="true"/>
    </property>
    <property name="LogTarget" type="s" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
    </property>
    <property name="SyslogIdentifier" type="s" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
    </property>
  </interface>
</node>
"""


@dataclass(frozen=True, slots=True)
class Method:
    """A method's signatures."""

    name: str
    takes: str
    gives: str


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as the contract has it: its XML, its methods, the types of its properties."""

    name: str
    xml: str
    methods: Mapping[str, Method]
    properties: Mapping[str, str]


def _interface(element: ElementTree.Element) -> Interface:
    def signature(method: ElementTree.Element, direction: str) -> str:
        return "".join(arg.get("type", "") for arg in method.iter("arg") if arg.get("direction") == direction)

    methods = {
        name: Method(name, signature(method, "in"), signature(method, "out"))
        for method in element.iter("method")
        if (name := method.get("name", ""))
    }
    properties = {prop.get("name", ""): prop.get("type", "") for prop in element.iter("property")}
    ElementTree.indent(element, level=1)
    xml = "  " + ElementTree.tostring(element, encoding="unicode").rstrip() + "\n"
    return Interface(element.get("name", ""), xml, methods, properties)


def _read(xml: str) -> dict[str, Interface]:
    root = ElementTree.fromstring(xml)  # noqa: S314 (the package's own files)
    return {interface.name: interface for interface in map(_interface, root.iter("interface"))}


def read_contract() -> dict[str, Interface]:
    """Every interface that the kernel's objects have, by name."""
    contract = _read(_STANDARD)
    for name in (KERNEL_INTERFACE, *_INTERFACES.values()):
        contract |= _read((_PACKAGE / f"{name}.xml").read_text(encoding="utf-8"))
    return contract


#: What stands in a path as the bytes of its UTF-8: all but ASCII letters and digits, and a digit that comes first.
_ESCAPED = re.compile(r"\A[0-9]|[^A-Za-z0-9]+")


def escape(name: str) -> str:
    """A name as the last part of an object path, as sd_bus_path_encode(3) makes it."""
    if not name:
        return "_"
    return _ESCAPED.sub(lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode()), name)


def unescape(label: str) -> str:
    """The name that escape() made a label of."""
    head, *rest = label.split("_")
    try:
        data = head.encode() + b"".join(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)
        return data.decode()
    except ValueError:
        return ""  # no name is empty, so nothing has this label


def child_path(kind: str, name: str) -> str:
    """The object path of a socket or process."""
    return f"{names.OBJECT_PATH}/{kind}/{escape(name)}"


def name_at(path: str) -> str:
    """The name of the socket or process that child_path() made a path of."""
    return unescape(path.rpartition("/")[2])


class Tree:
    """Where the objects are.

    ``children`` gives the names of a kind, ``properties`` an object's values now: whole, or as a listing has them.
    ``fixed``: those that are always there, by path: the interface, and what gives the values of its properties.
    """

    def __init__(
        self,
        contract: Mapping[str, Interface],
        children: Mapping[str, Callable[[], Iterable[str]]],
        properties: Callable[[str, str, bool], Mapping[str, Any] | None],
        fixed: Mapping[str, tuple[str, Callable[[], Mapping[str, Any]]]],
    ) -> None:
        self._contract = contract
        self._children = children
        self._item = properties
        self._fixed = fixed

    def interfaces(self, path: str, whole: bool = True) -> dict[str, Mapping[str, Any]]:
        """The kernel's own interfaces at a path, with the values of their properties; none where no object is."""
        if path in self._fixed:
            interface, properties = self._fixed[path]
            return {interface: properties()}
        kind, name = self._place(path)
        values = self._item(kind, name, whole) if kind else None
        return {} if values is None else {_INTERFACES[kind]: values}

    def shown(self, path: str) -> list[str] | None:
        """The names of all interfaces at a path; None where the path leads nowhere."""
        everywhere = ["org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Introspectable"]
        if path in self._fixed:
            manages = ["org.freedesktop.DBus.ObjectManager"] if path == names.OBJECT_PATH else []
            return [*everywhere, "org.freedesktop.DBus.Properties", *manages, self._fixed[path][0]]
        kind, name = self._place(path)
        if kind:
            found = self._item(kind, name, False) is not None
            return [*everywhere, "org.freedesktop.DBus.Properties", _INTERFACES[kind]] if found else None
        return everywhere if self.nodes(path) is not None else None

    def _place(self, path: str) -> tuple[str, str]:
        """The kind and name that a path means, whether it is there or not; empty where it means none."""
        kind, _, label = path.removeprefix(f"{names.OBJECT_PATH}/").partition("/")
        if kind not in self._children or not path.startswith(f"{names.OBJECT_PATH}/") or not label:
            return "", ""
        name = unescape(label)
        return (kind, name) if escape(name) == label else ("", "")

    def nodes(self, path: str) -> Iterable[str] | None:
        """The labels of what is below a path; None where the path leads nowhere."""
        if path == names.OBJECT_PATH:
            return list(self._children)
        if path.startswith(f"{names.OBJECT_PATH}/"):
            kind = path.removeprefix(f"{names.OBJECT_PATH}/")
            if kind in self._children:
                return map(escape, self._children[kind]())
            return [] if self.interfaces(path) else None
        if path in self._fixed:
            return []
        prefix = path.rstrip("/") + "/"
        below = (fixed.removeprefix(prefix).partition("/")[0] for fixed in self._fixed if fixed.startswith(prefix))
        return list(dict.fromkeys(below)) or None

    def introspect(self, path: str) -> Iterator[str] | None:
        """Return the XML of a path, piece by piece; None if it leads nowhere."""
        nodes = self.nodes(path)
        if nodes is None:
            return None
        interfaces = (self._contract[name].xml for name in self.shown(path) or [])
        below = (f'  <node name="{node}"/>\n' for node in nodes)
        return chain([f"{_HEAD}<node>\n"], interfaces, below, ["</node>\n"])

    def variants(self, interface: str, values: Mapping[str, Any]) -> dict[str, Variant]:
        """An interface's properties as D-Bus carries them."""
        types = self._contract[interface].properties
        return {name: Variant(types[name], value) for name, value in values.items()}

    def managed(self) -> Iterator[tuple[str, dict[str, dict[str, Variant]]]]:
        """Give all objects below the kernel's, for GetManagedObjects, one by one. What goes meanwhile is left out."""
        for kind, children in self._children.items():
            for name in children():
                path = child_path(kind, name)
                own = self.interfaces(path, whole=False)
                if own:
                    yield path, {interface: self.variants(interface, values) for interface, values in own.items()}
