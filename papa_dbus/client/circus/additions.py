"""Puts the subclasses where Circus looks its own classes up."""

from collections.abc import Callable
from typing import Any

import circus.arbiter
import circus.circusd
import circus.commands.addwatcher
import circus.commands.set
from circus.exc import MessageError
from circus.sockets import CircusSocket

from papa_dbus.client.circus.arbiter import PapaArbiter
from papa_dbus.client.circus.controller import PapaController
from papa_dbus.client.circus.sockets import PapaSocket
from papa_dbus.client.circus.watcher import PapaWatcher


class _Sockets(CircusSocket):  # type: ignore[misc]  # Circus has no types
    """Circus's sockets, and Papa's where a section says so."""

    use_papa = False  # Circus 0.18 and up do not say it

    @classmethod
    def load_from_config(cls, config: dict[str, Any]) -> Any:
        """Make the socket that a section describes."""
        if PapaSocket.is_meant(config):
            return PapaSocket.load_from_config(config)
        return super().load_from_config(config)


def _with_use_papa(validate: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    """Wrap Circus's check: 0.18 and up do not know ``use_papa`` as an option of ``add``."""

    def validate_option(key: str, val: Any) -> None:
        if key != "use_papa":
            validate(key, val)
        elif not isinstance(val, bool):
            raise MessageError(f"{key!r} isn't a valid boolean")

    return validate_option


def install() -> None:
    """Have Circus use Papa where it is told to."""
    circus.arbiter.Watcher = PapaWatcher
    circus.arbiter.CircusSocket = _Sockets
    circus.arbiter.Controller = PapaController
    circus.arbiter.Arbiter = circus.circusd.Arbiter = PapaArbiter
    for command in (circus.commands.addwatcher, circus.commands.set):
        command.validate_option = _with_use_papa(command.validate_option)
