"""Errors of the contract: one class for each kind, and the one table to and from their names on the bus.

The client raises the class that papad raised.
"""


class PapaError(RuntimeError):
    """Base of all errors. The message says what was wrong, in the words of the one who asked."""

    code = "internal"


class InvalidArgs(PapaError):
    """An option or argument is unknown, has the wrong type or is out of range."""

    code = "invalid-args"


class AccessDenied(PapaError):
    """The caller may not do this."""

    code = "access-denied"


class NotFound(PapaError):
    """No item matches."""

    code = "not-found"


class Exists(PapaError):
    """The name is taken, by an item with other options or by output that nobody has read."""

    code = "exists"


class Bind(PapaError):
    """A socket cannot be bound."""

    code = "bind"


class Spawn(PapaError):
    """A process cannot be started."""

    code = "spawn"


class Limit(PapaError):
    """A limit of papad was reached."""

    code = "limit"


class NotSupported(PapaError):
    """This cannot be had on this machine, or over the connection that there is."""

    code = "not-supported"


class Unreachable(PapaError):
    """papad or its message bus is not there: nothing was done."""

    code = "unreachable"


class BusFull(Unreachable):
    """The message bus takes no more of such calls at the moment: this one was not delivered to papad."""

    code = "bus-full"


class NotStarted(Unreachable):
    """papad does not run, and systemd refuses to start it: waiting does not mend that."""

    code = "not-started"


class NotPapas(PapaError):
    """Another user listens at papad's port or socket: nothing was said to it, and nothing it said was believed."""

    code = "not-papas"


class NoReply(PapaError):
    """papad or its message bus went away before it answered, or took too long: it is not known what was done."""

    code = "no-reply"


class Late(NoReply):
    """There was no answer in time, and nothing says that the one who was asked has gone: it may still do it."""


#: The contract's error names, org.papa.Kernel.xml; what is not listed is an internal error.
DBUS_NAMES: dict[type[PapaError], str] = {
    InvalidArgs: "org.freedesktop.DBus.Error.InvalidArgs",
    AccessDenied: "org.freedesktop.DBus.Error.AccessDenied",
    NotFound: "org.papa.Error.NotFound",
    Exists: "org.papa.Error.Exists",
    Bind: "org.papa.Error.Bind",
    Spawn: "org.papa.Error.Spawn",
    Limit: "org.papa.Error.Limit",
    NotSupported: "org.freedesktop.DBus.Error.NotSupported",
    PapaError: "org.freedesktop.DBus.Error.Failed",
}
_CLASSES = {name: cls for cls, name in DBUS_NAMES.items()}
#: What the bus says in papad's place: that it has gone, cannot be started, or that too many calls are under way.
_FROM_THE_BUS: dict[str, type[PapaError]] = {
    "org.freedesktop.DBus.Error.NoReply": NoReply,
    "org.freedesktop.DBus.Error.Disconnected": NoReply,
    "org.freedesktop.DBus.Error.Timeout": NoReply,
    "org.freedesktop.DBus.Error.LimitsExceeded": BusFull,
    "org.freedesktop.DBus.Error.UnknownMethod": NotSupported,  # papad is older than what was asked
    "org.freedesktop.DBus.Error.TimedOut": Unreachable,  # of its start
    "org.freedesktop.DBus.Error.ServiceUnknown": Unreachable,
    "org.freedesktop.DBus.Error.NameHasNoOwner": Unreachable,
}
#: How one becomes a member of the group of those who are served.
JOIN = "use sudo, or have an administrator run 'usermod -aG papa USER' and log in again"
_NOT_STARTED = ("org.freedesktop.DBus.Error.Spawn.", "org.freedesktop.systemd1.")
_UNMASK = "run 'systemctl unmask papa', with --runtime or --user if it was masked so"
_RELOAD = "install what is missing, then run 'systemctl daemon-reload'"
_MEND = "mend what 'systemctl status papa' shows, then run 'systemctl daemon-reload'"
#: What systemd refuses for good, and what to do, as dbus-daemon passes it on; what is not listed may pass.
_REFUSED = {
    "org.freedesktop.systemd1.UnitMasked": _UNMASK,
    "org.freedesktop.systemd1.NoSuchUnit": _RELOAD,
    "org.freedesktop.systemd1.LoadFailed": _MEND,
    "org.freedesktop.systemd1.BadUnitSetting": _MEND,
    "org.freedesktop.systemd1.OnlyByDependency": _MEND,
}
#: The same from dbus-broker, which has one name for all refusals and says in words which.
_REFUSED_BY_BROKER = {
    "activation request failed: unit is masked": _UNMASK,
    "activation request failed: unknown unit": _RELOAD,
    "activation request failed: unit is invalid": _MEND,
}


def dbus_name(error: PapaError) -> str:
    """The error's name on the bus."""
    return DBUS_NAMES.get(type(error), DBUS_NAMES[PapaError])


def from_dbus(name: str, message: str, from_papad: bool = True) -> PapaError:
    """The error that a name on the bus stands for, of a call of papad's or else of another program's."""
    if from_papad and (remedy := _remedy(name, message)) is not None:
        return NotStarted(f"systemd does not start papad: {message.removesuffix('.')}; {remedy}")
    if name.startswith(_NOT_STARTED):
        return Unreachable(message)
    return (_CLASSES.get(name) or _FROM_THE_BUS.get(name, PapaError))(message)


def _remedy(name: str, message: str) -> str | None:
    """Return what mends a start that systemd refuses; None if it is another error, or one that may pass."""
    if name == "org.freedesktop.DBus.Error.NameHasNoOwner":
        return next((remedy for said, remedy in _REFUSED_BY_BROKER.items() if said in message), None)
    return _REFUSED.get(name)
