"""A program of GLib's: uses a process and a socket by their objects alone, and prints what comes.

It finds them by GDBusObjectManagerClient, and knows their methods by the interfaces' files, as programs do that are
made with gdbus-codegen. Runs with Debian's Python. Its arguments are the address of a bus, the folder with the files
and how many seconds it may take.
"""

import os
import signal
import socket
import sys
from pathlib import Path

from gi.repository import Gio, GLib

NAME, PATH = "org.papa.Kernel", "/org/papa/Kernel"
_, address, folder, seconds = sys.argv
loop = GLib.MainLoop()
interfaces = {
    info.name: info
    for file in sorted(Path(folder).glob("org.papa.Kernel*.xml"))
    for info in Gio.DBusNodeInfo.new_for_xml(file.read_text()).interfaces
}


def tell(*words: object) -> None:
    """Print one line at once."""
    print(*words, flush=True)


def proxy_of(path: str, interface: str) -> Gio.DBusProxy:
    """An object's interface, whose calls are checked against its file."""
    proxy = manager.get_interface(path, interface)
    proxy.set_interface_info(interfaces[interface])
    return proxy


def call(proxy: Gio.DBusProxy, method: str, arguments: "GLib.Variant | None" = None) -> object:
    """Call a method that gives no descriptor."""
    return proxy.call_sync(method, arguments, Gio.DBusCallFlags.NONE, -1, None).unpack()


def descriptor(proxy: Gio.DBusProxy, method: str) -> int:
    """Call a method that gives a descriptor."""
    reply, fds = proxy.call_with_unix_fd_list_sync(method, None, Gio.DBusCallFlags.NONE, -1, None, None)
    return int(fds.get(reply.unpack()[0]))


def on_signal(_: object, sender: str, path: str, interface: str, member: str, body: GLib.Variant) -> None:
    """Print output, and acknowledge all of it at the end."""
    if member == "Output":
        tell("output", *(bytes(data).decode().strip() for _, _, _, data in body.unpack()[2]))
        pidfd = descriptor(web, "OpenPidfd")
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)
    elif member == "Exited":
        watch, process, seq, _, code, known = body.unpack()
        tell("exited", process, code, known)
        connection.call_sync(
            NAME, PATH, NAME, "Acknowledge", GLib.Variant("(ta{st})", (watch, {process: seq})), None,
            Gio.DBusCallFlags.NONE, -1, None,
        )  # fmt: skip


def removed(_: Gio.DBusObjectManager, item: Gio.DBusObject) -> None:
    """An object has gone."""
    tell("removed", item.get_object_path())
    if not manager.get_objects():
        loop.quit()


flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
manager = Gio.DBusObjectManagerClient.new_sync(
    connection, Gio.DBusObjectManagerClientFlags.NONE, NAME, PATH, None, None, None
)
manager.connect("object-removed", removed)
connection.signal_subscribe(NAME, NAME, None, PATH, None, Gio.DBusSignalFlags.NONE, on_signal)
GLib.timeout_add_seconds(int(seconds), loop.quit)

sock = proxy_of(f"{PATH}/socket/s", f"{NAME}.Socket")
with socket.socket(fileno=descriptor(sock, "Open")) as opened:
    assert opened.getsockname()[1] == sock.get_cached_property("Port").unpack()
tell("socket", call(sock, "Remove"))

web = proxy_of(f"{PATH}/process/web", f"{NAME}.Process")
told = {name: web.get_cached_property(name) for name in web.get_cached_property_names()}
assert set(told) == {each.name for each in interfaces[f"{NAME}.Process"].properties}, told.keys()
tell("process", told["State"].unpack(), told["Overflow"].unpack(), told["ExitTimestamp"].unpack())
call(web, "Watch", GLib.Variant("(a{sv})", ({"window": GLib.Variant("t", 4096)},)))
loop.run()
