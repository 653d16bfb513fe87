"""Circus's arbiter, which knows where Papa is, hears of its processes' ends, and leaves them running when it goes."""

import os
import sys
from configparser import Error as ConfigError
from typing import Any
from urllib.parse import urlsplit

from circus import logger
from circus.arbiter import Arbiter
from circus.config import DEFAULT_ENDPOINT_DEALER, read_config

from papa_dbus.client.circus import leftovers, prefix
from papa_dbus.client.circus.sockets import PapaSocket
from papa_dbus.client.compat import papa

_LOOPBACK = ("127.0.0.1", "localhost")


def use_endpoint(endpoint: str) -> None:
    """Have Papa be where ``papa_endpoint`` says. Raises ValueError for what is not an endpoint.

    ``tcp://127.0.0.1:PORT`` and ``ipc:///PATH`` are the line protocol's (20202 is the bus's papad, where there is
    one), ``dbus:system``, ``dbus:session`` and ``dbus:ADDRESS`` a message bus.
    """
    kind, _, rest = endpoint.partition(":")
    if kind == "dbus" and rest:
        papa.set_default_path(rest)
    elif kind == "ipc" and rest.startswith("/"):
        papa.set_default_path("/" + rest.lstrip("/"))
    elif kind == "tcp" and urlsplit(endpoint).hostname in _LOOPBACK and (port := _port(endpoint)):
        papa.set_default_port(port)
    else:
        raise ValueError(
            f"papa_endpoint: {endpoint!r} is none of tcp://127.0.0.1:PORT, ipc:///PATH, dbus:system, dbus:session and"
            " dbus:ADDRESS"
        )


def _port(endpoint: str) -> int | None:
    """Return the port of an endpoint, None if it has none that is valid."""
    try:
        return urlsplit(endpoint).port
    except ValueError:
        return None


def _uses_papa(config: Any, section: str) -> bool:
    """Return whether a section has ``use_papa``. Raises ValueError if that is neither true nor false."""
    try:
        return bool(config.dget(section, "use_papa", False, bool))
    except ValueError as error:
        raise ValueError(f"[{section}] use_papa: {error}; write true or false") from None


def _look_for_papa() -> None:
    # Circus would go on without the watchers that it cannot make.
    try:
        with papa.Papa() as kernel:
            prefix.claim(kernel)
    except papa.Error as error:
        logger.error("use_papa: %s", error)
        sys.exit(1)


class PapaArbiter(Arbiter):  # type: ignore[misc]  # Circus has no types
    """The arbiter of circusd."""

    def __init__(self, *args: Any, papa_endpoint: str | None = None, **options: Any) -> None:
        del papa_endpoint  # Circus 0.17.2 says it again, when the watchers have been made
        super().__init__(*args, **options)
        self.reloading = False

    @classmethod
    def load_from_config(cls, config_file: str, loop: Any = None) -> Any:
        """Do as Circus does, with ``papa_endpoint`` and ``papa_prefix``. End circusd if Papa is needed and away."""
        if os.path.exists(config_file):
            config = _read(config_file)
            try:
                if endpoint := config.dget("circus", "papa_endpoint"):
                    use_endpoint(endpoint)
                prefix.describe(_endpoint(config), config_file, config.dget("circus", "papa_prefix"))
                needed = [section for section in config.sections() if _uses_papa(config, section)]
            except ValueError as error:
                sys.exit(f"papa-circusd: {error}")
            if needed:
                _look_for_papa()
        arbiter = super().load_from_config(config_file, loop)
        arbiter._papas = _of_papa(config_file)
        arbiter._read = _written(config_file)
        return arbiter

    def tell_if_unread(self) -> None:
        """Tell if the file is not the one any more that circusd has read."""
        now = _written(self.config_file)
        if now != self._read:
            logger.warning(
                "%s has changed since it was read, and a restart is as it was; circusctl reloadconfig reads it",
                ", ".join(
                    sorted(name for name in now.keys() | self._read.keys() if now.get(name) != self._read.get(name))
                ),
            )

    def initialize(self) -> None:
        """Do as Circus does. Tells what Papa has of this circusd's that its file does not say."""
        super().initialize()
        leftovers.tell(self.iter_watchers(), self.sockets)

    def reload_from_config(self, config_file: str | None = None, inside_circusd: bool = False) -> Any:
        """Do as Circus does; its watchers know that the file has changed, and not somebody's mind."""
        before, self.reloading = self.reloading, True
        try:
            done = super().reload_from_config(config_file, inside_circusd)
        except BaseException:
            self.reloading = before
            raise
        self._tell_what_waits(config_file or self.config_file)
        self._read = _written(config_file or self.config_file)
        self.loop.add_future(done, self._reloaded)
        return done

    def _reloaded(self, _: Any) -> None:
        self.reloading = False

    def _tell_what_waits(self, config_file: str) -> None:
        for name, value in _of_papa(config_file).items():
            if value != self._papas[name]:
                logger.warning("%s has changed in %s; restart circusd to have it", name, config_file)

    def manage_watchers(self) -> Any:
        """Do as Circus does, if no other command runs: None if one does, and the next look is soon enough."""
        if self._exclusive_running_command is not None or self._restarting:
            return None
        return super().manage_watchers()

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
        """Do as Circus does. What Papa has goes on listening, unless nothing of Circus's runs there any more."""
        mine = [sock.papa_name for sock in self.sockets.values() if isinstance(sock, PapaSocket)]
        ran = self._running  # one that did not come up has no say: another circusd may be there
        super().stop_controller_and_close_sockets()
        if not (prefix.claimed() and ran) or self._restarting:
            return
        try:
            with papa.Papa() as kernel:
                if kernel.list_processes(f"{prefix.prefix()}*"):
                    return
                if mine:
                    logger.info("removing the sockets from papa: nothing of Circus's runs there")
                    kernel.remove_sockets(*mine)
                prefix.give_up(kernel)
        except papa.Error as error:
            logger.warning("the sockets stay in papa: %s", error)


def _read(config_file: str) -> Any:
    config, _ = read_config(config_file)
    said = dict(config.items("env")) if config.has_section("env") else {}
    config.set_env({**os.environ, **said})
    return config


def _written(config_file: str) -> dict[str, float]:
    """Return when each file of a configuration was written, as far as they can be read."""
    try:
        _, files = read_config(config_file)
        return {name: os.stat(name).st_mtime for name in files}
    except (OSError, ConfigError):
        return {}


def _of_papa(config_file: str) -> dict[str, str | None]:
    config = _read(config_file)
    return {name: config.dget("circus", name) for name in ("papa_endpoint", "papa_prefix")}


def _endpoint(config: Any) -> str:
    return str(config.dget("circus", "endpoint", DEFAULT_ENDPOINT_DEALER))
