"""org.freedesktop.LogControl1: how much papad logs, for `systemctl service-log-level papa debug`."""

import logging
from typing import Any, Final

from papa_dbus.bus import Variant
from papa_dbus.errors import InvalidArgs
from papa_dbus.service import audit
from papa_dbus.service.systemd.journal_handler import LOG_IDENTIFIER, log_target

#: Where every program has it (org.freedesktop.LogControl1(5)).
PATH: Final = "/org/freedesktop/LogControl1"
INTERFACE: Final = "org.freedesktop.LogControl1"
#: The levels of syslog(3) as the logging module has them, and three that it has not.
_LEVELS: Final = {
    "emerg": 70, "alert": 60, "crit": logging.CRITICAL, "err": logging.ERROR, "warning": logging.WARNING,
    "notice": 25, "info": logging.INFO, "debug": logging.DEBUG,
}  # fmt: skip


def properties() -> dict[str, Any]:
    """Return the level, the target and the identifier as they are now."""
    level = logging.getLogger().level
    return {
        "LogLevel": next(name for name, least in _LEVELS.items() if level >= least or name == "debug"),
        "LogTarget": log_target(),
        "SyslogIdentifier": LOG_IDENTIFIER,
    }


def set_level(value: Variant) -> None:
    """Log what is at least as urgent, until papad ends. The audit trail is not subject to it. Raises InvalidArgs."""
    if value.signature != "s" or value.value not in _LEVELS:
        raise InvalidArgs(f"property 'LogLevel': {value.value!r} is none of {', '.join(_LEVELS)}")
    audit.record("changed", "kernel", "papad's log level", value.value)
    logging.getLogger().setLevel(_LEVELS[value.value])


#: What may be set, by path and name.
WRITABLE: Final = {(PATH, "LogLevel"): set_level}
