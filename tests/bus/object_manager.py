"""A program of GLib's: follows papad's objects by GDBusObjectManagerClient, and prints what it is told.

Runs with Debian's Python, which has GLib. Its arguments are the address of a bus and how many seconds it may take.
"""

import sys

from gi.repository import Gio, GLib

NAME, PATH = "org.papa.Kernel", "/org/papa/Kernel"
loop = GLib.MainLoop()


def tell(*words: object) -> None:
    """Print one line at once."""
    print(*words, flush=True)


def state(proxy: Gio.DBusProxy) -> str:
    """A process's state, as the proxy has it without asking."""
    value = proxy.get_cached_property("State")
    return value.get_string() if value is not None else "-"


def added(_: Gio.DBusObjectManager, item: Gio.DBusObject) -> None:
    """An object is there."""
    for proxy in item.get_interfaces():
        tell("added", item.get_object_path(), proxy.get_interface_name(), state(proxy))


def removed(_: Gio.DBusObjectManager, item: Gio.DBusObject) -> None:
    """An object has gone."""
    tell("removed", item.get_object_path())


def changed(_: Gio.DBusObjectManager, item: Gio.DBusObject, proxy: Gio.DBusProxy, *__: object) -> None:
    """Some properties have changed."""
    tell("changed", item.get_object_path(), state(proxy), proxy.get_cached_property("ExitCode").unpack())


flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
connection = Gio.DBusConnection.new_for_address_sync(sys.argv[1], flags, None, None)
manager = Gio.DBusObjectManagerClient.new_sync(
    connection, Gio.DBusObjectManagerClientFlags.NONE, NAME, PATH, None, None, None
)
manager.connect("object-added", added)
manager.connect("object-removed", removed)
manager.connect("interface-proxy-properties-changed", changed)
for known in manager.get_objects():
    added(manager, known)
tell("ready", manager.get_name_owner())
GLib.timeout_add_seconds(int(sys.argv[2]), loop.quit)
GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, lambda *_: loop.quit())
loop.run()
