"""A bus that is reached through a program: its stdin and stdout are the connection. So systemctl -H reaches other
machines, with ssh and systemd's own bus bridge (systemd-stdio-bridge(1)).

Such an address is a `unixexec:` address of the D-Bus specification.
"""

import contextlib
import shlex
import socket
import subprocess
from collections.abc import Mapping
from urllib.parse import quote

from papa_dbus.bus.address import parse

TRANSPORT = "unixexec"
#: Seconds for a connection, whose maker may be asked for a password: sd-bus's BUS_AUTH_TIMEOUT.
CONNECT_TIMEOUT = 90.0
_FAREWELL = 2.0

#: What the bridge is told for each of our words for a bus. The system bus is what it takes by itself.
_BRIDGE_OPTIONS = {"system": [], "session": ["--user"]}


def ssh_address(host: str, bus: str) -> str:
    """Return the address of a bus (``system``, ``session`` or an address) on another machine, by ssh.

    ``host`` is what ssh(1) takes for a destination: [user@]host, an alias of ssh_config(5), or ssh://user@host:port.
    """
    bridge = ["systemd-stdio-bridge", *_BRIDGE_OPTIONS.get(bus, [f"--bus-path={bus}"])]
    return _address(["ssh", "-xT", "--", host, *bridge])


def _address(words: list[str]) -> str:
    options = [f"path={_escape(words[0])}", *(f"argv{n}={_escape(word)}" for n, word in enumerate(words[1:], 1))]
    return f"{TRANSPORT}:{','.join(options)}"


def _escape(word: str) -> str:
    return quote(word, safe="-_/.").replace("~", "%7E")


def is_program(address: str) -> bool:
    """Return whether the address names a program. Descriptors cannot be passed through one."""
    return address.startswith(f"{TRANSPORT}:")


def command_of(address: str) -> str:
    """Return the address's command line, for messages."""
    [(_, options), *_] = parse(address)
    return shlex.join(words_of(options))


def words_of(options: Mapping[str, str]) -> list[str]:
    """Return the command line that an address's options (D-Bus specification, "Executed Subprocesses") stand for."""
    arguments: list[str] = []
    while (word := options.get(f"argv{len(arguments) + 1}")) is not None:
        arguments.append(word)
    return [options["path"], *arguments]


class Program:
    """The program that runs, and our end of its stdin and stdout."""

    def __init__(self, words: list[str]) -> None:
        """Start it. Raises OSError."""
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        try:
            with theirs:
                self._process = subprocess.Popen(words, stdin=theirs.fileno(), stdout=theirs.fileno())
        except OSError as error:
            self.socket.close()
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(error.errno, f"{words[0]} is not installed here") from None
            raise

    def end(self) -> None:
        """End it, so that a terminal that it asked for a password is as it was, and wait for its end."""
        self.socket.close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_FAREWELL)
            return
        self._process.kill()
        self._process.wait()
