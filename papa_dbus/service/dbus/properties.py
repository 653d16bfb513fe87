"""The properties of papad's objects, as the kernel says they are now."""

from typing import Any

from papa_dbus import __version__, names
from papa_dbus.service.clock import now
from papa_dbus.service.dbus import conversion
from papa_dbus.service.kernel.kernel import Kernel


class Properties:
    """Properties by name, in the contract's types."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._started = now()

    def of_item(self, kind: str, name: str, whole: bool) -> dict[str, Any] | None:
        """Return those of a socket or a process, None if it is not there; arguments are cut short unless ``whole``."""
        if kind == "socket":
            return next(
                (conversion.socket_properties(i) for i in self._kernel.each_socket([name]) if i.name == name), None
            )
        found = next((info for info in self._kernel.each_process([name]) if info.name == name), None)
        return None if found is None else conversion.process_properties(found if whole else found.short())

    def of_kernel(self) -> dict[str, Any]:
        """Return the versions, the time of the start in µs of CLOCK_REALTIME, and the counts."""
        kernel = self._kernel
        return {
            "Version": __version__,
            "ApiVersion": names.API_VERSION,
            "Features": list(names.FEATURES),
            "Started": self._started,
            "SocketCount": kernel.socket_count,
            "ValueCount": kernel.value_count,
            "ProcessCount": kernel.process_count,
            "BufferedBytes": kernel.buffered_bytes,
        }
