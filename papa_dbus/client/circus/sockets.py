"""A socket section with ``use_papa``: Papa has it, so it goes on listening while circusd is away."""

import socket
from typing import Any

from circus import logger
from circus.sockets import _FAMILY, _TYPE
from circus.util import to_bool

from papa_dbus.client import papa

#: What Papa's names of Circus's items begin with.
PREFIX = "circus."
_TOLD = ("host", "port", "backlog", "path", "umask", "interface")


class PapaSocket:
    """What Circus wants of a socket, for one that Papa has."""

    use_papa = True
    replace = True

    so_reuseport = False  # until it is known: Circus binds no socket that has it
    _papas_number = -1

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.papa_name = PREFIX + name.lower()
        self._options = options
        self._cfg: dict[str, Any] = {}
        self._mine: socket.socket | None = None

    def bind_and_listen(self) -> None:
        """Have Papa do it, or take what it has. Raises OSError: circusd does not start without its sockets."""
        try:
            with papa.Papa() as kernel:
                made = self._make(kernel)
                self._mine = _duplicate(kernel, self.papa_name)
        except papa.Error as error:
            logger.error("%s", error)
            raise OSError(f"papa: {error}") from error
        self.family, self.socktype = made["family"], made["type"]
        self.host, self.port, self.path = made.get("host"), made.get("port"), made.get("path")
        self.backlog, self.umask, self.interface = made.get("backlog"), made.get("umask"), made.get("interface")
        self.so_reuseport = "reuseport" in made
        self.is_unix = self.path is not None
        self._papas_number = made["fileno"]

    def _make(self, kernel: papa.Papa) -> dict[str, Any]:
        try:
            return kernel.make_socket(self.papa_name, **self._options)
        except papa.Error as error:
            found = kernel.list_sockets(self.papa_name)
            if not found:
                raise
            self._warn(self._options, found[self.papa_name], error)
            return found[self.papa_name]

    def _warn(self, options: dict[str, Any], made: dict[str, Any], error: Exception) -> None:
        differences = [
            f"{key} is {made.get(key)}, not {options[key]}"
            for key in _TOLD
            if options.get(key) is not None and str(made.get(key)) != str(options[key])
        ]
        logger.warning(
            'Socket "%s" is in papa already, with other options (%s), and is used as it is; to have it made anew:'
            " papactl socket remove %s",
            self.name, ", ".join(differences) or error, self.papa_name,
        )  # fmt: skip

    @staticmethod
    def is_meant(config: dict[str, Any]) -> bool:
        """Whether a socket section asks for Papa."""
        return bool(to_bool(config.get("use_papa")))

    @classmethod
    def load_from_config(cls, config: dict[str, Any]) -> "PapaSocket":
        """Make the socket that a section describes."""
        path = config.get("path")
        options = {
            "family": _FAMILY[config.get("family", "AF_INET").upper()],
            "socket_type": _TYPE[config.get("type", "SOCK_STREAM").upper()],
            "backlog": int(config.get("backlog", 2048)),
        }
        if path:
            # Octal, as everywhere; Circus itself takes the text for a decimal number. Its default is this number.
            umask = int(config["umask"], 8) if "umask" in config else 0o010
            options |= {"family": socket.AF_UNIX, "path": path, "umask": umask}
        else:
            options |= {
                "host": config.get("host", "localhost"),
                "port": int(config.get("port", "8080")),
                "interface": config.get("interface"),
                "reuseport": to_bool(config.get("so_reuseport")),
            }
        made = cls(config["name"], options)
        made._cfg = config.copy()  # Circus compares it with a changed file's
        return made

    def fileno(self) -> int:
        """A descriptor of it in this process (for Circus's on_demand); over the line protocol, its number in Papa."""
        return self._mine.fileno() if self._mine is not None else self._papas_number

    @property
    def location(self) -> str:
        """Where it listens."""
        return repr(self.path) if self.is_unix else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"socket {self.name!r} at {self.location}"

    def close(self) -> None:
        """Let go of it. In Papa it goes on listening."""
        if self._mine is not None:
            self._mine.close()
            self._mine = None


def _duplicate(kernel: papa.Papa, name: str) -> socket.socket | None:
    try:
        return kernel.open_socket(name)
    except papa.Error:
        return None
