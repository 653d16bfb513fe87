"""A socket section with ``use_papa``: Papa has it, so it goes on listening while circusd is away."""

import os
import socket
from typing import Any

from circus import logger
from circus.sockets import _FAMILY, _TYPE
from circus.util import to_bool

from papa_dbus.client.circus.prefix import claim, prefix
from papa_dbus.client.compat import papa

_TOLD = ("host", "port", "backlog", "path", "umask", "interface")


class PapaSocket:
    """What Circus wants of a socket, for one that Papa has."""

    use_papa = True
    replace = True

    so_reuseport = False  # until it is known: Circus binds no socket that has it
    _papas_number = -1

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.papa_name = prefix() + name.lower()
        self._options = options
        self._cfg: dict[str, Any] = {}
        self._mine: socket.socket | None = None
        self._idle: int | None = None
        self._told = False

    def bind_and_listen(self) -> None:
        """Have Papa do it, or take what it has. Raises OSError: circusd does not start without its sockets."""
        try:
            with papa.Papa() as kernel:
                claim(kernel)
                made = self._make(kernel)
                self._mine = _duplicate(kernel, self.papa_name)
        except papa.Error as error:
            told = str(error).replace("option 'reuseport'", "option 'so_reuseport'")  # as the section has it
            logger.error("%s", told)
            raise OSError(f"papa: {told}") from error
        self.family, self.socktype = made["family"], made["type"]
        self.host, self.port, self.path = made.get("host"), made.get("port"), made.get("path")
        self.backlog, self.umask, self.interface = made.get("backlog"), made.get("umask"), made.get("interface")
        self.so_reuseport = "reuseport" in made
        self.is_unix = self.path is not None
        self._papas_number = made["fileno"]
        self.set_blocking()
        if self.so_reuseport and self._idle is None:
            self._idle = os.eventfd(0)

    def set_blocking(self) -> None:
        """Do as Circus does: whoever has the socket has it so (fcntl(2), O_NONBLOCK)."""
        blocking = to_bool(self._cfg.get("blocking"))
        if self._mine is not None and not self.so_reuseport:
            self._mine.setblocking(blocking)
            self._mine.set_inheritable(True)  # for watchers without use_papa
        elif not blocking and not self._told:
            self._told = True
            logger.warning(
                'Socket "%s": blocking = false has no effect with use_papa and %s; accept() waits',
                self.name, "so_reuseport" if self.so_reuseport else "a papa_endpoint that is no message bus",
            )  # fmt: skip

    @property
    def shared(self) -> bool:
        """Return whether circusd has it, too: to see requests, and for its own children."""
        return self._mine is not None and not self.so_reuseport

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
        """Return whether a socket section asks for Papa."""
        return bool(to_bool(config.get("use_papa")))

    @classmethod
    def load_from_config(cls, config: dict[str, Any]) -> "PapaSocket":
        """Make the socket that a section describes."""
        path = config.get("path")
        if "proto" in config:
            logger.warning('Socket "%s": proto has no effect with use_papa', config["name"])
        options = {
            "family": _FAMILY[config.get("family", "AF_INET").upper()],
            "socket_type": _TYPE[config.get("type", "SOCK_STREAM").upper()],
            "backlog": int(config.get("backlog", 2048)),
        }
        if path:
            options |= {"family": socket.AF_UNIX, "path": path, "umask": _umask(config)}
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
        """Return a descriptor of it in this process, for Circus's on_demand; over the line protocol its number in Papa.

        With so_reuseport the processes listen, not this one: Circus is to see no request there.
        """
        if self._idle is not None:
            return self._idle
        return self._mine.fileno() if self._mine is not None else self._papas_number

    @property
    def location(self) -> str:
        """Return where it listens."""
        return repr(self.path) if self.is_unix else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"socket {self.name!r} at {self.location}"

    def close(self) -> None:
        """Let go of it. In Papa it goes on listening."""
        if self._mine is not None:
            self._mine.close()
            self._mine = None
        if self._idle is not None:
            os.close(self._idle)
            self._idle = None


def _umask(config: dict[str, Any]) -> int:
    """Return the number that Circus takes a socket's umask for: it reads it as a decimal one."""
    text = str(config.get("umask", "8"))
    number = int(text) & 0o777
    if "umask" in config and oct(number) != f"0o{text.lstrip('0') or '0'}":
        logger.warning(
            'Socket "%s": umask %s is a decimal number to Circus, octal %o; for an octal %s write %s',
            config["name"], text, number, text, _decimal(text),
        )  # fmt: skip
    return number


def _decimal(text: str) -> str:
    try:
        return str(int(text, 8))
    except ValueError:
        return "its decimal value"


def _duplicate(kernel: papa.Papa, name: str) -> socket.socket | None:
    try:
        return kernel.open_socket(name)
    except papa.Error:
        return None
