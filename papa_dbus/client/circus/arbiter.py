"""Circus's arbiter, which knows where Papa is, hears of its processes' ends, and leaves them running when it goes."""

import os
import sys
from typing import Any
from urllib.parse import urlsplit

from circus import logger
from circus.arbiter import Arbiter
from circus.config import read_config

from papa_dbus.client import papa
from papa_dbus.client.circus.sockets import PREFIX, PapaSocket

_LOOPBACK = ("127.0.0.1", "localhost")


def use_endpoint(endpoint: str) -> None:
    """Have Papa be where ``papa_endpoint`` says. Raises ValueError for what is no endpoint.

    ``tcp://127.0.0.1:PORT`` and ``ipc:///PATH`` are the line protocol's (20202 is the bus's kernel, where there is
    one), ``dbus:system``, ``dbus:session`` and ``dbus:ADDRESS`` a message bus.
    """
    kind, _, rest = endpoint.partition(":")
    if kind == "dbus" and rest:
        papa.set_default_path(rest)
    elif kind == "ipc" and rest.startswith("/"):
        papa.set_default_path("/" + rest.lstrip("/"))
    elif kind == "tcp" and urlsplit(endpoint).hostname in _LOOPBACK and (port := urlsplit(endpoint).port):
        papa.set_default_port(port)
    else:
        raise ValueError(
            f"papa_endpoint: {endpoint!r} is none of tcp://127.0.0.1:PORT, ipc:///PATH, dbus:system, dbus:session and"
            " dbus:ADDRESS"
        )


def _look_for_papa() -> None:
    # Circus would go on without the watchers that it cannot make.
    try:
        papa.Papa().close()
    except papa.Error as error:
        logger.error("use_papa: %s", error)
        sys.exit(1)


class PapaArbiter(Arbiter):  # type: ignore[misc]  # Circus has no types
    """The arbiter of circusd."""

    def __init__(self, *args: Any, papa_endpoint: str | None = None, **options: Any) -> None:
        del papa_endpoint  # Circus 0.17.2 says it again, when the watchers have been made
        super().__init__(*args, **options)

    @classmethod
    def load_from_config(cls, config_file: str, loop: Any = None) -> Any:
        """As Circus does, with ``papa_endpoint``. Ends circusd where Papa is needed and is not there."""
        if os.path.exists(config_file):
            config, _ = read_config(config_file)
            config.set_env(dict(os.environ))
            if endpoint := config.dget("circus", "papa_endpoint"):
                try:
                    use_endpoint(endpoint)
                except ValueError as error:
                    sys.exit(f"papa-circusd: {error}")
            if any(config.dget(section, "use_papa", False, bool) for section in config.sections()):
                _look_for_papa()
        return super().load_from_config(config_file, loop)

    def reap_processes(self) -> None:
        """Reap Circus's children, and Papa's that have ended."""
        super().reap_processes()
        for watcher in self.iter_watchers():
            if getattr(watcher, "use_papa", False) and not watcher.is_stopped():
                watcher.reap_processes()

    def stop(self, *args: Any, **options: Any) -> Any:
        """Stop what is not in Papa, and go."""
        self._leave(True)
        try:
            return super().stop(*args, **options)
        except Exception:
            self._leave(False)  # another command runs
            raise

    def _emergency_stop(self) -> Any:
        self._leave(True)  # circusd's trouble is not its processes'
        return super()._emergency_stop()

    def _leave(self, leave: bool) -> None:
        for watcher in self.iter_watchers():
            watcher.leaving = leave

    def stop_controller_and_close_sockets(self) -> None:
        """As Circus does. What Papa has goes on listening, unless nothing of Circus's runs there any more."""
        mine = [sock.papa_name for sock in self.sockets.values() if isinstance(sock, PapaSocket)]
        ran = self._running  # one that did not come up has no say: another circusd may be there
        super().stop_controller_and_close_sockets()
        if not (mine and ran) or self._restarting:
            return
        try:
            with papa.Papa() as kernel:
                if not kernel.list_processes(f"{PREFIX}*"):
                    logger.info("removing the sockets from papa: nothing of Circus's runs there")
                    kernel.remove_sockets(*mine)
        except papa.Error as error:
            logger.warning("the sockets stay in papa: %s", error)
