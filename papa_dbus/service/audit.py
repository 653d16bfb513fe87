"""The audit trail: who had what made or removed, one record in the journal for each.

The kernel says what it did (``record``), for the caller that a front end has named. Never recorded: values,
environments and arguments, any of which may be a secret; of a command there is the program's path alone.
"""

import logging
from typing import Final

from papa_dbus.service.caller import Caller, acting_caller

log = logging.getLogger(__name__)


def log_always() -> None:
    """Write all of it, however little papad is told to log of other things."""
    log.setLevel(logging.INFO)


_FIELDS: Final = {"socket": "PAPA_SOCKET", "value": "PAPA_VALUE", "process": "PAPA_PROCESS", "kernel": "PAPA_KERNEL"}


def record(action: str, kind: str, name: str, detail: str = "") -> None:
    """Record that an item was ``made`` or ``removed``, papad ``ended``, or something of papad's own was ``changed``."""
    caller = acting_caller()
    log.info(
        "%s %s%s%s",
        name if kind == "kernel" else f"{kind} '{name}'",
        action,
        "" if caller is None else f" by {caller}",
        f": {detail}" if detail else "",
        extra={"PAPA_ACTION": action, _FIELDS[kind]: name, **_fields(caller)},
    )


def _fields(caller: Caller | None) -> dict[str, str]:
    if caller is None:
        return {}
    fields = {"PAPA_CALLER": caller.at, "PAPA_CALLER_UID": str(caller.uid)}
    return fields if caller.pid is None else {**fields, "PAPA_CALLER_PID": str(caller.pid)}
